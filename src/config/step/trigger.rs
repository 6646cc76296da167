//! `trigger`: builds of other builders, as it is written.

use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{BuilderName, PropertyName};
use crate::config::tree::Path;
use crate::render::{Sink, check_template};
use indexmap::IndexMap;
use rouse_model::plan::{Action, Trigger};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Buildsets that one step may make.
const MOST: usize = 256;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Triggers")]
pub(crate) enum RawTrigger {
    /// One builder, and nothing else to say.
    Name(BuilderName),
    Fully(RawFull),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Trigger")]
pub(crate) struct RawFull {
    /// The builder. One with a matrix means all builders that it makes.
    builder: Option<BuilderName>,
    /// Several builders, of one buildset.
    #[schemars(length(min = 1))]
    builders: Option<Vec<BuilderName>>,
    /// Property → values: a buildset for each combination, which has these values. Default: one buildset.
    #[serde(default)]
    each: IndexMap<PropertyName, Vec<Value>>,
    /// `true`: the step ends when all these builds have, and is as good as the worst of them. `false`: it ends at once, and they go on by themselves.
    /// Default: `true`.
    wait: Option<bool>,
    /// Properties of these builds, beside those that their builders give them. Texts are templates, also those of `each`.
    #[serde(default)]
    properties: IndexMap<PropertyName, Value>,
}

impl RawTrigger {
    /// The builders that it names, with where.
    pub(crate) fn named(&self, path: &Path) -> Vec<(Path, &BuilderName)> {
        match self {
            Self::Name(name) => vec![(path.clone(), name)],
            Self::Fully(full) => {
                let several = full.builders.iter().flatten().enumerate();
                let several = several.map(|(i, name)| (path.join("builders").join(i), name));
                full.builder.iter().map(|name| (path.join("builder"), name)).chain(several).collect()
            }
        }
    }

    pub(crate) fn waits(&self) -> bool {
        match self {
            Self::Name(_) => true,
            Self::Fully(full) => full.wait.unwrap_or(true),
        }
    }

    pub(super) fn plain_name(&self) -> String {
        let names: Vec<&str> =
            self.named(&Path::default()).into_iter().map(|(_, name)| name.as_str()).collect();
        format!("trigger {}", names.join(", "))
    }

    /// What of it can be told without knowing the other builders; they are named as they are written.
    pub(super) fn check(self, cx: &mut Context<'_>, path: &Path) -> Option<Action> {
        let named = self.named(path);
        for (i, (at, name)) in named.iter().enumerate() {
            cx.refer("builders", name, at);
            if let Some((first, _)) = named[..i].iter().find(|(_, other)| other == name) {
                let message = format!("`{name}` stands twice in {}", cx.place(path));
                let (first, span) = (cx.value(first), cx.value(at));
                cx.push(Fault::new(Code::DuplicateKey, span, message).related(first, "first here"));
            }
        }
        let builders = named.into_iter().map(|(_, name)| name.to_string()).collect();
        let wait = self.waits();
        let Self::Fully(full) = self else {
            return Some(Action::Trigger(Trigger { builders, sets: vec![BTreeMap::new()], wait }));
        };
        if full.builder.is_some() == full.builders.is_some() {
            cx.one_of(path, &["builder", "builders"], "builder to trigger");
            return None;
        }
        check_texts(full.properties.iter(), cx, &path.join("properties"));
        full.check_each(cx, path);
        Some(Action::Trigger(Trigger { builders, sets: full.sets(), wait }))
    }
}

impl RawFull {
    fn check_each(&self, cx: &mut Context<'_>, path: &Path) {
        let at = path.join("each");
        for (name, values) in &self.each {
            let at = at.join(name);
            if values.is_empty() && cx.is_clean(&at) {
                let message = format!("`{name}` has no value in {}", cx.place(&at));
                cx.push(Fault::new(Code::Empty, cx.key(&at), message));
            }
            if self.properties.contains_key(name) {
                let message = format!("`{name}` stands in `each` and in `properties` of {}", cx.place(path));
                let other = cx.key(&path.join("properties").join(name));
                cx.push(Fault::new(Code::Together, cx.key(&at), message).related(other, "and here"));
            }
            for (i, value) in values.iter().enumerate() {
                check_text(value, cx, &at.join(i));
            }
        }
        let count =
            self.each.values().fold(1, |count: usize, values| count.saturating_mul(values.len().max(1)));
        if count > MOST {
            let message = format!("{} makes {count} buildsets", cx.place(&at));
            let fault = Fault::new(Code::OutOfRange, cx.key(&at), message);
            cx.push(fault.label(format!("at most {MOST}")));
        }
    }

    /// The properties of each buildset, the last of `each` changing first.
    fn sets(&self) -> Vec<BTreeMap<String, Value>> {
        let own = self.properties.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let mut sets: Vec<BTreeMap<String, Value>> = vec![own];
        for (name, values) in &self.each {
            let longer = sets.iter().flat_map(|set| {
                values.iter().map(|value| {
                    let mut set = set.clone();
                    set.insert(name.to_string(), value.clone());
                    set
                })
            });
            sets = longer.take(MOST).collect();
        }
        sets
    }
}

fn check_texts<'a>(
    values: impl Iterator<Item = (&'a PropertyName, &'a Value)>,
    cx: &mut Context<'_>,
    path: &Path,
) {
    for (name, value) in values {
        check_text(value, cx, &path.join(name));
    }
}

/// The texts within a value, each of which is a template.
fn check_text(value: &Value, cx: &mut Context<'_>, path: &Path) {
    match value {
        Value::String(text) => {
            let Err(fault) = check_template(text, &Sink::Text) else { return };
            let span = cx.part(path, text, Some(&(fault.offset..fault.offset + fault.length)));
            let message = crate::config::place::placed(&fault.message, &cx.place(path));
            cx.push(Fault::new(Code::BadTemplate, span, message).label(fault.help.unwrap_or_default()));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| check_text(item, cx, &path.join(i)));
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| check_text(item, cx, &path.join(key))),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
