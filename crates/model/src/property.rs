//! Properties: named values that a build carries, each with where it came from and whether an untrusted hand has set it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One value with its origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Property {
    /// Any JSON value; most are strings.
    pub value: Value,
    /// Who set it, in words for a person: `scheduler push`, `force by alice`, `step build (build.json)`.
    pub source: String,
    /// Set by, or derived from, something untrusted. Stays with the value for good.
    #[serde(default)]
    pub tainted: bool,
}

/// By name, in name order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, Property>);

impl Properties {
    pub fn set(
        &mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
        source: impl Into<String>,
        tainted: bool,
    ) {
        self.0.insert(name.into(), Property { value: value.into(), source: source.into(), tainted });
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Property> {
        self.0.get(name)
    }

    /// Takes all of `later`, which win.
    pub fn extend(&mut self, later: &Self) {
        self.0.extend(later.0.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_one_wins() {
        let mut properties = Properties::default();
        properties.set("branch", "main", "change", true);
        let mut later = Properties::default();
        later.set("branch", "next", "force", false);
        later.set("count", 3, "force", false);
        properties.extend(&later);
        let branch = Property { value: "next".into(), source: "force".into(), tainted: false };
        assert_eq!((properties.get("branch"), properties.get("other")), (Some(&branch), None));
        assert_eq!(properties.0.keys().collect::<Vec<_>>(), ["branch", "count"]);
    }
}
