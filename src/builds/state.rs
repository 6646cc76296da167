//! All that a driver knows of its build, read from the store: at its start, and again whenever a commit was refused.

use super::action::Memory;
use super::announced::Foretold;
use super::given::Given;
use crate::config::BuilderConfig;
use crate::ctx::Ctx;
use crate::render::Scope;
use crate::switchboard::Matched;
use rouse_model::build::{Build, Command, CommandState, Step};
use rouse_model::buildset::Request;
use rouse_model::failure::FailureClass;
use rouse_model::plan::{OnLost, Plan, PlannedStep, Recorded};
use rouse_model::source::SourceStamp;
use rouse_model::trace::Origin;
use rouse_model::worker::Worker;
use rouse_model::{BuildId, BuildResult};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Why a build cannot be driven now.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriveError {
    #[error("build {0} is not on record")]
    NoBuild(BuildId),
    #[error("build {0} refers to what is not on record: {1}")]
    Missing(BuildId, &'static str),
    #[error("read the build")]
    Read(#[from] rouse_store::ReadError),
    #[error("record the build")]
    Commit(#[from] rouse_store::CommitError),
    #[error("the build's plan cannot be read")]
    Plan(#[source] serde_json::Error),
    #[error("the build's configuration cannot be read")]
    Config(#[from] crate::revisions::RevisionError),
    #[error("the build's log cannot be closed")]
    Log(#[from] crate::logs::LogError),
    #[error("what the build has sent cannot be read")]
    Artifact(#[from] crate::artifacts::ReceiveError),
}

/// One build, as it stands.
#[derive(Debug)]
pub(super) struct State {
    pub build: Build,
    pub plan: Plan,
    /// The builder under the build's own revision.
    pub config: Arc<crate::ctx::Active>,
    pub worker: Worker,
    pub request: Request,
    pub stamps: Vec<SourceStamp>,
    pub parent: Option<BuildId>,
    pub scope: Scope,
    pub steps: Vec<Step>,
    pub commands: Vec<Command>,
    pub given: Given,
    /// Of its steps that start builds, those that had not begun when it was read.
    pub foretold: Vec<Foretold>,
    /// When its time is up, on this process's own clock.
    pub ends: Option<Instant>,
    /// The installation and its epoch, where the build will be told as a trace.
    pub traced: Option<(String, i64)>,
}

impl State {
    /// As it stands on record.
    pub(super) async fn load(ctx: &Ctx, id: BuildId) -> Result<Self, DriveError> {
        let store = &ctx.store;
        let build = store.build(id).await?.ok_or(DriveError::NoBuild(id))?;
        let plan = store.plan(&build.plan).await?.ok_or(DriveError::Missing(id, "its plan"))?;
        let plan: Plan = serde_json::from_str(&plan.body).map_err(DriveError::Plan)?;
        let request = store.request(build.request).await?.ok_or(DriveError::Missing(id, "its request"))?;
        let worker = build.worker.ok_or(DriveError::Missing(id, "its worker"))?;
        let worker = store.worker(worker).await?.ok_or(DriveError::Missing(id, "its worker"))?;
        let mut state = Self::of(ctx, Matched { build, plan, request, worker }).await?;
        state.scope.props.extend(&store.build_properties(id).await?);
        state.steps = store.steps(id).await?;
        state.commands = store.commands(id).await?;
        state.given = Given::by(&state.commands);
        Ok(state)
    }

    /// Of a build that has no steps and no properties of its own yet.
    pub(super) async fn of(ctx: &Ctx, matched: Matched) -> Result<Self, DriveError> {
        let Matched { build, plan, request, worker } = matched;
        let config = ctx.revisions.get(build.config).await?;
        let builder = builder_of(&config, &build).ok_or(DriveError::Missing(build.id, "its builder"))?;
        let wish = crate::specs::wish(&ctx.store, builder, request)
            .await?
            .ok_or(DriveError::Missing(build.id, "its buildset"))?;
        let mut scope = wish.scope;
        scope.worker = Some(worker_scope(&worker));
        let ends = plan.timeout_s.map(Duration::from_secs).map(|limit| {
            let left = (build.matched + limit).since(ctx.now()).min(limit);
            Instant::now() + left
        });
        let facts = ctx.store.facts();
        let is_traced = config.config.server.telemetry.as_ref().is_some_and(|to| to.traces);
        Ok(Self {
            build,
            plan,
            traced: is_traced.then(|| (facts.installation.clone(), facts.store_epoch)),
            config: Arc::clone(&config),
            worker,
            request: wish.request,
            stamps: wish.stamps,
            parent: wish.buildset.parent,
            scope,
            steps: Vec::new(),
            commands: Vec::new(),
            given: Given::default(),
            foretold: Vec::new(),
            ends,
        })
    }

    /// The step that has begun and not ended, with its part of the plan.
    pub(super) fn open_step(&self) -> Option<(usize, &PlannedStep)> {
        let index = self.steps.iter().position(|s| s.finished.is_none())?;
        self.plan.steps.get(index).map(|planned| (index, planned))
    }

    /// Where spans of what runs in the open step belong.
    pub(super) fn traceparent(&self) -> Option<String> {
        let (installation, epoch) = self.traced.as_ref()?;
        let (index, _) = self.open_step()?;
        let origin = Origin { installation, epoch: *epoch };
        Some(origin.traceparent(self.build.request, self.steps[index].id))
    }

    /// Whether a stop as `result` concerns the open step. One that was begun after it, as it is marked `always`, runs to its own end.
    pub(super) fn is_stopped_by(&self, result: BuildResult) -> bool {
        let Some((index, _)) = self.open_step() else { return true };
        Memory::of(&self.steps[index]).stopped != Some(result)
    }

    /// Why nothing of the build may be done once more, where that is so. `class` is what it is to be retried for, if for infrastructure's sake.
    pub(super) fn forbids_retry(&self, class: Option<FailureClass>) -> Option<String> {
        let ran = |step: &&Step| {
            self.commands.iter().any(|command| command.step == step.id) || Memory::of(step).trigger.is_some()
        };
        let once = self.steps.iter().filter(ran).find(|step| {
            let index = usize::try_from(step.seq).unwrap_or(usize::MAX);
            self.plan.steps.get(index).is_some_and(|planned| !planned.repeatable)
        });
        if let Some(step) = once {
            return Some(format!("not retried: step `{}` is not repeatable", step.name));
        }
        let infrastructure = class.is_some_and(|class| class != FailureClass::User);
        let fail = infrastructure && self.plan.on_lost == OnLost::Fail;
        fail.then(|| "not retried: the builder has `on_lost: fail`".to_owned())
    }

    pub(super) fn recorded(&self) -> Vec<Recorded> {
        self.steps.iter().filter_map(|s| Some(Recorded { result: s.result?, class: s.class })).collect()
    }

    /// Whether the worker's agent says that it has the feature.
    pub(super) fn knows(&self, feature: &str) -> bool {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Known {
            features: Vec<String>,
        }
        let facts = self.worker.facts.as_deref();
        let known = facts.and_then(|facts| serde_json::from_str::<Known>(facts).ok());
        known.unwrap_or_default().features.iter().any(|known| known == feature)
    }

    /// The command that the agent was asked to run and whose outcome is not recorded.
    pub(super) fn outstanding(&self) -> Option<&Command> {
        self.commands.iter().find(|c| c.state == CommandState::Wanted)
    }

    /// The open step's commands, in order.
    pub(super) fn commands_of(&self, index: usize) -> Vec<&Command> {
        let step = self.steps[index].id;
        self.commands.iter().filter(|c| c.step == step).collect()
    }
}

/// The builder of a build under the revision that it was matched under.
pub(super) fn builder_of<'a>(config: &'a crate::ctx::Active, build: &Build) -> Option<&'a BuilderConfig> {
    config.config.builders.get(build.builder.as_str())
}

fn worker_scope(worker: &Worker) -> std::collections::BTreeMap<String, Value> {
    let facts: Value =
        worker.facts.as_deref().and_then(|f| serde_json::from_str(f).ok()).unwrap_or(Value::Null);
    let mut scope: std::collections::BTreeMap<String, Value> = facts
        .as_object()
        .map(|o| o.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        .unwrap_or_default();
    scope.insert("name".into(), worker.name.clone().into());
    scope.insert("pool".into(), worker.pool.clone().into());
    scope
}
