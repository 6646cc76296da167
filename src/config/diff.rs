//! What a reload would change, object by object.

use super::Config;
use super::place::singular;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;

/// One object that two configurations do not have alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ObjectChange {
    /// `pool`, `builder`, `server`.
    pub kind: String,
    /// Empty for `server`, of which there is one.
    pub name: String,
    pub change: ChangeKind,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Added,
    Removed,
    /// What differs, never empty.
    Changed(Vec<FieldChange>),
}

/// One value that differs; `None` where it is not there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// `reuse.builds`, `plan.steps.2.silence_s`.
    pub path: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

/// What is added, removed and changed from `old` to `new`, section by section; in each, first what `old` has, in its order.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<ObjectChange> {
    let (old, new) = (sections(old), sections(new));
    let mut changes = Vec::new();
    for (section, before) in &old {
        let after = new.get(section).unwrap_or(&Value::Null);
        if section == "server" {
            push_changed(&mut changes, section, "", before, after);
            continue;
        }
        objects(&mut changes, section, before, after);
    }
    changes
}

fn sections(config: &Config) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        // A configuration has string keys and finite numbers only.
        _ => Map::new(),
    }
}

fn objects(changes: &mut Vec<ObjectChange>, section: &str, before: &Value, after: &Value) {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return };
    let mut push = |name: &str, change| {
        changes.push(ObjectChange { kind: singular(section).to_owned(), name: name.to_owned(), change });
    };
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        push(name, ChangeKind::Removed);
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        push(name, ChangeKind::Added);
    }
    for (name, old) in before {
        if let Some(new) = after.get(name) {
            push_changed(changes, section, name, old, new);
        }
    }
}

fn push_changed(changes: &mut Vec<ObjectChange>, section: &str, name: &str, old: &Value, new: &Value) {
    let mut fields = Vec::new();
    compare(&mut fields, String::new(), Some(old), Some(new));
    if !fields.is_empty() {
        let change = ChangeKind::Changed(fields);
        changes.push(ObjectChange { kind: singular(section).to_owned(), name: name.to_owned(), change });
    }
}

fn compare(fields: &mut Vec<FieldChange>, path: String, old: Option<&Value>, new: Option<&Value>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                compare(fields, below(key), old.get(key), new.get(key));
            }
        }
        // Lists of one length are compared item by item; else the whole list is what changed.
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                compare(fields, below(&i.to_string()), Some(old), Some(new));
            }
        }
        (old, new) if old == new => {}
        (old, new) => {
            let there = |value: Option<&Value>| value.filter(|value| !value.is_null()).cloned();
            fields.push(FieldChange { path, old: there(old), new: there(new) });
        }
    }
}

/// `~ pool cloud  max 8 → 12`.
impl fmt::Display for ObjectChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match &self.change {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed(_) => '~',
        };
        write!(f, "{sign} {}", self.kind)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if let ChangeKind::Changed(fields) = &self.change {
            let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
            write!(f, "  {}", fields.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.path, short(self.old.as_ref()), short(self.new.as_ref()))
    }
}

fn short(value: Option<&Value>) -> String {
    let text = match value {
        None => return "–".to_owned(),
        Some(Value::String(text)) => text.lines().next().unwrap_or_default().to_owned(),
        Some(value) => value.to_string(),
    };
    if text.chars().count() <= 60 { text } else { text.chars().take(59).chain(['…']).collect() }
}
