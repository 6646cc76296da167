//! `/builds`: attempts on attached workers, with their steps, times, properties and files.

mod rebuild;
mod stop;
mod triggered;
mod view;

pub use triggered::TriggeredView;
pub use view::{BuildDetail, BuildView, PhaseSeconds, PropertyView};
pub(super) use view::{properties, views};

use super::AppState;
use super::artifacts::{ArtifactView, shown};
use super::auth::Reader;
use super::error::ApiError;
use super::extract::{Asked, At};
use super::listing::{Listing, page};
use super::logs::LogView;
use super::requests::ApprovalView;
use super::steps::StepView;
use super::words::BuildResult;
use axum::Json;
use axum::extract::State;
use rouse_model::build::Build;
use rouse_model::plan::Plan;
use rouse_store::reads::BuildFilter;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(steps))
        .routes(routes!(logs))
        .routes(routes!(artifacts))
        .routes(routes!(stop::cancel))
        .routes(routes!(rebuild::rebuild))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    builder: Option<String>,
    /// Of the first codebase that the builder checks out.
    branch: Option<String>,
    project: Option<String>,
    request: Option<i64>,
    worker: Option<i64>,
    #[param(inline)]
    result: Option<BuildResult>,
    /// Only those that are not finished.
    open: bool,
    /// At most so many, 1 to 500; 50 where it is not given.
    limit: Option<i64>,
    /// Only what is older than this id.
    before: Option<i64>,
}

/// Builds, newest first
#[utoipa::path(get, path = "/builds", tag = "builds", params(Query), responses((status = OK, body = Listing<BuildView>)))]
async fn list(
    Reader(caller): Reader,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<Listing<BuildView>>, ApiError> {
    let page = page(query.limit, query.before)?;
    let filter = BuildFilter {
        builder: query.builder,
        branch: query.branch,
        project: caller.narrow(query.project),
        request: query.request.map(Into::into),
        worker: query.worker.map(Into::into),
        result: query.result.map(Into::into),
        open: query.open,
    };
    let rows = state.ctx.store.builds(&filter, page).await?;
    let next = Listing::of(rows.clone(), page, |b| b.id.0, Some).next;
    let items = views(&state.ctx, rows).await?;
    Ok(Json(Listing { items, next }))
}

/// The build, for a caller who may see it.
pub(super) async fn seen(state: &AppState, caller: &super::auth::Caller, id: i64) -> Result<Build, ApiError> {
    let what = format!("build {id}");
    let build = state.ctx.store.build(id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&build.project, &what)?;
    Ok(build)
}

/// A build with its steps, times, properties and files
#[utoipa::path(get, path = "/builds/{id}", tag = "builds", params(("id" = i64, Path)), responses((status = OK, body = BuildDetail)))]
async fn show(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<BuildDetail>, ApiError> {
    let build = seen(&state, &caller, id).await?;
    let store = &state.ctx.store;
    let (id, plan) = (build.id, build.plan.clone());
    let logs = store.logs_of(id).await?;
    let now = state.ctx.now();
    let planned = store.plan(&plan).await?.and_then(|row| serde_json::from_str::<Plan>(&row.body).ok());
    let steps = store.steps(id).await?;
    let artifacts = shown(store.artifacts(id).await?);
    let carried = store.build_properties(id).await?;
    let request = store.request(build.request).await?;
    let parent = store.buildset(build.buildset).await?.and_then(|buildset| buildset.parent);
    let triggered = triggered::by(store, id).await?;
    let build = views(&state.ctx, vec![build]).await?.pop();
    Ok(Json(BuildDetail {
        approval: request.as_ref().and_then(ApprovalView::of),
        build: build.ok_or_else(|| ApiError::not_found(format_args!("build {id}")))?,
        parent: parent.map(|parent| parent.0),
        planned: planned
            .map(|plan| plan.steps.into_iter().map(|step| step.name).collect())
            .unwrap_or_default(),
        steps: steps.into_iter().map(|step| StepView::of(step, &logs, now)).collect(),
        triggered,
        properties: properties(&carried),
        artifacts: artifacts.iter().map(ArtifactView::from).collect(),
    }))
}

/// A build's steps, in the order of its plan
#[utoipa::path(get, path = "/builds/{id}/steps", tag = "builds", params(("id" = i64, Path)), responses((status = OK, body = Listing<StepView>)))]
async fn steps(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<Listing<StepView>>, ApiError> {
    let build = seen(&state, &caller, id).await?;
    let logs = state.ctx.store.logs_of(build.id).await?;
    let steps = state.ctx.store.steps(build.id).await?;
    let now = state.ctx.now();
    Ok(Json(Listing::whole(steps.into_iter().map(|step| StepView::of(step, &logs, now)).collect())))
}

/// A build's logs
#[utoipa::path(get, path = "/builds/{id}/logs", tag = "builds", params(("id" = i64, Path)), responses((status = OK, body = Listing<LogView>)))]
async fn logs(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<Listing<LogView>>, ApiError> {
    let build = seen(&state, &caller, id).await?;
    let logs = state.ctx.store.logs_of(build.id).await?;
    Ok(Json(Listing::whole(logs.iter().map(LogView::from).collect())))
}

/// Files kept from a build
#[utoipa::path(get, path = "/builds/{id}/artifacts", tag = "builds", params(("id" = i64, Path)), responses((status = OK, body = Listing<ArtifactView>)))]
async fn artifacts(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<Listing<ArtifactView>>, ApiError> {
    let build = seen(&state, &caller, id).await?;
    let artifacts = shown(state.ctx.store.artifacts(build.id).await?);
    Ok(Json(Listing::whole(artifacts.iter().map(ArtifactView::from).collect())))
}
