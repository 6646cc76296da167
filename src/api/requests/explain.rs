//! Why a request waits, on the wire.

use super::RequestView;
use crate::api::AppState;
use crate::api::auth::Reader;
use crate::api::error::ApiError;
use crate::api::extract::At;
use crate::api::moment::{Moment, secs};
use crate::api::words::FailureClass;
use crate::explain::{
    Coming, Counts, Explanation, PoolVerdict, Reason, ReasonCode, Start, Verdict, explain_request,
};
use axum::Json;
use axum::extract::State;
use rouse_model::buildset::{LaunchFailure, RequestState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request is where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplanationView {
    pub request: RequestView,
    /// Seconds since it was made, while it waits.
    pub waiting: Option<f64>,
    /// The one that matters most.
    pub primary: ReasonView,
    pub secondary: Vec<ReasonView>,
    /// Null where it does not wait for a worker alone, or nothing is known of how long that takes.
    pub starts: Option<StartView>,
    /// How each pool stands to it; empty once it does not wait any more.
    pub pools: Vec<PoolVerdictView>,
    /// Failed launches that stand in its way, newest last.
    pub failures: Vec<LaunchFailureView>,
    /// When this was true.
    pub checked_at: Moment,
}

/// When it is likely to start, in seconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StartView {
    /// As likely later as sooner.
    pub after: f64,
    /// Nine of ten are not later than this.
    pub at_worst: f64,
}

impl From<Start> for StartView {
    fn from(start: Start) -> Self {
        Self { after: secs(start.after), at_worst: secs(start.at_worst) }
    }
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReasonView {
    /// Stable; `docs/reference/reasons.md` explains each.
    pub code: String,
    /// Whole, for a person.
    pub sentence: String,
    /// Waiting alone will not help.
    pub permanent: bool,
    /// What to do about it.
    pub help: Option<String>,
    /// Where the docs explain it.
    pub docs: String,
}

/// How a pool stands to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolVerdictView {
    pub pool: String,
    /// Whether it can ever run it.
    pub fits: bool,
    /// What keeps it from running it now; null where it cannot ever.
    pub code: Option<String>,
    pub sentence: String,
    pub counts: CountsView,
    pub max: usize,
    /// Waiting requests ahead that it can run too.
    pub ahead: usize,
    /// Workers on their way that could serve it.
    pub coming: Vec<ComingView>,
    /// When this pool would likely run it.
    pub starts: Option<StartView>,
}

/// Workers that are not gone, each counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountsView {
    pub coming: usize,
    pub idle: usize,
    pub busy: usize,
    /// Up, but no agent answers.
    pub silent: usize,
    /// Stopped at their provider until work comes for them.
    pub parked: usize,
    /// Draining, held or ending.
    pub leaving: usize,
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        let Counts { coming, idle, busy, silent, parked, leaving } = counts;
        Self { coming, idle, busy, silent, parked, leaving }
    }
}

/// A worker on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComingView {
    pub name: String,
    /// Which of what its pool may be launched as it is; null where there is nothing to choose.
    pub offering: Option<String>,
    /// It was parked, and is being resumed.
    pub resumed: bool,
    /// Seconds since it was wished for, or wanted again.
    pub seconds: f64,
}

/// A launch that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaunchFailureView {
    pub worker: Option<i64>,
    pub pool: String,
    pub class: FailureClass,
    pub message: String,
    pub at: Moment,
}

impl From<LaunchFailure> for LaunchFailureView {
    fn from(failure: LaunchFailure) -> Self {
        Self {
            worker: failure.worker.map(|id| id.0),
            pool: failure.pool,
            class: failure.class.into(),
            message: failure.message,
            at: failure.at.into(),
        }
    }
}

/// Why a request waits
#[utoipa::path(get, path = "/requests/{id}/explain", tag = "requests", params(("id" = i64, Path)), responses((status = OK, body = ExplanationView)))]
pub(super) async fn explain(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<ExplanationView>, ApiError> {
    let what = format!("request {id}");
    let answer = explain_request(&state.ctx, id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&answer.request.project, &what)?;
    Ok(Json(view(&state, answer).await?))
}

async fn view(state: &AppState, answer: Explanation) -> Result<ExplanationView, ApiError> {
    let waits = matches!(answer.request.state, RequestState::Queued | RequestState::Unapproved);
    let waiting = waits.then(|| secs(answer.checked_at.since(answer.request.created)));
    Ok(ExplanationView {
        waiting,
        primary: answer.primary.into(),
        starts: answer.starts.map(StartView::from),
        secondary: answer.secondary.into_iter().map(ReasonView::from).collect(),
        pools: answer.pools.into_iter().map(PoolVerdictView::from).collect(),
        failures: answer.failures.into_iter().map(LaunchFailureView::from).collect(),
        checked_at: answer.checked_at.into(),
        request: super::with_cause(state, answer.request).await?,
    })
}

impl From<Reason> for ReasonView {
    fn from(reason: Reason) -> Self {
        Self {
            code: reason.code.as_str().to_owned(),
            sentence: reason.sentence,
            permanent: reason.code.is_permanent(),
            help: reason.help,
            docs: reason.code.docs(),
        }
    }
}

impl From<PoolVerdict> for PoolVerdictView {
    fn from(pool: PoolVerdict) -> Self {
        let code = match pool.verdict {
            Verdict::Never(_) => None,
            Verdict::Waits(code) => Some(ReasonCode::as_str(code).to_owned()),
        };
        Self {
            pool: pool.pool,
            fits: code.is_some(),
            code,
            sentence: pool.sentence,
            counts: pool.counts.into(),
            max: pool.max,
            ahead: pool.ahead,
            starts: pool.starts.map(StartView::from),
            coming: pool
                .coming
                .into_iter()
                .map(|Coming { name, offering, resumed, for_so_long }| ComingView {
                    name,
                    offering,
                    resumed,
                    seconds: secs(for_so_long),
                })
                .collect(),
        }
    }
}
