//! The checker of structure: walks the tree along the schema that is published, collects every fault, and gives the plain values of
//! what is right. What is wrong is left out, so that the rest can still be checked for meaning.

mod scalar;
mod words;

use super::fault::{Code, Fault};
use super::leaf;
use super::place::Places;
use super::source::SourceFile;
use super::suggest::{did_you_mean, nearest};
use super::tree::{Data, Entry, Node, Path};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use words::expected;

pub(crate) struct Structure<'a> {
    schema: &'a Value,
    places: Places<'a>,
    sources: &'a [SourceFile],
    pub(crate) faults: Vec<Fault>,
    /// Where the faults are.
    pub(crate) broken: BTreeSet<Path>,
}

impl<'a> Structure<'a> {
    pub(crate) fn new(
        schema: &'a Value,
        tree: &'a Node,
        sources: &'a [SourceFile],
        kinds: &'a [&'static str],
    ) -> Self {
        let places = Places { tree, kinds };
        Self { schema, places, sources, faults: Vec::new(), broken: BTreeSet::new() }
    }

    /// The plain value of the whole tree, as far as it is right.
    pub(crate) fn check(&mut self) -> Option<Value> {
        self.walk(self.schema, self.places.tree, &Path::default())
    }

    fn push(&mut self, path: &Path, fault: Fault) {
        self.broken.insert(path.clone());
        self.faults.push(fault);
    }

    fn walk(&mut self, schema: &'a Value, node: &Node, path: &Path) -> Option<Value> {
        let schema = self.resolve(schema);
        let choices = self.alternatives(schema);
        if !choices.is_empty() {
            return self.choose(&choices, node, path);
        }
        if !admits(schema, node) {
            self.wrong_type(&[schema], node, path);
            return None;
        }
        match &node.data {
            Data::Map(entries) => self.map(schema, node, entries, path),
            Data::List(items) => self.list(schema, node, items, path),
            Data::Null => Some(Value::Null),
            Data::Bool(_) | Data::Number(..) | Data::Text(_) => self.scalar(schema, node, path),
        }
    }

    /// Follows references.
    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        loop {
            let only =
                schema.get("allOf").and_then(Value::as_array).filter(|all| all.len() == 1).map(|all| &all[0]);
            let target = schema
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| self.schema.pointer(r.trim_start_matches('#')));
            match target.or(only) {
                Some(next) => schema = next,
                None => return schema,
            }
        }
    }

    /// What a value may be one of; empty where the schema says one thing. Members that only say which keys go together do not count:
    /// the checkers of meaning say that better.
    fn alternatives(&self, schema: &'a Value) -> Vec<&'a Value> {
        let members = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        let members = members.into_iter().flatten().map(|member| self.resolve(member));
        let typed = members.filter(|member| {
            ["type", "const", "enum", "anyOf", "oneOf"].iter().any(|key| member.get(key).is_some())
        });
        typed
            .flat_map(|member| {
                let below = self.alternatives(member);
                if below.is_empty() { vec![member] } else { below }
            })
            .collect()
    }

    fn choose(&mut self, choices: &[&'a Value], node: &Node, path: &Path) -> Option<Value> {
        let fitting: Vec<&Value> = choices.iter().copied().filter(|choice| admits(choice, node)).collect();
        match &node.data {
            Data::Map(entries) if fitting.len() > 1 => self.choose_by_key(&fitting, node, entries, path),
            Data::Text(text) => self.choose_text(&fitting, choices, text, node, path),
            _ => match fitting.as_slice() {
                [one, ..] => self.walk(one, node, path),
                [] => {
                    self.wrong_type(choices, node, path);
                    None
                }
            },
        }
    }

    fn choose_text(
        &mut self,
        fitting: &[&'a Value],
        all: &[&'a Value],
        text: &str,
        node: &Node,
        path: &Path,
    ) -> Option<Value> {
        let words: Vec<&str> = fitting.iter().flat_map(|choice| constants(choice)).collect();
        if words.contains(&text) {
            return Some(Value::String(text.to_owned()));
        }
        let free = fitting.iter().find(|choice| constants(choice).is_empty());
        match free {
            Some(free) => {
                let before = self.faults.len();
                let value = self.walk(free, node, path);
                if let Some(fault) = self.faults.get_mut(before).filter(|_| !words.is_empty()) {
                    match did_you_mean(text, words.iter().copied()) {
                        Some(hint) => fault.label = hint,
                        None => fault.notes.push(format!("`{}` is taken too", words.join("`, `"))),
                    }
                }
                value
            }
            None if words.is_empty() => {
                self.wrong_type(all, node, path);
                None
            }
            None => {
                self.unknown_choice(text, &words, node, path);
                None
            }
        }
    }

    /// Choices whose name is the only key of a map.
    fn choose_by_key(
        &mut self,
        choices: &[&'a Value],
        node: &Node,
        entries: &[Entry],
        path: &Path,
    ) -> Option<Value> {
        let keys = |choice: &'a Value| {
            choice.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys)
        };
        let names: Vec<&str> = choices.iter().copied().flat_map(keys).map(String::as_str).collect();
        let [entry] = entries else {
            let place = self.what(path);
            let span = entries.get(1).map_or(node.span, |entry| entry.key_span);
            let fault = Fault::new(
                Code::OneOf,
                span,
                format!("{place} must have exactly one key, not {}", entries.len()),
            );
            self.push(path, fault.note(format!("one of: {}", names.join(", "))));
            return None;
        };
        match choices.iter().copied().find(|choice| keys(choice).any(|key| *key == entry.key)) {
            Some(choice) => self.walk(choice, node, path),
            None => {
                let message = format!("unknown choice `{}` in {}", entry.key, self.places.of(path));
                let hint = did_you_mean(&entry.key, names.iter().copied()).unwrap_or_default();
                let fault = Fault::new(Code::UnknownChoice, entry.key_span, message).label(hint);
                self.push(path, fault.note(format!("choices: {}", names.join(", "))));
                None
            }
        }
    }

    fn map(&mut self, schema: &'a Value, node: &Node, entries: &[Entry], path: &Path) -> Option<Value> {
        let mut map = Map::new();
        let mut whole = true;
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for entry in entries {
            let at = path.join(&entry.key);
            let Some(below) = self.key_schema(schema, entry, path) else { continue };
            let value = if entry.value.data == Data::Null && !admits(self.resolve(below), &entry.value) {
                self.no_value(below, entry, &at);
                None
            } else {
                self.walk(below, &entry.value, &at)
            };
            match value {
                Some(value) => {
                    map.insert(entry.key.clone(), value);
                }
                None => whole &= !required.contains(&entry.key.as_str()),
            }
        }
        for key in required {
            if !entries.iter().any(|entry| entry.key == key) {
                whole = false;
                if misspelt(schema, entries, key) {
                    continue;
                }
                let place = self.places.of(path);
                let span = if path.0.is_empty() { node.span } else { self.places.tree.key_span(path) };
                let fault = Fault::new(Code::MissingKey, span, format!("{place} has no `{key}`"));
                self.push(path, fault.label(format!("`{key}` is missing")));
            }
        }
        whole.then_some(Value::Object(map))
    }

    /// The schema of one entry's value; a fault where the key is not taken.
    fn key_schema(&mut self, schema: &'a Value, entry: &Entry, path: &Path) -> Option<&'a Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        if let Some(below) = properties.and_then(|properties| properties.get(&entry.key)) {
            return Some(below);
        }
        let at = path.join(&entry.key);
        if let Some((pattern, below)) =
            schema.get("patternProperties").and_then(Value::as_object).and_then(|p| p.iter().next())
        {
            return match leaf::check_key(pattern, &entry.key) {
                Ok(()) => Some(below),
                Err(fault) => {
                    let what = if fault.code == Code::BadName { "name" } else { "key" };
                    let message = format!("bad {what} `{}` in {}", entry.key, self.places.of(path));
                    let fault = Fault::new(fault.code, entry.key_span, message).label(fault.message);
                    self.push(&at, fault);
                    None
                }
            };
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => {
                self.unknown_key(properties, entry, path);
                None
            }
            Some(below) => Some(below),
            None => Some(&ANYTHING),
        }
    }

    fn unknown_key(&mut self, properties: Option<&Map<String, Value>>, entry: &Entry, path: &Path) {
        let keys: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let message = format!("unknown key `{}` in {}", entry.key, self.places.of(path));
        let hint = did_you_mean(&entry.key, keys.iter().copied()).unwrap_or_default();
        let takes = format!("{}: {}", self.places.takers(path), keys.join(", "));
        let fault = Fault::new(Code::UnknownKey, entry.key_span, message).label(hint).note(takes);
        self.push(&path.join(&entry.key), fault);
    }

    fn no_value(&mut self, below: &'a Value, entry: &Entry, path: &Path) {
        let fault = Fault::new(Code::WrongType, entry.key_span, format!("{} has no value", self.what(path)));
        let map = admits(self.resolve(below), &Node::empty_map());
        let label = if map {
            "write `{}` where nothing is to be said"
        } else {
            "write a value, or leave the key out"
        };
        self.push(path, fault.label(label));
    }

    fn list(&mut self, schema: &'a Value, node: &Node, items: &[Node], path: &Path) -> Option<Value> {
        if items.is_empty() && schema.get("minItems").is_some() {
            let fault = Fault::new(Code::Empty, node.span, format!("{} is empty", self.what(path)));
            self.push(path, fault);
            return None;
        }
        let below = schema.get("items").unwrap_or(&ANYTHING);
        // An item of which every key may be left out can stand in for a faulty one, so that the others keep their places.
        let target = self.resolve(below);
        let stand_in = target.get("properties").is_some() && target.get("required").is_none();
        let mut values = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let value = self.walk(below, item, &path.join(i));
            values.push(value.or_else(|| stand_in.then(|| Value::Object(Map::new()))));
        }
        values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
    }

    fn wrong_type(&mut self, schemas: &[&'a Value], node: &Node, path: &Path) {
        let message = format!("{} must be {}, not {}", self.what(path), expected(schemas), node.kind());
        let fault = Fault::new(Code::WrongType, node.span, message).label(words::hint(schemas, node));
        self.push(path, fault);
    }

    fn unknown_choice(&mut self, text: &str, words: &[&str], node: &Node, path: &Path) {
        let message = format!("{} cannot be `{text}`", self.what(path));
        let hint = did_you_mean(text, words.iter().copied()).unwrap_or_default();
        let fault = Fault::new(Code::UnknownChoice, node.span, message).label(hint);
        self.push(path, fault.note(format!("choices: {}", words.join(", "))));
    }

    /// What a person calls the value at a path.
    fn what(&self, path: &Path) -> String {
        let Some((last, above)) = path.0.split_last() else { return self.places.of(path) };
        let above = Path(above.to_vec());
        if self.places.is_object(path) {
            return self.places.of(path);
        }
        let in_list = self.places.tree.at(&above).is_some_and(|node| matches!(node.data, Data::List(_)));
        match last.parse::<usize>() {
            Ok(i) if in_list => format!("item {} of {}", i + 1, self.places.of(&above)),
            _ if above.0.is_empty() => format!("`{last}`"),
            _ => format!("`{last}` of {}", self.places.of(&above)),
        }
    }
}

static ANYTHING: Value = Value::Bool(true);

/// Whether a key that is not there is most likely one that is there and not known.
fn misspelt(schema: &Value, entries: &[Entry], missing: &str) -> bool {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return false };
    let unknown = entries.iter().map(|entry| entry.key.as_str()).filter(|key| !properties.contains_key(*key));
    unknown.into_iter().any(|key| nearest(key, properties.keys().map(String::as_str)) == Some(missing))
}

/// The texts that a choice is, where it is a fixed one.
fn constants(schema: &Value) -> Vec<&str> {
    let one = schema.get("const").and_then(Value::as_str);
    let many = schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many).collect()
}

/// Whether a value is of a type that a schema takes.
fn admits(schema: &Value, node: &Node) -> bool {
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ if !constants(schema).is_empty() => vec!["string"],
        _ => return schema.get("anyOf").or(schema.get("oneOf")).is_none() || node.data != Data::Null,
    };
    types.into_iter().any(|name| match &node.data {
        Data::Null => name == "null",
        Data::Bool(_) => name == "boolean",
        Data::Number(number, _) => name == "number" || name == "integer" && !number.is_f64(),
        Data::Text(_) => name == "string",
        Data::List(_) => name == "array",
        Data::Map(_) => name == "object",
    })
}
