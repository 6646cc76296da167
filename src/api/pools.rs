//! `/pools`: where work can run, what is there now, and what waits for it.

mod explain;
mod grants;
mod offers;

pub use explain::PoolExplanationView;
pub use grants::BudgetGrantView;
pub use offers::{OfferingView, RefusedView};

use super::AppState;
use super::auth::{Caller, Reader};
use super::error::ApiError;
use super::extract::At;
use super::listing::Listing;
use super::moment::{Moment, secs};
use super::requests::{CountsView, LaunchFailureView};
use super::words::{Trust, WorkerPhase};
use super::workers::{WorkerView, view as worker_view};
use crate::budgets::{Ledger, Spent, spent};
use crate::config::{Idle, PoolConfig};
use crate::explain::{Counts, usual_boot};
use axum::Json;
use axum::extract::State;
use rouse_model::build::Lease;
use rouse_model::buildset::Request;
use rouse_model::matching::{Offer, Requirement, fits};
use rouse_model::worker::Worker;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How much of the queue is looked at to tell a pool's demand.
const QUEUE_LOOK: i64 = 2_000;
/// How many failed launches are shown with a pool.
const FAILURES: usize = 10;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(explain::explain))
        .routes(routes!(grants::list, grants::grant))
}

/// Workers of one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    pub name: String,
    /// `docker`, `local`.
    pub kind: String,
    /// The accounts that it uses, in order.
    pub on: Vec<String>,
    pub min: u32,
    pub max: u32,
    /// Workers on their way at one time, at most; null where `max` alone is the limit.
    pub ramp: Option<u32>,
    /// Idle workers that are parked instead of ended, at most.
    pub park: usize,
    /// What one worker costs, as it is written: `0.17 USD/h`; null where nothing is counted.
    pub price: Option<String>,
    /// Builds that one worker runs at the same time.
    pub slots: u32,
    /// The least trust that it takes.
    pub accepts: Trust,
    /// Builds that one worker serves in all.
    pub reuse_builds: u32,
    /// Seconds that a worker may be idle; null where it is learned.
    pub reuse_idle: Option<f64>,
    /// Workers that are not gone.
    pub live: usize,
    pub counts: CountsView,
    /// Of the live ones, by what the provider has.
    pub phases: BTreeMap<WorkerPhase, usize>,
    /// Waiting requests that it can run; another pool may run them too.
    pub waiting: usize,
    /// Seconds that a launch usually takes: the median of the latest.
    pub usual_boot: Option<f64>,
}

/// A pool with its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolDetail {
    #[serde(flatten)]
    pub pool: PoolView,
    /// Those that are not gone, oldest first.
    pub workers: Vec<WorkerView>,
    /// What was spent of each limit of its budget.
    pub budget: Vec<SpentView>,
    /// What its workers may be launched as, in order; empty where there is nothing to choose.
    pub offerings: Vec<OfferingView>,
    /// What its accounts have refused lately of what it wants.
    pub refused: Vec<RefusedView>,
    /// Failed launches that waiting requests suffer from, newest first.
    pub failures: Vec<LaunchFailureView>,
    /// What the provider is given, templates as they were written.
    pub options: serde_json::Value,
}

/// What was spent of one limit of a budget, in the configuration's currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpentView {
    /// As it is written: `30.00 USD/day`.
    pub limit: String,
    /// That, with what is granted beyond it.
    pub amount: f64,
    pub spent: f64,
    /// When it begins anew.
    pub until: Moment,
}

impl From<Spent> for SpentView {
    fn from(spent: Spent) -> Self {
        Self {
            limit: spent.limit.to_string(),
            amount: spent.amount.as_f64(),
            spent: spent.spent.as_f64(),
            until: spent.until.into(),
        }
    }
}

/// What all pools are judged by.
struct Now {
    workers: Vec<Worker>,
    leases: Vec<Lease>,
    queue: Vec<Request>,
}

impl Now {
    async fn read(state: &AppState, caller: &Caller) -> Result<Self, ApiError> {
        let store = &state.ctx.store;
        let mut now = Self {
            workers: store.live_workers().await?,
            leases: store.leases().await?,
            queue: store.queue(QUEUE_LOOK).await?,
        };
        now.queue.retain(|request| caller.sees(&request.project));
        Ok(now)
    }
}

/// Pools with what they have and what waits for them
#[utoipa::path(get, path = "/pools", tag = "pools", responses((status = OK, body = Listing<PoolView>)))]
async fn list(
    Reader(caller): Reader,
    State(state): State<AppState>,
) -> Result<Json<Listing<PoolView>>, ApiError> {
    let now = Now::read(&state, &caller).await?;
    let active = state.ctx.config();
    let mut items = Vec::with_capacity(active.config.pools.len());
    for (name, config) in &active.config.pools {
        items.push(view(&state, &now, name.as_str(), config).await?);
    }
    Ok(Json(Listing::whole(items)))
}

/// A pool with its workers and what its launches suffer from
#[utoipa::path(get, path = "/pools/{name}", tag = "pools", params(("name" = String, Path)), responses((status = OK, body = PoolDetail)))]
async fn show(
    Reader(caller): Reader,
    At(name): At<String>,
    State(state): State<AppState>,
) -> Result<Json<PoolDetail>, ApiError> {
    let active = state.ctx.config();
    let config = active.config.pools.get(name.as_str());
    let config = config.ok_or_else(|| ApiError::not_found(format_args!("pool `{name}`")))?;
    let now = Now::read(&state, &caller).await?;
    let failures =
        now.queue.iter().flat_map(|request| &request.provision.failures).filter(|f| f.pool == name);
    let mut failures: Vec<_> = failures.cloned().collect();
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.at));
    failures.dedup();
    failures.truncate(FAILURES);
    let all: Vec<&Worker> = now.workers.iter().filter(|worker| worker.pool == name).collect();
    let spent = spent(&state.ctx.store, &Ledger::default(), &name, config, &all, state.ctx.now()).await?;
    let workers = all.iter().filter(|w| caller.sees(&w.project));
    Ok(Json(PoolDetail {
        pool: view(&state, &now, &name, config).await?,
        workers: workers.map(|worker| worker_view(worker, &now.leases)).collect(),
        failures: failures.into_iter().map(LaunchFailureView::from).collect(),
        budget: spent.into_iter().map(SpentView::from).collect(),
        offerings: offers::offerings(config),
        refused: offers::refused(&state.ctx.store, &name, config).await?,
        options: config.options.clone(),
    }))
}

async fn view(state: &AppState, now: &Now, name: &str, config: &PoolConfig) -> Result<PoolView, ApiError> {
    let mine = || now.workers.iter().filter(|w| w.pool == name);
    let mut phases = BTreeMap::new();
    for worker in mine() {
        *phases.entry(WorkerPhase::from(&worker.phase)).or_default() += 1;
    }
    let counts = Counts::of(mine(), &now.leases);
    let bounds = config.at(state.ctx.now());
    Ok(PoolView {
        name: name.to_owned(),
        kind: config.kind.clone(),
        on: config.on.iter().map(ToString::to_string).collect(),
        min: bounds.min,
        max: bounds.max,
        ramp: config.ramp,
        park: config.parks(),
        price: config.price.map(|price| price.to_string()),
        slots: config.slots,
        accepts: config.accepts.into(),
        reuse_builds: config.reuse.builds,
        reuse_idle: match config.reuse.idle {
            Idle::Auto => None,
            Idle::After(period) => Some(period.0.as_secs_f64()),
        },
        live: counts.live(),
        counts: counts.into(),
        phases,
        waiting: waiting(state, now, name, config),
        usual_boot: usual_boot(&state.ctx.store, name).await?.map(secs),
    })
}

/// Counted by the very judgement that matches them.
fn waiting(state: &AppState, now: &Now, name: &str, config: &PoolConfig) -> usize {
    let active = state.ctx.config();
    let offer = Offer { pool: name, accepts: config.accepts };
    let takes = |request: &&Request| {
        let Some(builder) = active.config.builders.get(request.builder.as_str()) else { return false };
        let pools: Vec<String> = builder.pools.iter().map(ToString::to_string).collect();
        fits(&Requirement { pools: &pools, project: &request.project, trust: request.trust }, &offer).is_ok()
    };
    now.queue.iter().filter(takes).count()
}
