//! Why: the one function that says why a request waits, from the same rows and the same predicate that the matcher and the scaler use.
//! The API, the CLI and the web UI show its answer and never make up one of their own.
//!
//! It only reads. [`request::judge`] is pure and is what the tests look at; [`explain_request`] gathers what it needs.

mod approval;
mod locks;
pub mod reason;
pub mod request;

pub use reason::{Reason, ReasonCode};
pub use request::{Coming, Counts, Explanation, PoolVerdict, Verdict};

use crate::ctx::Ctx;
use crate::placing::{self, Taken};
use request::{PoolFacts, Snapshot};
use rouse_model::RequestId;
use rouse_store::reads::WorkerFilter;
use rouse_store::{Page, ReadError, Store};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many waiting requests are looked at to say how many are ahead.
const QUEUE_LOOK: i64 = 2_000;
/// How many past workers of a pool are asked how long their boot took.
const BOOTS_LOOK: i64 = 50;

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
    let mut pools = Vec::with_capacity(config.pools.len());
    for (name, pool) in &config.pools {
        pools.push(PoolFacts {
            name: name.to_string(),
            accepts: pool.accepts,
            max: pool.max as usize,
            slots: pool.slots as usize,
            hosts: placing::hosts(config, pool, &taken),
            takes: pool.takes,
            boot: usual_boot(&ctx.store, name.as_str()).await?,
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
    let snapshot = Snapshot {
        needs: if locked { locks::needs(config) } else { BTreeMap::new() },
        holders: if locked { ctx.store.requests_with_locks().await? } else { Vec::new() },
        ended_as,
        named: builder.map(|b| b.pools.iter().map(ToString::to_string).collect()),
        pools,
        workers,
        leases: ctx.store.leases().await?,
        queue: ctx.store.queue(QUEUE_LOOK).await?,
        builders: config
            .builders
            .iter()
            .map(|(n, b)| (n.to_string(), b.pools.iter().map(ToString::to_string).collect()))
            .collect(),
        now: ctx.now(),
        request,
    };
    Ok(Some(request::judge(&snapshot)))
}

/// The median time from the wish for a worker to its agent's hello, over the pool's latest; `None` where none ever came.
///
/// # Errors
/// Where the store cannot be read.
pub async fn usual_boot(store: &Store, pool: &str) -> Result<Option<Duration>, ReadError> {
    let filter = WorkerFilter { pool: Some(pool.to_owned()), live: false };
    let latest = store.workers(&filter, Page { before: None, limit: BOOTS_LOOK }).await?;
    let mut boots: Vec<Duration> =
        latest.iter().filter_map(|w| Some(w.attached?.since(w.requested))).collect();
    boots.sort_unstable();
    Ok(boots.get(boots.len() / 2).copied())
}
