//! `caches` of a builder: folders that come from an earlier build and are kept for later ones.

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{CacheName, CachePath, OneOrMany, Template};
use super::tree::Path;
use indexmap::IndexMap;
use rouse_contract::units::Bytes;
use rouse_model::plan::{Action, Cache, PlannedStep, Rules};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;

/// What the keys of a builder begin with that keeps branches apart; what is about no branch is apart from all.
const BRANCH: &str = "{{ branch | default('') }}:";
const DEFAULT_MAX: Bytes = Bytes(5 << 30);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cache")]
pub(crate) struct RawCache {
    /// The folder: below the build's own; or absolute, on workers that are containers or machines of their own.
    path: CachePath,
    /// What tells contents apart: one text, or several, of which the first that has anything is read and the first is written. Default: no text, so that all
    /// builds of the project share what lies under the cache's name.
    key: Option<OneOrMany<Template>>,
    /// Most bytes of all its keys together, packed; the least recently used go first. Default: `5 GiB`.
    max: Option<Bytes>,
}

impl RawCache {
    fn check(self, name: String, per_branch: bool) -> Cache {
        let keys = self.key.map(OneOrMany::into_vec).unwrap_or_default();
        let mut keys: Vec<String> = keys.into_iter().map(String::from).collect();
        if keys.is_empty() {
            keys.push(String::new());
        }
        let of_branch = |key: String| if per_branch { format!("{BRANCH}{key}") } else { key };
        Cache {
            name,
            path: self.path.into(),
            keys: keys.into_iter().map(of_branch).collect(),
            max_bytes: self.max.unwrap_or(DEFAULT_MAX).0,
        }
    }
}

/// What one builder itself says of its caches.
pub(crate) fn check_own(caches: &IndexMap<CacheName, RawCache>, cx: &mut Context<'_>, path: &Path) {
    let mut folders: HashMap<&str, &CacheName> = HashMap::new();
    for (name, cache) in caches {
        let at = path.join(name);
        if let Some(other) = folders.insert(cache.path.trim_end_matches('/'), name) {
            let message = format!("caches `{other}` and `{name}` are both at `{}`", cache.path);
            cx.push(Fault::new(Code::DuplicateName, cx.value(&at.join("path")), message));
        }
        if cache.max.is_some_and(|max| max.0 == 0) {
            let message = format!("{} may have nothing", cx.place(&at));
            cx.push(
                Fault::new(Code::OutOfRange, cx.value(&at.join("max")), message).label("such as `2 GiB`"),
            );
        }
    }
}

/// Puts the steps in that bring them, after the checkouts with which the builder begins, and those that keep them, at its end.
pub(crate) fn plan(caches: IndexMap<CacheName, RawCache>, per_branch: bool, steps: &mut Vec<PlannedStep>) {
    let checkouts = steps.iter().take_while(|step| matches!(step.action, Action::Checkout { .. })).count();
    for (i, (name, cache)) in caches.into_iter().enumerate() {
        let cache = cache.check(name.into(), per_branch);
        let restore =
            step(format!("restore cache {}", cache.name), Action::RestoreCache(cache.clone()), steps);
        steps.insert(checkouts + i, restore);
        let save = step(format!("keep cache {}", cache.name), Action::SaveCache(cache), steps);
        steps.push(save);
    }
}

/// A build is no worse for it.
fn step(name: String, action: Action, others: &[PlannedStep]) -> PlannedStep {
    let taken = |name: &String| others.iter().any(|other| other.name == *name);
    let mut names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name} {n}")));
    PlannedStep {
        name: names.find(|name| !taken(name)).unwrap_or(name),
        action,
        env: Default::default(),
        dir: None,
        condition: None,
        timeout_s: None,
        silence_s: None,
        rules: Rules {
            halt_on_failure: false,
            flunk_on_failure: false,
            warn_on_warnings: false,
            ..Rules::default()
        },
        repeatable: true,
    }
}
