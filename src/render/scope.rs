//! The values a template may see, and a record of which of them it asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, Serde};
use rouse_model::property::Properties;
use serde_json::Value as Json;

/// Names at the top of every template.
pub(super) const ROOTS: [&str; 8] =
    ["project", "codebase", "branch", "revision", "builder", "matrix", "props", "worker"];

/// What a template is filled from. Absent parts are errors when asked for, not empty text.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    pub project: Option<String>,
    pub codebase: Option<String>,
    pub branch: Option<String>,
    pub revision: Option<String>,
    /// `name` and whatever else the builder offers to templates.
    pub builder: BTreeMap<String, Json>,
    pub matrix: BTreeMap<String, Json>,
    pub props: Properties,
    /// Only once a build has one.
    pub worker: Option<BTreeMap<String, Json>>,
    /// The stamp is untrusted, so `branch` and `revision` are somebody else's choice.
    pub tainted: bool,
    /// Files that the changes touched; `None` when that is not known in full.
    pub changed_files: Option<Vec<String>>,
}

/// What one evaluation asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The last name that was not there: what it is called, and what there is instead.
    pub missing: Option<(String, Vec<String>)>,
    pub no_worker: bool,
    pub tainted: bool,
}

pub(super) type Record = Arc<Mutex<Asked>>;

fn note(record: &Record, write: impl FnOnce(&mut Asked)) {
    write(&mut record.lock().unwrap_or_else(PoisonError::into_inner));
}

/// The root object for one evaluation.
pub(super) fn context(scope: &Scope) -> (Value, Record) {
    let record = Record::default();
    let section = |kind: &'static str, entries: BTreeMap<String, (Value, bool)>| {
        Value::from_object(Section { kind, entries, record: record.clone() })
    };
    let plain = |map: &BTreeMap<String, Json>| {
        map.iter().map(|(key, value)| (key.clone(), (Value::from(Serde(value)), false))).collect()
    };
    let mut entries = BTreeMap::new();
    let words = [
        ("project", &scope.project, false),
        ("codebase", &scope.codebase, false),
        ("branch", &scope.branch, scope.tainted),
        ("revision", &scope.revision, scope.tainted),
    ];
    for (name, value, tainted) in words {
        if let Some(value) = value {
            entries.insert(name.to_owned(), (Value::from(value.as_str()), tainted));
        }
    }
    let props = scope
        .props
        .0
        .iter()
        .map(|(key, p)| (key.clone(), (Value::from(Serde(&p.value)), p.tainted)))
        .collect();
    entries.insert("builder".into(), (section("attribute of the builder", plain(&scope.builder)), false));
    entries.insert("matrix".into(), (section("matrix entry", plain(&scope.matrix)), false));
    entries.insert("props".into(), (section("property", props), false));
    if let Some(worker) = &scope.worker {
        entries.insert("worker".into(), (section("attribute of the worker", plain(worker)), false));
    }
    (Value::from_object(Root { entries, record: record.clone() }), record)
}

#[derive(Debug)]
struct Root {
    entries: BTreeMap<String, (Value, bool)>,
    record: Record,
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        if let Some((value, tainted)) = self.entries.get(key) {
            note(&self.record, |asked| asked.tainted |= tainted);
            return Some(value.clone());
        }
        if key == "worker" {
            note(&self.record, |asked| asked.no_worker = true);
        } else if ROOTS.contains(&key) {
            let there = self.entries.keys().cloned().collect();
            note(&self.record, |asked| asked.missing = Some((format!("`{key}` here"), there)));
        }
        None
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// A named group of values. It cannot be listed, so that what a template depends on stands in it.
#[derive(Debug)]
struct Section {
    kind: &'static str,
    entries: BTreeMap<String, (Value, bool)>,
    record: Record,
}

impl Object for Section {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        match self.entries.get(key) {
            Some((value, tainted)) => {
                note(&self.record, |asked| asked.tainted |= tainted);
                Some(value.clone())
            }
            None => {
                let there = self.entries.keys().cloned().collect();
                note(&self.record, |asked| asked.missing = Some((format!("{} `{key}`", self.kind), there)));
                None
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}
