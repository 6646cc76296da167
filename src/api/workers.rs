//! `/workers`: latent workers, from wish to gone.

mod end;
mod explain;
mod hold;
mod timeline;
mod view;

pub use explain::WorkerExplanationView;
pub(super) use view::view;
pub use view::{HeldView, WorkerDetail, WorkerView};

use super::AppState;
use super::auth::{Caller, Reader};
use super::builds::views;
use super::error::ApiError;
use super::extract::{Asked, At};
use super::listing::{Listing, page};
use axum::Json;
use axum::extract::State;
use rouse_model::worker::Worker;
use rouse_store::Page;
use rouse_store::reads::{BuildFilter, WorkerFilter};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(explain::explain))
        .routes(routes!(end::drain))
        .routes(routes!(end::cancel_drain))
        .routes(routes!(end::terminate))
        .routes(routes!(hold::hold))
        .routes(routes!(hold::release))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    pool: Option<String>,
    /// Only those that are not gone.
    live: bool,
    /// At most so many, 1 to 500; 50 where it is not given.
    limit: Option<i64>,
    /// Only what is older than this id.
    before: Option<i64>,
}

/// Workers, newest first
#[utoipa::path(get, path = "/workers", tag = "workers", params(Query), responses((status = OK, body = Listing<WorkerView>)))]
async fn list(
    Reader(caller): Reader,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<Listing<WorkerView>>, ApiError> {
    let page = page(query.limit, query.before)?;
    let filter = WorkerFilter { pool: query.pool, live: query.live };
    let rows = state.ctx.store.workers(&filter, page).await?;
    let leases = state.ctx.store.leases().await?;
    Ok(Json(Listing::of(rows, page, |w| w.id.0, |w| caller.sees(&w.project).then(|| view(&w, &leases)))))
}

/// A worker with its timeline, builds and console
#[utoipa::path(get, path = "/workers/{worker}", tag = "workers", params(("worker" = String, Path, description = "Its id or its name")),
    responses((status = OK, body = WorkerDetail)))]
async fn show(
    Reader(caller): Reader,
    At(which): At<String>,
    State(state): State<AppState>,
) -> Result<Json<WorkerDetail>, ApiError> {
    let worker = seen(&state, &caller, &which).await?;
    let store = &state.ctx.store;
    let leases = store.leases_of(worker.id).await?;
    let filter = BuildFilter { worker: Some(worker.id), ..BuildFilter::default() };
    let builds = store.builds(&filter, Page::default()).await?;
    let events = store.events_of_worker(worker.id).await?;
    Ok(Json(WorkerDetail {
        worker: view(&worker, &leases),
        timeline: timeline::timeline(&worker, &events, &builds),
        builds: views(&state.ctx, builds).await?,
        spec: serde_json::from_str(&worker.spec).unwrap_or_default(),
        facts: worker.facts.as_deref().and_then(|facts| serde_json::from_str(facts).ok()),
        console: worker.console.clone(),
        config: worker.config.0,
        attempt: worker.attempt,
        provider_ref: worker.provider_ref().map(|at| at.0.clone()),
    }))
}

/// The worker of an id or a name, for a caller who may see it.
async fn seen(state: &AppState, caller: &Caller, which: &str) -> Result<Worker, ApiError> {
    let what = format!("worker `{which}`");
    let store = &state.ctx.store;
    let found = match which.parse::<i64>() {
        Ok(id) => store.worker(id.into()).await?,
        Err(_) => store.worker_by_name(which).await?,
    };
    let worker = found.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&worker.project, &what)?;
    Ok(worker)
}
