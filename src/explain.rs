//! Why: the one function that says why a request waits, from the same rows and the same predicate that the matcher and the scaler use.
//! The API, the CLI and the web UI show its answer and never make up one of their own.
//!
//! It only reads. [`request::judge`] and [`worker::judge`] are pure and are what the tests look at; [`explain_request`] and [`explain_worker`] gather
//! what they need. Why a pool has as many workers as it has stands in the fleet's decisions, which [`decision`] puts in words.

mod approval;
mod counts;
pub mod decision;
mod locks;
pub mod reason;
pub mod request;
mod starts;
pub mod worker;

pub use counts::Counts;
pub use reason::{Reason, ReasonCode};
pub use request::{Coming, Explanation, PoolVerdict, Verdict};
pub use starts::Start;
pub use worker::{WorkerCode, WorkerExplanation};

use crate::config::PoolConfig;
use crate::ctx::Ctx;
use crate::placing::{self, Taken};
use request::{PoolFacts, Snapshot};
use rouse_model::budget::Standing;
use rouse_model::build::{Lease, waiting_workers};
use rouse_model::decision::DecisionCode;
use rouse_model::durations::nine_of_ten;
use rouse_model::worker::Worker;
use rouse_model::{BuildId, BuildResult, RequestId, Timestamp, WorkerId};
use rouse_store::reads::{BuildFilter, WorkerFilter};
use rouse_store::{Page, ReadError, Store};
use starts::RunningBuild;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use worker::{PoolRules, WorkerSnapshot};

/// How many waiting requests are looked at to say how many are ahead.
const QUEUE_LOOK: i64 = 2_000;
/// How many past workers of a pool are asked how long their boot took.
const BOOTS_LOOK: i64 = 50;
/// How many builds of a builder are asked how long they took.
const BUILDS_LOOK: i64 = 100;
/// How many builds that run are looked at to say when a worker falls free.
const RUNNING_LOOK: usize = 200;

/// Why a request waits, or what became of it; `None` where there is no such request.
///
/// # Errors
/// Where the store cannot be read.
pub async fn explain_request(ctx: &Ctx, id: RequestId) -> Result<Option<Explanation>, ReadError> {
    let Some(request) = ctx.store.request(id).await? else { return Ok(None) };
    let active = ctx.config();
    let config = &active.config;
    let workers = ctx.store.live_workers().await?;
    let taken = Taken::by(config, &workers);
    let leases = ctx.store.leases().await?;
    let waiting = waiting_workers(&leases, &ctx.store.waiting_builds().await?);
    let mut pools = Vec::with_capacity(config.pools.len());
    let now = ctx.now();
    for (name, pool) in &config.pools {
        pools.push(PoolFacts {
            name: name.to_string(),
            accepts: pool.accepts,
            max: pool.at(now).max as usize,
            beside_max: (workers.iter())
                .filter(|w| w.pool == name.as_str() && waiting.contains(&w.id))
                .count()
                .min(pool.beside_max()),
            slots: pool.slots as usize,
            hosts: placing::hosts(config, pool, &taken),
            takes: pool.takes,
            boots: boots(&ctx.store, name.as_str()).await?,
            spent: spent(&ctx.store, name.as_str(), pool).await?,
        });
    }
    let builder = config.builders.get(request.builder.as_str());
    let ended_as = match request.build {
        Some(build) if request.result.is_some_and(|result| !result.is_good()) => {
            ctx.store.build(build).await?.map(|build| build.summary)
        }
        _ => None,
    };
    let locked = builder.is_some_and(|builder| !builder.locks.is_empty());
    let full = pools
        .iter()
        .filter(|pool| workers.iter().filter(|w| w.pool == pool.name).count() >= pool.max + pool.beside_max);
    let full: HashSet<&str> = full.map(|pool| pool.name.as_str()).collect();
    let running = running(ctx, &full, &workers, &leases, now).await?;
    let snapshot = Snapshot {
        needs: if locked { locks::needs(config) } else { BTreeMap::new() },
        holders: if locked { ctx.store.requests_with_locks().await? } else { Vec::new() },
        ended_as,
        named: builder.map(|b| b.pools.iter().map(ToString::to_string).collect()),
        pools,
        workers,
        leases,
        running,
        queue: ctx.store.queue(QUEUE_LOOK).await?,
        builders: config
            .builders
            .iter()
            .map(|(n, b)| (n.to_string(), b.pools.iter().map(ToString::to_string).collect()))
            .collect(),
        now,
        request,
    };
    Ok(Some(request::judge(&snapshot)))
}

/// Why a worker is there, or is not any more.
///
/// # Errors
/// Where the store cannot be read.
pub async fn explain_worker(ctx: &Ctx, worker: Worker) -> Result<WorkerExplanation, ReadError> {
    let store = &ctx.store;
    let active = ctx.config();
    let boots = boots(store, &worker.pool).await?;
    let pool = active.config.pools.get(worker.pool.as_str()).map(|pool| PoolRules {
        min: pool.at(ctx.now()).min as usize,
        idle: pool.reuse.idle_for(nine_of_ten(boots.clone())),
        boot: median(&boots),
    });
    let live = store.live_workers().await?;
    let snapshot = WorkerSnapshot {
        leases: store.leases_of(worker.id).await?,
        queue: store.queue(QUEUE_LOOK).await?,
        pool,
        live: live.iter().filter(|w| w.pool == worker.pool).count(),
        last: store.decisions(&worker.pool, Page { before: None, limit: 1 }).await?.pop(),
        now: ctx.now(),
        worker,
    };
    let (code, sentence) = worker::judge(&snapshot);
    let WorkerSnapshot { worker, leases, now, .. } = snapshot;
    let launched_by = match worker.decision {
        Some(id) => store.decision(id).await?,
        None => None,
    };
    let ended_by = match worker.cause().and_then(|cause| cause.decision) {
        Some(id) => store.decision(id).await?,
        None => None,
    };
    Ok(WorkerExplanation { worker, leases, code, sentence, launched_by, ended_by, checked_at: now })
}

/// What runs on the workers of these pools, and how long builds like it took.
async fn running(
    ctx: &Ctx,
    pools: &HashSet<&str>,
    workers: &[Worker],
    leases: &[Lease],
    now: Timestamp,
) -> Result<BTreeMap<BuildId, RunningBuild>, ReadError> {
    let of_pools: HashSet<WorkerId> =
        workers.iter().filter(|w| pools.contains(w.pool.as_str())).map(|w| w.id).collect();
    let mut running = BTreeMap::new();
    let mut usual: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for lease in leases.iter().filter(|lease| of_pools.contains(&lease.worker)).take(RUNNING_LOOK) {
        let Some(build) = ctx.store.build(lease.build).await? else { continue };
        let usual = match usual.entry(build.builder) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let took = took(&ctx.store, unknown.key()).await?;
                unknown.insert(took)
            }
        };
        let for_so_long = now.since(build.matched);
        running.insert(build.id, RunningBuild { for_so_long, usual: usual.clone() });
    }
    Ok(running)
}

/// How long a builder's latest builds took that came to an end of their own, shortest first.
async fn took(store: &Store, builder: &str) -> Result<Vec<Duration>, ReadError> {
    let filter = BuildFilter { builder: Some(builder.to_owned()), ..BuildFilter::default() };
    let latest = store.builds(&filter, Page { before: None, limit: BUILDS_LOOK }).await?;
    let own = latest.iter().filter(|build| build.result.is_some_and(BuildResult::is_builds_own));
    let mut took: Vec<Duration> =
        own.filter_map(|build| Some(build.finished?.since(build.matched))).collect();
    took.sort_unstable();
    Ok(took)
}

/// The times from the wish for a worker to its agent's hello, of the pool's latest, shortest first.
async fn boots(store: &Store, pool: &str) -> Result<Vec<Duration>, ReadError> {
    let filter = WorkerFilter { pool: Some(pool.to_owned()), live: false };
    let latest = store.workers(&filter, Page { before: None, limit: BOOTS_LOOK }).await?;
    let mut boots: Vec<Duration> =
        latest.iter().filter_map(|w| Some(w.attached?.since(w.requested))).collect();
    boots.sort_unstable();
    Ok(boots)
}

/// How the budget of a pool stands, where that is what the fleet came to last.
async fn spent(store: &Store, name: &str, pool: &PoolConfig) -> Result<Option<Standing>, ReadError> {
    if pool.budget.limits.is_empty() {
        return Ok(None);
    }
    let last = store.decisions(name, Page { before: None, limit: 1 }).await?.pop();
    Ok(last.filter(|last| last.code == DecisionCode::Budget).and_then(|last| last.reckoning.budget))
}

fn median(sorted: &[Duration]) -> Option<Duration> {
    sorted.get(sorted.len() / 2).copied()
}

/// The median time from the wish for a worker to its agent's hello, over the pool's latest; `None` where none ever came.
///
/// # Errors
/// Where the store cannot be read.
pub async fn usual_boot(store: &Store, pool: &str) -> Result<Option<Duration>, ReadError> {
    Ok(median(&boots(store, pool).await?))
}
