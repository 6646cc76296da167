//! A worker on the wire: the four facts, and one word of all of them.

use super::timeline::MomentOfLife;
use crate::api::builds::BuildView;
use crate::api::moment::Moment;
use crate::api::words::{CauseCode, FailureClass, Trust, WorkerLink, WorkerPhase, WorkerState, WorkerWanted};
use rouse_model::build::Lease;
use rouse_model::worker::{Cause, Wanted, Worker};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A latent worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    pub id: i64,
    pub name: String,
    pub pool: String,
    /// The account that makes it.
    pub provider: String,
    /// Which of what its pool may be launched as it is; null where there is nothing to choose.
    pub offering: Option<String>,
    /// All four facts in one word.
    pub state: WorkerState,
    pub wanted: WorkerWanted,
    pub phase: WorkerPhase,
    pub link: WorkerLink,
    pub slots: i64,
    /// Builds on it now.
    pub running: Vec<i64>,
    pub builds_done: i64,
    /// After so many builds it ends.
    pub max_builds: i64,
    /// With the image, the class of builds that it may serve.
    pub project: String,
    pub trust: Trust,
    /// Digest of what was launched.
    pub spec_digest: String,
    /// Why it ended or is to end.
    pub cause: Option<CauseView>,
    /// Set while somebody holds it.
    pub held: Option<HeldView>,
    pub requested: Moment,
    pub accepted: Option<Moment>,
    pub attached: Option<Moment>,
    pub idle_since: Option<Moment>,
    pub gone: Option<Moment>,
    /// After this it takes no new work.
    pub expires: Moment,
}

/// A worker that is kept for somebody to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HeldView {
    /// Then it is let go by itself.
    pub until: Moment,
    /// Who, and why where that was said.
    pub by: String,
}

/// Why a worker ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CauseView {
    pub code: CauseCode,
    /// Set where it is a failure.
    pub class: Option<FailureClass>,
    pub message: String,
}

impl From<&Cause> for CauseView {
    fn from(cause: &Cause) -> Self {
        Self {
            code: cause.code.into(),
            class: cause.class.map(FailureClass::from),
            message: cause.message.clone(),
        }
    }
}

/// A worker with its life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerDetail {
    #[serde(flatten)]
    pub worker: WorkerView,
    /// Oldest first.
    pub timeline: Vec<MomentOfLife>,
    /// Newest first.
    pub builds: Vec<BuildView>,
    /// What was launched.
    pub spec: Value,
    /// What the agent said of its machine.
    pub facts: Option<Value>,
    /// The last lines that a failed instance printed.
    pub console: Option<String>,
    /// The config revision that it was launched under.
    pub config: i64,
    pub attempt: i64,
    /// The provider's own name of it.
    pub provider_ref: Option<String>,
}

/// `leases` may be of other workers too.
pub(in crate::api) fn view(worker: &Worker, leases: &[Lease]) -> WorkerView {
    let running: Vec<i64> = leases.iter().filter(|l| l.worker == worker.id).map(|l| l.build.0).collect();
    let held = match &worker.wanted {
        Wanted::Hold { until, by } => Some(HeldView { until: Moment(*until), by: by.clone() }),
        _ => None,
    };
    WorkerView {
        id: worker.id.0,
        name: worker.name.clone(),
        pool: worker.pool.clone(),
        provider: worker.provider.clone(),
        offering: worker.offering.clone(),
        state: WorkerState::of(worker, running.len()),
        wanted: (&worker.wanted).into(),
        phase: (&worker.phase).into(),
        link: (&worker.link).into(),
        slots: worker.slots,
        running,
        builds_done: worker.builds_done,
        max_builds: worker.max_builds,
        project: worker.project.clone(),
        trust: worker.trust.into(),
        spec_digest: worker.spec_digest.clone(),
        cause: worker.cause().map(CauseView::from),
        held,
        requested: worker.requested.into(),
        accepted: worker.accepted.map(Moment),
        attached: worker.attached.map(Moment),
        idle_since: worker.idle_since.map(Moment),
        gone: worker.gone.map(Moment),
        expires: worker.expires.into(),
    }
}
