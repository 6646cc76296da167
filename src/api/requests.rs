//! `/requests`: wishes to build, and why they wait.

mod approve;
mod cancel;
mod explain;

pub use approve::{ApprovalView, ApprovedView};
pub use explain::{CountsView, ExplanationView, LaunchFailureView, StartView};

use super::AppState;
use super::auth::Reader;
use super::buildsets::{Cause, SourceView, causes};
use super::error::ApiError;
use super::extract::{Asked, At};
use super::listing::{Listing, page};
use super::moment::Moment;
use super::words::{BuildResult, RequestState, Trust};
use axum::Json;
use axum::extract::State;
use rouse_model::buildset::Request;
use rouse_store::reads::RequestFilter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use cancel::{Cancel, said, wish};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(approve::approve))
        .routes(routes!(cancel::cancel))
        .routes(routes!(explain::explain))
}

/// One wish to build one builder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestView {
    pub id: i64,
    pub buildset: i64,
    pub builder: String,
    pub project: String,
    pub state: RequestState,
    /// Higher first; then older first.
    pub priority: i64,
    pub created: Moment,
    /// Not matched before this moment.
    pub not_before: Option<Moment>,
    /// Attempts that were spent.
    pub attempts: i64,
    pub trust: Trust,
    /// Who wants it to end, and why.
    pub cancel: Option<String>,
    /// Null where it needs nobody's approval.
    pub approval: Option<ApprovalView>,
    /// The build that runs it or ran it last.
    pub build: Option<i64>,
    pub result: Option<BuildResult>,
    pub done: Option<Moment>,
    /// The config revision that made it.
    pub config: i64,
    /// For a person: `2 commits on main by alice`.
    pub reason: String,
    pub owner: Option<String>,
    pub scheduler: Option<String>,
    pub sources: Vec<SourceView>,
}

impl RequestView {
    pub(super) fn of(request: Request, cause: Cause) -> Self {
        Self {
            id: request.id.0,
            approval: ApprovalView::of(&request),
            buildset: request.buildset.0,
            builder: request.builder,
            project: request.project,
            state: request.state.into(),
            priority: request.priority,
            created: request.created.into(),
            not_before: request.not_before.map(Moment),
            attempts: request.attempts,
            trust: request.trust.into(),
            cancel: request.cancel,
            build: request.build.map(|id| id.0),
            result: request.result.map(BuildResult::from),
            done: request.done.map(Moment),
            config: request.config.0,
            reason: cause.reason,
            owner: cause.owner,
            scheduler: cause.scheduler,
            sources: cause.sources,
        }
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    builder: Option<String>,
    project: Option<String>,
    #[param(inline)]
    state: Option<RequestState>,
    buildset: Option<i64>,
    /// At most so many, 1 to 500; 50 where it is not given.
    limit: Option<i64>,
    /// Only what is older than this id.
    before: Option<i64>,
}

/// Requests, newest first
#[utoipa::path(get, path = "/requests", tag = "requests", params(Query), responses((status = OK, body = Listing<RequestView>)))]
async fn list(
    Reader(caller): Reader,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<Listing<RequestView>>, ApiError> {
    let page = page(query.limit, query.before)?;
    let filter = RequestFilter {
        builder: query.builder,
        project: caller.narrow(query.project),
        state: query.state.map(Into::into),
        buildset: query.buildset.map(Into::into),
    };
    let rows = state.ctx.store.requests(&filter, page).await?;
    let causes = causes(&state.ctx.store, rows.iter().map(|r| r.buildset)).await?;
    Ok(Json(Listing::of(
        rows,
        page,
        |r| r.id.0,
        |r| {
            let cause = causes.get(&r.buildset).cloned().unwrap_or_default();
            caller.sees(&r.project).then(|| RequestView::of(r, cause))
        },
    )))
}

/// One request
#[utoipa::path(get, path = "/requests/{id}", tag = "requests", params(("id" = i64, Path)), responses((status = OK, body = RequestView)))]
async fn show(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<RequestView>, ApiError> {
    let what = format!("request {id}");
    let request = state.ctx.store.request(id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&request.project, &what)?;
    Ok(Json(with_cause(&state, request).await?))
}

async fn with_cause(state: &AppState, request: Request) -> Result<RequestView, ApiError> {
    let mut causes = causes(&state.ctx.store, [request.buildset]).await?;
    let cause = causes.remove(&request.buildset).unwrap_or_default();
    Ok(RequestView::of(request, cause))
}
