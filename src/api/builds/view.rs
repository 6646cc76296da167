//! A build on the wire.

use super::triggered::TriggeredView;
use crate::api::artifacts::ArtifactView;
use crate::api::buildsets::{Cause, SourceView, causes};
use crate::api::moment::{Moment, secs_of_micros};
use crate::api::requests::ApprovalView;
use crate::api::steps::StepView;
use crate::api::words::{BuildPhase, BuildResult, FailureClass, Trust};
use crate::ctx::Ctx;
use rouse_model::build::{Build, PhaseTimes};
use rouse_model::property::Properties;
use rouse_model::{Timestamp, WorkerId};
use rouse_store::ReadError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One attempt of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildView {
    pub id: i64,
    pub request: i64,
    pub buildset: i64,
    pub builder: String,
    pub project: String,
    /// Counted from 1 for each request.
    pub attempt: i64,
    pub phase: BuildPhase,
    /// Null while it runs.
    pub result: Option<BuildResult>,
    /// Set where an infrastructure failure ended it.
    pub class: Option<FailureClass>,
    /// For a person: what it does now, or why it ended so.
    pub summary: String,
    /// Why it was asked for: `2 commits on main by alice`.
    pub reason: String,
    pub owner: Option<String>,
    pub scheduler: Option<String>,
    pub sources: Vec<SourceView>,
    /// Null where no worker could be launched.
    pub worker: Option<WorkerRef>,
    pub trust: Trust,
    /// Who wants it to end, and why.
    pub cancel: Option<String>,
    /// The config revision that it keeps.
    pub config: i64,
    /// Hash of the plan that it keeps.
    pub plan: String,
    /// When its request was made.
    pub requested: Moment,
    /// When it got its worker.
    pub matched: Moment,
    pub started: Option<Moment>,
    pub finished: Option<Moment>,
    pub times: PhaseSeconds,
}

/// A worker by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerRef {
    pub id: i64,
    pub name: String,
    pub slot: i64,
}

/// Seconds in each phase, until now where it goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PhaseSeconds {
    pub queued: f64,
    /// Waiting for a worker to come up.
    pub provisioning: f64,
    pub preparing: f64,
    pub running: f64,
    pub finishing: f64,
    pub total: f64,
}

impl From<PhaseTimes> for PhaseSeconds {
    fn from(times: PhaseTimes) -> Self {
        let PhaseTimes { queued, provisioning, preparing, running, finishing } = times;
        Self {
            queued: secs_of_micros(queued),
            provisioning: secs_of_micros(provisioning),
            preparing: secs_of_micros(preparing),
            running: secs_of_micros(running),
            finishing: secs_of_micros(finishing),
            total: secs_of_micros(queued + provisioning + preparing + running + finishing),
        }
    }
}

/// A build with all that belongs to it but its logs' text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildDetail {
    #[serde(flatten)]
    pub build: BuildView,
    /// Who approved its request; null where that needs nobody's approval.
    pub approval: Option<ApprovalView>,
    /// The build that started it, or that it follows; null where it was asked for otherwise.
    pub parent: Option<i64>,
    /// Names of all steps of its plan, those not begun too.
    pub planned: Vec<String>,
    pub steps: Vec<StepView>,
    /// What its steps have started.
    pub triggered: Vec<TriggeredView>,
    pub properties: Vec<PropertyView>,
    pub artifacts: Vec<ArtifactView>,
}

/// A property with where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PropertyView {
    pub name: String,
    pub value: Value,
    /// `scheduler push`, `force by alice`.
    pub source: String,
    /// Set by, or derived from, something untrusted.
    pub tainted: bool,
}

pub(in crate::api) fn properties(properties: &Properties) -> Vec<PropertyView> {
    let view = |(name, p): (&String, &rouse_model::property::Property)| PropertyView {
        name: name.clone(),
        value: p.value.clone(),
        source: p.source.clone(),
        tainted: p.tainted,
    };
    properties.0.iter().map(view).collect()
}

/// Views of builds, with two more reads for all of them.
pub(in crate::api) async fn views(ctx: &Ctx, builds: Vec<Build>) -> Result<Vec<BuildView>, ReadError> {
    let causes = causes(&ctx.store, builds.iter().map(|b| b.buildset)).await?;
    let ids: Vec<WorkerId> = builds.iter().filter_map(|b| b.worker).collect();
    let names: BTreeMap<WorkerId, String> =
        ctx.store.workers_by_id(&ids).await?.into_iter().map(|w| (w.id, w.name)).collect();
    let now = ctx.now();
    let view = |build: Build| {
        let cause = causes.get(&build.buildset).cloned().unwrap_or_default();
        let name = build.worker.and_then(|id| names.get(&id)).cloned();
        view(build, cause, name, now)
    };
    Ok(builds.into_iter().map(view).collect())
}

fn view(build: Build, cause: Cause, worker: Option<String>, now: Timestamp) -> BuildView {
    BuildView {
        id: build.id.0,
        request: build.request.0,
        buildset: build.buildset.0,
        attempt: build.attempt,
        phase: build.visible_phase().into(),
        result: build.result.map(BuildResult::from),
        class: build.class.map(FailureClass::from),
        times: build.phase_times(now).into(),
        worker: build.worker.map(|id| WorkerRef {
            id: id.0,
            name: worker.unwrap_or_default(),
            slot: build.slot,
        }),
        builder: build.builder,
        project: build.project,
        summary: build.summary,
        reason: cause.reason,
        owner: cause.owner,
        scheduler: cause.scheduler,
        sources: cause.sources,
        trust: build.trust.into(),
        cancel: build.cancel,
        config: build.config.0,
        plan: build.plan,
        requested: build.requested.into(),
        matched: build.matched.into(),
        started: build.running_from.map(Moment),
        finished: build.finished.map(Moment),
    }
}
