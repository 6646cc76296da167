//! `docs/reference/config.md` says what the code says: its tables of keys and of fault codes are written from the schema and the enum.
//! After a change that is meant, run the tests with `UPDATE_EXPECT=1`.

use crate::config::{Code, schema};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::path::Path;

/// Format of a text → what a reader calls it; all others are texts.
const FORMATS: [(&str, &str); 11] = [
    ("period", "length of time"),
    ("rate", "rate of calls"),
    ("tariff", "money in a length of time"),
    ("period-or-never", "length of time or `never`"),
    ("name", "name"),
    ("template", "template"),
    ("script", "script"),
    ("condition", "condition"),
    ("relative-path", "path"),
    ("glob", "glob"),
    ("secret-ref", "`secret:NAME`"),
];

/// One table: where it stands, what it is for, its keys.
struct Table {
    path: String,
    about: String,
    rows: Vec<(String, String, String)>,
}

struct Keys<'a> {
    root: &'a Value,
    seen: Vec<&'a str>,
    tables: Vec<Table>,
}

impl<'a> Keys<'a> {
    fn resolve(&self, mut schema: &'a Value) -> (&'a Value, Option<&'a str>) {
        let mut name = None;
        loop {
            let only = schema.get("allOf").and_then(|all| all.get(0));
            let reference = schema.get("$ref").and_then(Value::as_str);
            match (reference, only) {
                (Some(reference), _) => {
                    name = reference.rsplit('/').next();
                    schema = self.root.pointer(reference.trim_start_matches('#')).expect("a definition");
                }
                (None, Some(only)) => schema = only,
                (None, None) => return (schema, name),
            }
        }
    }

    fn members(&self, schema: &'a Value) -> Vec<&'a Value> {
        let members = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        let typed = |member: &&Value| member.get("required").is_none() || member.get("properties").is_some();
        members.into_iter().flatten().filter(typed).collect()
    }

    /// Writes a table for each map of fixed keys at or below a schema.
    fn add(&mut self, path: &str, about: &str, schema: &'a Value) {
        let (schema, name) = self.resolve(schema);
        if let Some(name) = name {
            if self.seen.contains(&name) {
                return;
            }
            self.seen.push(name);
        }
        let about =
            schema.get("description").and_then(Value::as_str).filter(|_| about.is_empty()).unwrap_or(about);
        let members = self.members(schema);
        let tagged = members.len() > 1 && members.iter().all(|member| only_key(member).is_some());
        for member in members {
            match only_key(member).filter(|_| tagged) {
                Some((key, below)) => {
                    let about = member.get("description").and_then(Value::as_str).unwrap_or_default();
                    self.add(&format!("{path}.{key}"), about, below);
                }
                None => self.add(path, about, member),
            }
        }
        if let Some(items) = schema.get("items") {
            self.add(path, about, items);
        }
        if let Some(patterns) = schema.get("patternProperties").and_then(Value::as_object) {
            for below in patterns.values() {
                self.add(&format!("{path}.NAME"), about, below);
            }
        }
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            self.table(path, about, schema, properties);
        }
    }

    fn table(&mut self, path: &str, about: &str, schema: &'a Value, properties: &'a Map<String, Value>) {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut rows = Vec::new();
        for (key, below) in properties {
            let mut text =
                below.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
            if required.contains(&key.as_str()) {
                text.push_str(" **Required.**");
            }
            for (choice, about) in self.choices(below) {
                write!(text, "<br>`{choice}`: {about}").expect("a string takes all");
            }
            rows.push((key.clone(), self.kind(below), text.replace('|', "\\|")));
        }
        self.tables.push(Table { path: path.to_owned(), about: about.replace('\n', " "), rows });
        for (key, below) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let about = below.get("description").and_then(Value::as_str).unwrap_or_default();
            self.add(&path, about, below);
        }
    }

    /// Fixed texts with what they mean.
    fn choices(&self, schema: &'a Value) -> Vec<(&'a str, &'a str)> {
        let (schema, _) = self.resolve(schema);
        let below = self.members(schema).into_iter().flat_map(|member| self.choices(member));
        let own = schema.get("const").and_then(Value::as_str);
        let about = schema.get("description").and_then(Value::as_str);
        own.zip(about).into_iter().chain(below).collect()
    }

    fn kind(&self, schema: &'a Value) -> String {
        let (schema, _) = self.resolve(schema);
        if schema.get("const").is_some() || schema.get("enum").is_some() {
            let one = schema.get("const").into_iter();
            let many = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
            let words = one.chain(many).map(|word| format!("`{}`", word.to_string().trim_matches('"')));
            return words.collect::<Vec<_>>().join(" or ");
        }
        let members = self.members(schema);
        if !members.is_empty() {
            let mut kinds: Vec<String> = members.into_iter().map(|member| self.kind(member)).collect();
            kinds.dedup();
            return kinds.join(" or ");
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => return "any value".to_owned(),
        };
        let word = |name: &str| match name {
            "string" => {
                FORMATS.iter().find(|(known, _)| *known == format).map_or("text", |(_, word)| word).to_owned()
            }
            "boolean" => "`true` or `false`".to_owned(),
            "integer" => "whole number".to_owned(),
            "array" => match schema.get("items").map(|items| self.kind(items)) {
                Some(item) => format!("list of {item}"),
                None => "list".to_owned(),
            },
            "object" => "map".to_owned(),
            other => other.to_owned(),
        };
        types.into_iter().map(word).collect::<Vec<_>>().join(" or ")
    }
}

/// The only key of a map, where it has to be there: a choice, named by its key.
fn only_key(schema: &Value) -> Option<(&String, &Value)> {
    let properties =
        schema.get("properties").and_then(Value::as_object).filter(|properties| properties.len() == 1)?;
    schema.get("required").and(properties.iter().next())
}

fn keys() -> String {
    let root = schema(&[]);
    let mut keys = Keys { root: &root, seen: Vec::new(), tables: Vec::new() };
    keys.add("", "", &root);
    let mut text = String::new();
    for Table { path, about, rows } in keys.tables.into_iter().filter(|table| !table.rows.is_empty()) {
        let heading = if path.is_empty() { "The top level".to_owned() } else { format!("`{path}`") };
        write!(text, "### {heading}\n\n{about}\n\n| key | takes | |\n|---|---|---|\n")
            .expect("a string takes all");
        for (key, kind, about) in rows {
            writeln!(text, "| `{key}` | {kind} | {about} |").expect("a string takes all");
        }
        text.push('\n');
    }
    text
}

fn codes() -> String {
    let mut text = String::new();
    for code in Code::ALL {
        write!(text, "### {code}: {}\n\n{}\n\n", code.title(), code.explanation())
            .expect("a string takes all");
    }
    text
}

/// Puts a text between two marks.
fn replaced(page: &str, mark: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {mark}: written by the code -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
    format!("{before}{begin}\n{text}{end}{after}")
}

#[test]
fn the_reference_says_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/config.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let wanted = replaced(&replaced(&page, "keys", &keys()), "codes", &codes());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, wanted).expect("the page can be written");
    } else {
        assert!(page == wanted, "{} is not in step: run the tests with UPDATE_EXPECT=1", path.display());
    }
}
