//! `schedulers`: what turns changes, clocks and wishes into buildsets.

mod trigger;

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{
    BuilderName, CodebaseName, CronExpression, MessagePattern, OneOrMany, Period, ProjectName, PropertyName,
    Zone, family, seconds,
};
use super::parameter::RawParameter;
use super::tree::Path;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trigger::{RawAfter, RawFilter, RawIfChanged, RawMissed};

pub(crate) use trigger::check_rings;
pub use trigger::{After, ChangeFilter, Changes, Cron, Every, Force, IfChanged, Missed, Trigger, When};

/// The keys of which a scheduler has exactly one.
pub(crate) const TRIGGERS: [&str; 5] = ["changes", "every", "cron", "after", "force"];

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scheduler")]
pub(crate) struct RawScheduler {
    /// Changes of these codebases.
    changes: Option<IndexMap<CodebaseName, RawFilter>>,
    /// So often.
    every: Option<Period>,
    /// At these moments: minute, hour, day of month, month, day of week.
    cron: Option<CronExpression>,
    /// When what another scheduler made has ended.
    after: Option<RawAfter>,
    /// When somebody asks.
    force: Option<RawForce>,

    /// The builders of each buildset.
    builders: OneOrMany<BuilderName>,
    /// Higher goes first. Default: 0.
    #[schemars(range(min = -1000, max = 1000))]
    priority: Option<i64>,
    /// Properties of each buildset.
    #[serde(default)]
    properties: IndexMap<PropertyName, Value>,
    /// What is built of each codebase, for `every`, `cron` and `force`. Default: what the builders check out, each at its codebase's own branch.
    codebases: Option<IndexMap<CodebaseName, RawStamp>>,

    /// Only changes with such a commit message; for `changes`.
    message: Option<OneOrMany<MessagePattern>>,
    /// Waits until a branch has been quiet for so long, then builds its tip once; for `changes`. Default: `0s`.
    settle: Option<Period>,
    /// The time zone of `cron`. Default: `UTC`.
    timezone: Option<Zone>,
    /// What becomes of a moment that passed while no master was up; for `cron`. Default: `skip`.
    missed: Option<RawMissed>,
    /// Makes nothing where nothing has changed; for `cron` and `every`. Default: `false`.
    only_if_changed: Option<RawIfChanged>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Force")]
struct RawForce {
    /// What is asked, each of which becomes a property.
    #[serde(default)]
    parameters: IndexMap<PropertyName, RawParameter>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Stamp")]
struct RawStamp {
    /// The branch whose tip is built. Default: the codebase's own.
    #[schemars(length(min = 1))]
    branch: Option<String>,
}

/// What makes buildsets, and which.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SchedulerConfig {
    /// That of its builders.
    pub project: ProjectName,
    pub trigger: Trigger,
    pub builders: Vec<BuilderName>,
    pub priority: i64,
    pub properties: IndexMap<PropertyName, Value>,
    /// Codebases of its buildsets, with the branch that is built where no change says which; `None` is the repository's own default.
    /// Empty for `after`, whose buildsets have the stamps of the one before.
    pub codebases: IndexMap<CodebaseName, Option<String>>,
}

/// What a scheduler must know of the rest of the configuration.
pub(crate) struct Surroundings<'a> {
    pub(crate) builders: &'a IndexMap<BuilderName, super::BuilderConfig>,
    pub(crate) templates: &'a [BuilderName],
    pub(crate) codebases: &'a IndexMap<CodebaseName, super::CodebaseConfig>,
}

impl RawScheduler {
    pub(crate) fn check(
        self,
        cx: &mut Context<'_>,
        path: &Path,
        around: &Surroundings<'_>,
    ) -> Option<SchedulerConfig> {
        let project = self.builders(cx, path, around);
        let keys_of = |keys: &[&str], trigger: &str, cx: &mut Context<'_>| cx.not_with(path, keys, trigger);
        if self.changes.is_none() {
            keys_of(&["message", "settle"], "`changes`", cx);
        }
        if self.cron.is_none() {
            keys_of(&["timezone", "missed"], "`cron`", cx);
        }
        if self.cron.is_none() && self.every.is_none() {
            keys_of(&["only_if_changed"], "`cron` and `every`", cx);
        }
        if self.every.is_none() && self.cron.is_none() && self.force.is_none() {
            keys_of(&["codebases"], "`every`, `cron` and `force`", cx);
        }
        let named = self.builders.as_slice();
        // One with a matrix is named as a whole.
        let of_entry = |entry: &BuilderName| {
            let entry = entry.clone();
            around.builders.keys().filter(move |name| family(name) == entry.as_str()).cloned()
        };
        let builders: Vec<BuilderName> = named.iter().flat_map(of_entry).collect();
        let all_are_known = named.iter().all(|entry| of_entry(entry).next().is_some());
        let codebases = self.stamps(&builders, cx, path, around);
        let trigger = self.trigger(cx, path)?;
        if let Trigger::Changes(changes) = &trigger
            && all_are_known
        {
            warn_of_strangers(changes, &builders, cx, path, around);
        }
        Some(SchedulerConfig {
            project: project?,
            trigger,
            builders,
            priority: self.priority.unwrap_or(0),
            properties: self.properties,
            codebases,
        })
    }

    /// Checks the builders' names and gives the project that they have in common.
    fn builders(&self, cx: &mut Context<'_>, path: &Path, around: &Surroundings<'_>) -> Option<ProjectName> {
        let at = path.join("builders");
        cx.refer_all("builders", &Some(self.builders.clone()), &at);
        let mut first: Option<(&BuilderName, &ProjectName)> = None;
        for (i, name) in self.builders.as_slice().iter().enumerate() {
            if around.templates.contains(name) {
                let message = format!("`{name}` is a template and cannot be scheduled");
                let fault = Fault::new(Code::NotRunnable, cx.item(&at, i), message);
                cx.push(fault.note("name a builder that is `like` it"));
            }
            let of_entry = around.builders.iter().find(|(builder, _)| family(builder) == name.as_str());
            let Some((_, builder)) = of_entry else { continue };
            match first {
                Some((other, project)) if *project != builder.project => {
                    let message = format!("builders of two projects in {}", cx.place(path));
                    let label = format!("`{name}` is of `{}`, `{other}` of `{project}`", builder.project);
                    let fault = Fault::new(Code::Together, cx.item(&at, i), message).label(label);
                    cx.push(fault.note("a buildset belongs to one project; write a scheduler for each"));
                }
                Some(_) => {}
                None => first = Some((name, &builder.project)),
            }
        }
        first.map(|(_, project)| project.clone())
    }

    /// Codebases of the buildsets.
    fn stamps(
        &self,
        builders: &[BuilderName],
        cx: &mut Context<'_>,
        path: &Path,
        around: &Surroundings<'_>,
    ) -> IndexMap<CodebaseName, Option<String>> {
        let mut stamps = IndexMap::new();
        for (name, raw) in self.codebases.iter().flatten() {
            cx.refer_key("codebases", name, &path.join("codebases").join(name));
            stamps.insert(name.clone(), raw.branch.clone());
        }
        if self.after.is_some() {
            return IndexMap::new();
        }
        let checked_out = builders
            .iter()
            .filter_map(|name| around.builders.get(name))
            .flat_map(|builder| &builder.codebases);
        for name in checked_out.chain(self.changes.iter().flat_map(IndexMap::keys)) {
            stamps.entry(name.clone()).or_insert(None);
        }
        for (name, branch) in &mut stamps {
            let checked_out = builders
                .iter()
                .filter_map(|builder| around.builders.get(builder))
                .find_map(|builder| builder.branch_of(name.as_str()));
            let default = around.codebases.get(name).and_then(|codebase| codebase.default_branch());
            *branch = branch.take().or_else(|| checked_out.or(default).map(str::to_owned));
        }
        stamps
    }

    fn trigger(&self, cx: &mut Context<'_>, path: &Path) -> Option<Trigger> {
        let only_if_changed = self.only_if_changed.as_ref().and_then(RawIfChanged::check);
        match (&self.changes, self.every, &self.cron, &self.after, &self.force) {
            (Some(changes), None, None, None, None) => {
                let settle = self.settle.unwrap_or(seconds(0));
                trigger::changes(changes, self.message.clone(), settle, cx, &path.join("changes"))
            }
            (None, Some(period), None, None, None) => {
                cx.at_least(Some(period), seconds(1), &path.join("every"));
                Some(Trigger::Every(Every { period, only_if_changed }))
            }
            (None, None, Some(expression), None, None) => Some(Trigger::Cron(Cron {
                expression: expression.clone(),
                zone: self.timezone.unwrap_or_default(),
                missed: self.missed.map_or(Missed::Skip, Missed::from),
                only_if_changed,
            })),
            (None, None, None, Some(after), None) => {
                Some(Trigger::After(after.check(cx, &path.join("after"))))
            }
            (None, None, None, None, Some(force)) => {
                let at = path.join("force").join("parameters");
                for name in self.properties.keys().filter(|name| force.parameters.contains_key(*name)) {
                    let message = format!("`{name}` of {} is a property and a parameter", cx.place(path));
                    let span = cx.key(&path.join("properties").join(name));
                    let fault = Fault::new(Code::Together, span, message)
                        .related(cx.key(&at.join(name)), "asked here");
                    cx.push(fault.note("write it as the parameter's `default`"));
                }
                let parameters = force.parameters.iter();
                let parameters =
                    parameters.filter_map(|(name, raw)| Some((name.clone(), raw.check(cx, &at.join(name))?)));
                Some(Trigger::Force(Force { parameters: parameters.collect() }))
            }
            _ => {
                cx.one_of(path, &TRIGGERS, "trigger");
                None
            }
        }
    }
}

/// Codebases whose changes start builds that never check them out.
fn warn_of_strangers(
    changes: &Changes,
    builders: &[BuilderName],
    cx: &mut Context<'_>,
    path: &Path,
    around: &Surroundings<'_>,
) {
    let known: Option<Vec<_>> = builders.iter().map(|name| around.builders.get(name)).collect();
    let Some(known) = known else { return };
    for name in changes.codebases.keys().filter(|name| around.codebases.contains_key(*name)) {
        if !known.iter().any(|builder| builder.codebases.contains(name)) {
            let span = cx.key(&path.join("changes").join(name));
            let message = format!("no builder of {} checks out `{name}`", cx.place(path));
            cx.push(Fault::warning(Code::Useless, span, message));
        }
    }
}
