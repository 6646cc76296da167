//! `/locks`: what builds share, who has it, and how many wait for it.

use super::AppState;
use super::auth::Reader;
use super::error::ApiError;
use super::listing::Listing;
use super::words::Trust;
use axum::Json;
use axum::extract::State;
use rouse_model::buildset::{Request, RequestState};
use rouse_model::locks::{Hold, Lock, Scope, Share};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How far down the queue is counted who waits.
const QUEUE_LOOK: i64 = 2_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A lock with those who have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LockView {
    pub name: String,
    /// So many may be taken at the same time.
    pub count: u32,
    /// Counted on each worker by itself.
    pub per_worker: bool,
    /// Counted for each branch by itself.
    pub per_branch: bool,
    /// The least trust of the builds that may take it.
    pub accepts: Trust,
    /// Those that the caller may see, oldest request first.
    pub held: Vec<HolderView>,
    /// Requests in the queue that need it and do not have it.
    pub waiting: usize,
}

/// Who has a lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HolderView {
    pub request: i64,
    /// Null as long as its worker is on its way.
    pub build: Option<i64>,
    pub builder: String,
    /// How much of it; null where it is all.
    pub count: Option<u32>,
    /// On which worker, where it is counted on each.
    pub worker: Option<i64>,
    /// Of which branch, where it is counted for each; empty for what is about none.
    pub branch: Option<String>,
}

/// Locks of the configuration in force
#[utoipa::path(get, path = "/locks", tag = "locks", responses((status = OK, body = Listing<LockView>)))]
async fn list(
    Reader(caller): Reader,
    State(state): State<AppState>,
) -> Result<Json<Listing<LockView>>, ApiError> {
    let active = state.ctx.config();
    let config = &active.config;
    if config.locks.is_empty() {
        return Ok(Json(Listing::whole(Vec::new())));
    }
    let holders = state.ctx.store.requests_with_locks().await?;
    let queue = state.ctx.store.queue(QUEUE_LOOK).await?;
    let view = |(name, lock): (&crate::config::LockName, &Lock)| {
        let has = |request: &Request| request.holds().iter().any(|hold| hold.lock == name.as_str());
        let needs = |request: &&Request| {
            let builder = config.builders.get(request.builder.as_str());
            builder.is_some_and(|builder| builder.locks.contains_key(name)) && !has(request)
        };
        let seen = holders.iter().filter(|request| caller.sees(&request.project));
        LockView {
            name: name.to_string(),
            count: lock.count,
            per_worker: lock.per == Scope::Worker,
            per_branch: lock.per == Scope::Branch,
            accepts: lock.accepts.into(),
            held: seen.flat_map(|request| holds(request, name.as_str())).collect(),
            waiting: queue.iter().filter(needs).count(),
        }
    };
    Ok(Json(Listing::whole(config.locks.iter().map(view).collect())))
}

fn holds(request: &Request, lock: &str) -> Vec<HolderView> {
    let of_lock = request.holds().iter().filter(|hold| hold.lock == lock);
    let view = |hold: &Hold| HolderView {
        request: request.id.0,
        build: request.build.filter(|_| request.state == RequestState::Claimed).map(|id| id.0),
        builder: request.builder.clone(),
        count: match hold.share {
            Share::Count(count) => Some(count),
            Share::Exclusive => None,
        },
        worker: hold.worker.map(|id| id.0),
        branch: hold.branch.clone(),
    };
    of_lock.map(view).collect()
}
