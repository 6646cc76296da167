//! What sets a scheduler off.

use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{
    CodebaseName, CronExpression, MessagePattern, MessagePatterns, OneOrMany, Pattern, Patterns, Period,
    PropertyName, SchedulerName, Zone,
};
use crate::config::parameter::ParameterConfig;
use crate::config::rings::rings;
use crate::config::tree::Path;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What sets a scheduler off.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Changes(Changes),
    Every(Every),
    Cron(Cron),
    After(After),
    Force(Force),
}

/// Changes of codebases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changes {
    pub codebases: IndexMap<CodebaseName, ChangeFilter>,
    /// Messages that count; `None`: all.
    pub message: Option<MessagePatterns>,
    /// A branch must have been quiet for so long; each branch waits for itself.
    pub settle: Period,
}

/// Which changes of a codebase count.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeFilter {
    /// `None`: every branch that the codebase watches, unless only tags are asked for.
    pub branch: Option<Patterns>,
    /// `None`: no tag.
    pub tags: Option<Patterns>,
    /// Paths of which a change touches at least one; `None`: all.
    pub paths: Option<Patterns>,
    /// `false`: a change starts nothing, but what is started for others takes its newest revision.
    pub wake: bool,
}

impl ChangeFilter {
    /// Whether a ref counts: a branch by its name, a tag as `refs/tags/NAME`.
    #[must_use]
    pub fn takes_branch(&self, branch: &str) -> bool {
        match branch.strip_prefix("refs/tags/") {
            Some(tag) => self.tags.as_ref().is_some_and(|tags| tags.matches(tag)),
            None => match &self.branch {
                Some(patterns) => patterns.matches(branch),
                None => self.tags.is_none(),
            },
        }
    }

    /// Whether a change of these paths counts. One whose paths are not known does.
    pub fn takes_paths<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(patterns) = &self.paths else { return true };
        let mut paths = paths.into_iter().peekable();
        paths.peek().is_none() || paths.any(|path| patterns.matches(path))
    }
}

/// A clock that strikes at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Every {
    pub period: Period,
    pub only_if_changed: Option<IfChanged>,
}

/// A clock that strikes at written moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cron {
    pub expression: CronExpression,
    pub zone: Zone,
    pub missed: Missed,
    pub only_if_changed: Option<IfChanged>,
}

/// What becomes of moments that passed while no master was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// One buildset for all of them.
    Once,
    Skip,
}

/// Since when something must have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfChanged {
    /// Since the last buildset of the scheduler.
    LastBuild,
    /// Since the last buildset of the scheduler that was good.
    LastSuccess,
}

/// The end of other schedulers' buildsets; each sets it off by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct After {
    pub upstream: IndexMap<SchedulerName, When>,
}

/// How a buildset must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// With success or warnings.
    Success,
    Failure,
    Any,
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Force {
    /// What is asked, in order.
    pub parameters: IndexMap<PropertyName, ParameterConfig>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Filter")]
pub(super) struct RawFilter {
    /// Branches. Default: all that the codebase watches; none where only `tags` stands.
    branch: Option<OneOrMany<Pattern>>,
    /// Tags. Default: none.
    tags: Option<OneOrMany<Pattern>>,
    /// Only changes that touch such a path. Default: all.
    paths: Option<OneOrMany<Pattern>>,
    /// `false`: its changes start nothing, but what others start takes its newest revision. Default: `true`.
    wake: Option<bool>,
}

pub(super) fn changes(
    raw: &IndexMap<CodebaseName, RawFilter>,
    message: Option<OneOrMany<MessagePattern>>,
    settle: Period,
    cx: &mut Context<'_>,
    path: &Path,
) -> Option<Trigger> {
    let mut codebases = IndexMap::with_capacity(raw.len());
    for (name, filter) in raw {
        let at = path.join(name);
        cx.refer_key("codebases", name, &at);
        let filter = ChangeFilter {
            branch: cx.patterns(filter.branch.clone(), &at.join("branch")),
            tags: cx.patterns(filter.tags.clone(), &at.join("tags")),
            paths: cx.patterns(filter.paths.clone(), &at.join("paths")),
            wake: filter.wake.unwrap_or(true),
        };
        codebases.insert(name.clone(), filter);
    }
    if !codebases.values().any(|filter| filter.wake) && cx.is_clean(path) {
        let scheduler = path.0.get(1).map_or("", String::as_str);
        let message = format!("no codebase wakes scheduler `{scheduler}`");
        let note = if codebases.is_empty() { "name at least one" } else { "all of them have `wake: false`" };
        cx.push(Fault::new(Code::Empty, cx.value(path), message).note(note));
    }
    let message = message.and_then(|message| cx.message_patterns(message, path));
    Some(Trigger::Changes(Changes { codebases, message, settle }))
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Missed")]
pub(super) enum RawMissed {
    /// One buildset, however many moments were missed.
    Once,
    /// Nothing: the next moment counts.
    Skip,
}

impl From<RawMissed> for Missed {
    fn from(raw: RawMissed) -> Self {
        match raw {
            RawMissed::Once => Self::Once,
            RawMissed::Skip => Self::Skip,
        }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "IfChanged")]
pub(super) enum RawIfChanged {
    /// `true`: since the last buildset.
    Plain(bool),
    Since(RawSince),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Since")]
pub(super) struct RawSince {
    /// Since when.
    since: RawWhen,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "When")]
enum RawWhen {
    /// The last buildset of this scheduler.
    LastBuild,
    /// The last buildset of this scheduler that was good.
    LastSuccess,
}

impl RawIfChanged {
    pub(super) fn check(&self) -> Option<IfChanged> {
        match self {
            Self::Plain(false) => None,
            Self::Plain(true) => Some(IfChanged::LastBuild),
            Self::Since(RawSince { since: RawWhen::LastBuild }) => Some(IfChanged::LastBuild),
            Self::Since(RawSince { since: RawWhen::LastSuccess }) => Some(IfChanged::LastSuccess),
        }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "After")]
pub(super) enum RawAfter {
    /// The good end of another scheduler's buildset.
    One(SchedulerName),
    /// Schedulers, each with the end that counts.
    Several(IndexMap<SchedulerName, RawEnd>),
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "End")]
pub(super) enum RawEnd {
    /// With success or warnings.
    Success,
    /// With anything else.
    Failure,
    /// However it ended.
    Any,
}

impl RawAfter {
    pub(super) fn check(&self, cx: &mut Context<'_>, path: &Path) -> After {
        match self {
            Self::One(name) => {
                cx.refer("schedulers", name, path);
                After { upstream: IndexMap::from([(name.clone(), When::Success)]) }
            }
            Self::Several(map) => {
                if map.is_empty() && cx.is_clean(path) {
                    let message = format!("`after` names no scheduler in {}", cx.place(path));
                    cx.push(Fault::new(Code::Empty, cx.value(path), message));
                }
                let end = |raw: &RawEnd| match raw {
                    RawEnd::Success => When::Success,
                    RawEnd::Failure => When::Failure,
                    RawEnd::Any => When::Any,
                };
                for name in map.keys() {
                    cx.refer_key("schedulers", name, &path.join(name));
                }
                After { upstream: map.iter().map(|(name, raw)| (name.clone(), end(raw))).collect() }
            }
        }
    }
}

/// Schedulers that run after one another in a ring would never start, or never stop.
pub(crate) fn check_rings<'a>(
    schedulers: impl Iterator<Item = (&'a SchedulerName, &'a Trigger)>,
    cx: &mut Context<'_>,
) {
    let edges: IndexMap<&SchedulerName, Vec<&SchedulerName>> = schedulers
        .map(|(name, trigger)| match trigger {
            Trigger::After(after) => (name, after.upstream.keys().collect()),
            _ => (name, Vec::new()),
        })
        .collect();
    for (start, ring) in rings(&edges) {
        let span = cx.value(&Path::of(["schedulers", start, "after"]));
        let message = format!("schedulers run after one another in a ring: {ring}");
        cx.push(Fault::new(Code::Cycle, span, message));
    }
}
