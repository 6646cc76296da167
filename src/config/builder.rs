//! `builders`: recipes. `like` is resolved here, so that nobody else ever sees a template.

mod inherit;
mod matrix;
pub(crate) mod triggers;

use super::approval::{ApprovalConfig, RawApproval};
use super::cache::{self, RawCache};
use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{
    BuilderName, CacheName, CodebaseName, EnvName, EnvValue, Limit, LockName, OneOrMany, PoolName,
    ProjectName, PropertyName, SecretName, seconds, seconds_up,
};
use super::lock::{self, RawShare};
use super::step::{self, RawStep};
use super::tree::Path;
use crate::render::VARIABLE_PREFIX;
use indexmap::{IndexMap, IndexSet};
use rouse_model::locks::Share;
use rouse_model::plan::{Action, OnLost, Plan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) use inherit::inherit;
pub(crate) use matrix::{RawMatrix, expand};

/// As the model has it where a plan names none.
const DEFAULT_RETRIES: u32 = 3;

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Builder")]
pub(crate) struct RawBuilder {
    /// `true`: only there for others to be `like` it; never scheduled.
    #[serde(default)]
    pub(crate) template: bool,
    /// A builder whose keys count here too where they are not written; `env`, `properties`, `locks` and `caches` are taken entry by entry.
    pub(crate) like: Option<BuilderName>,
    /// The project that owns it. Default: `default`.
    pub(crate) project: Option<ProjectName>,
    /// The pools that its builds may run in. Default: every pool that accepts them.
    pub(crate) pool: Option<OneOrMany<PoolName>>,
    /// Several builders in one entry: axis → values, and a builder for each combination, named `ENTRY (VALUE, …)`. Its templates see
    /// `matrix.AXIS`; a scheduler that names the entry means them all.
    pub(crate) matrix: Option<RawMatrix>,
    /// Environment of all its steps.
    #[serde(default)]
    pub(crate) env: IndexMap<EnvName, EnvValue>,
    /// Properties that its builds start with.
    #[serde(default)]
    pub(crate) properties: IndexMap<PropertyName, Value>,
    /// Locks that its builds have from before a worker is made for them until they end: `exclusive`, or how many.
    #[serde(default)]
    pub(crate) locks: IndexMap<LockName, RawShare>,
    /// Folders that come from an earlier build of the project, after the checkouts with which the steps begin, and are kept once all steps went well.
    /// Untrusted builds read them and never write.
    #[serde(default)]
    pub(crate) caches: IndexMap<CacheName, RawCache>,
    /// `branch`: a newer change of a branch ends the builds of older ones that the same scheduler asked for and that have not ended. Default: each
    /// change is built to its end.
    pub(crate) supersede: Option<Supersede>,
    /// `branch`: its caches are of their own for each branch. Default: their keys alone tell them apart.
    pub(crate) per: Option<RawBuilderPer>,
    /// Requests that wait until a person of the project says that they may be built: `strangers`, those of untrusted origin; `all`, every one. No worker
    /// is launched for them before that. Default: none.
    pub(crate) approval: Option<RawApproval>,
    /// What becomes of a build whose worker is lost under it, or that the infrastructure fails otherwise. Default: `retry`.
    pub(crate) on_lost: Option<RawOnLost>,
    /// How often a build is tried again for such reasons, and for launches that fail. Default: 3.
    #[schemars(range(max = 100))]
    pub(crate) retries: Option<u32>,
    /// For the whole build; `never` sets no limit. Default: `never`.
    pub(crate) timeout: Option<Limit>,
    /// What is done, in order.
    #[schemars(length(min = 1))]
    pub(crate) steps: Option<Vec<RawStep>>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "BuilderPer")]
pub(crate) enum RawBuilderPer {
    /// Nothing of one branch reaches another.
    Branch,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "OnLost")]
pub(crate) enum RawOnLost {
    /// Once more, on another worker.
    Retry,
    /// It ends, as a build with an exception.
    Fail,
}

/// What a newer change ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Supersede {
    /// Builds of older changes of the same branch.
    Branch,
}

/// A recipe, with all that it inherits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BuilderConfig {
    pub project: ProjectName,
    /// Pools that it names, in order; empty: any that accepts it.
    pub pools: Vec<PoolName>,
    /// Properties that its builds start with.
    pub properties: IndexMap<PropertyName, Value>,
    /// Axis → value, where it is one of those that an entry with a `matrix` becomes.
    pub matrix: IndexMap<PropertyName, Value>,
    /// What its builds take of which lock.
    pub locks: IndexMap<LockName, Share>,
    /// What a newer change ends; `None`: nothing.
    pub supersede: Option<Supersede>,
    /// Which of its requests wait for a person; `None`: none.
    pub approval: Option<ApprovalConfig>,
    /// What its builds do.
    pub plan: Plan,
    /// What its steps check out, in the order in which they do.
    pub codebases: Vec<CodebaseName>,
    /// What its environment refers to.
    pub secrets: Vec<SecretName>,
}

impl BuilderConfig {
    /// The branch that its own checkout of a codebase names: taken where nobody who asks for a build names another. One that is to be filled in
    /// is known within the build alone.
    #[must_use]
    pub fn branch_of(&self, codebase: &str) -> Option<&str> {
        let trees = self.plan.steps.iter().filter_map(|step| match &step.action {
            Action::Checkout { trees } => Some(trees),
            _ => None,
        });
        let mut branches = trees
            .flatten()
            .filter(|tree| tree.codebase == codebase)
            .filter_map(|tree| tree.branch.as_deref());
        branches.find(|branch| !branch.contains("{{"))
    }
}

impl RawBuilder {
    /// Checks what one builder says itself; `path` is its own place.
    pub(crate) fn check_own(&self, name: &str, cx: &mut Context<'_>, path: &Path) {
        cx.refer_all("pools", &self.pool, &path.join("pool"));
        if let Some(project) = &self.project {
            cx.project(Some(project.clone()), &path.join("project"));
        }
        if self.template && self.steps.is_none() && self.like.is_none() && cx.is_empty_but(path, "template") {
            let message = format!("template `{name}` has nothing to inherit");
            cx.push(Fault::warning(Code::Useless, cx.key(path), message));
        }
        check_env(&self.env, cx, path);
        self.check_matrix(cx, path);
        lock::check_own(&self.locks, cx, &path.join("locks"));
        cache::check_own(&self.caches, cx, &path.join("caches"));
        cx.at_least(self.timeout.and_then(|limit| limit.0), seconds(1), &path.join("timeout"));
        if let Some(approval) = self.approval {
            approval.check_own(cx, &path.join("approval"));
        }
        if let Some(steps) = &self.steps {
            step::check_names(steps, cx, &path.join("steps"));
        }
    }

    /// A whole builder, after inheritance. `origin` says where its steps and environment were written.
    pub(crate) fn check(self, name: &str, cx: &mut Context<'_>, origin: &Origins) -> Option<BuilderConfig> {
        let path = Path::of(["builders", name]);
        let project = self.project.unwrap_or_else(|| cx.default_project());
        let Some(steps) = self.steps else {
            if origin.line.iter().all(|path| cx.is_clean(path)) {
                let fault =
                    Fault::new(Code::NotRunnable, cx.key(&path), format!("builder `{name}` has no steps"));
                cx.push(
                    fault.note("write `steps:`, be `like` a builder that has some, or be a `template: true`"),
                );
            }
            return None;
        };
        let mut secrets = IndexSet::new();
        for (key, value) in &self.env {
            let at = origin.env.get(key.as_str()).cloned().unwrap_or_else(|| path.join("env")).join(key);
            secrets.extend(value.secret().and_then(|secret| cx.secret(secret, &at, &project, Some(name))));
        }
        let at = origin.steps.clone().unwrap_or_else(|| path.clone()).join("steps");
        let mut planned = Vec::with_capacity(steps.len());
        let names = step::names(&steps);
        for (i, (step, step_name)) in steps.into_iter().zip(names).enumerate() {
            let at = at.join(i);
            for (key, value) in &step.env {
                let at = at.join("env").join(key);
                secrets
                    .extend(value.secret().and_then(|secret| cx.secret(secret, &at, &project, Some(name))));
            }
            planned.extend(step.check(step_name, cx, &at));
        }
        cache::plan(self.caches, self.per.is_some(), &mut planned);
        let plan = Plan {
            steps: planned,
            env: env_of(self.env),
            timeout_s: self.timeout.and_then(|limit| limit.0).map(seconds_up),
            on_lost: match self.on_lost {
                Some(RawOnLost::Fail) => OnLost::Fail,
                Some(RawOnLost::Retry) | None => OnLost::Retry,
            },
            retries: self.retries.unwrap_or(DEFAULT_RETRIES),
        };
        let codebases = codebases_of(&plan);
        Some(BuilderConfig {
            project,
            pools: self.pool.map(OneOrMany::into_vec).unwrap_or_default(),
            properties: self.properties,
            matrix: IndexMap::new(),
            locks: lock::shares(self.locks),
            supersede: self.supersede,
            approval: self.approval.map(RawApproval::check),
            plan,
            codebases,
            secrets: secrets.into_iter().collect(),
        })
    }
}

/// Variables that Rouse sets itself.
pub(crate) fn check_env(env: &IndexMap<EnvName, EnvValue>, cx: &mut Context<'_>, path: &Path) {
    for name in env.keys().filter(|name| name.starts_with(VARIABLE_PREFIX)) {
        let message = format!("`{name}` in `env` of {}: such names are for Rouse itself", cx.place(path));
        let fault = Fault::new(Code::BadName, cx.key(&path.join("env").join(name)), message);
        cx.push(fault.label(format!("give it a name that does not begin with `{VARIABLE_PREFIX}`")));
    }
}

pub(crate) fn env_of(env: IndexMap<EnvName, EnvValue>) -> BTreeMap<String, String> {
    env.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn codebases_of(plan: &Plan) -> Vec<CodebaseName> {
    let trees = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Checkout { trees } => Some(trees),
        _ => None,
    });
    let unique: IndexSet<CodebaseName> =
        trees.flatten().filter_map(|tree| tree.codebase.parse().ok()).collect();
    unique.into_iter().collect()
}

/// Where the parts of an inherited builder were written: paths of builders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    /// The builder itself, and all that it is like.
    pub(crate) line: Vec<Path>,
    pub(crate) steps: Option<Path>,
    /// Variable → the `env` map that it stands in.
    pub(crate) env: BTreeMap<String, Path>,
}
