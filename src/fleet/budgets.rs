//! How the budgets of pools stand: what is spent, and what is promised to the workers that are there.

use super::{Fleet, FleetError};
use crate::budgets::spent;
use crate::config::PoolConfig;
use crate::ctx::Active;
use rouse_model::budget::{Doing, Standing, TEARDOWN};
use rouse_model::build::Lease;
use rouse_model::money::Money;
use rouse_model::scaling::Purse;
use rouse_model::worker::{Phase, Wanted, Worker};
use rouse_model::{Timestamp, WorkerId};
use std::collections::HashMap;
use std::time::Duration;

/// A build is counted with so much at least, where nothing is said of it.
const LEAST: Duration = Duration::from_secs(30 * 60);

/// Of each pool that has a budget.
pub(super) type Budgets = HashMap<String, Counted>;

/// How a pool's budget stands.
#[derive(Debug)]
pub(super) struct Counted {
    /// The limit of which least is left.
    pub standing: Standing,
    /// What a build is counted with.
    pub build: Duration,
    /// So long a worker that is launched now is counted to be there.
    pub each: Duration,
}

impl Counted {
    pub(super) fn purse(&self) -> Purse {
        Purse { left: self.standing.left(), launch: self.standing.launch }
    }
}

impl Fleet {
    pub(super) async fn budgets(
        &self,
        active: &Active,
        workers: &[Worker],
        leases: &[Lease],
    ) -> Result<Budgets, FleetError> {
        let mut budgets = Budgets::new();
        let now = self.ctx.now();
        let building = latest_builds(leases);
        for (name, pool) in active.config.pools.iter().filter(|(_, pool)| !pool.budget.limits.is_empty()) {
            let name = name.as_str();
            let workers: Vec<&Worker> = workers.iter().filter(|worker| worker.pool == name).collect();
            let build = self.build_counts(name, pool).await?;
            let within = self.learned.attach_within(name).max(self.learned.resume_within(name));
            let promised = workers.iter().map(|worker| {
                if let Some(lies) = lies(worker, pool, now) {
                    return lies;
                }
                let rest = doing(worker, within, &building, now).rest(build, now);
                worker.price.over(rest) + spares(worker, building.contains_key(&worker.id), build, now)
            });
            let promised: Money = promised.sum();
            let each = within + build * ahead(pool.reuse.builds.into(), false) + TEARDOWN;
            let limits = spent(&self.ctx.store, &self.ledger, name, pool, &workers, now).await?;
            let tightest = limits.into_iter().min_by_key(|limit| limit.amount - limit.spent);
            budgets.extend(tightest.map(|tightest| {
                let (limit, until) = (tightest.limit.to_string(), tightest.until);
                let (amount, spent) = (tightest.amount, tightest.spent);
                let left = amount - spent - promised;
                let launch = self.next_price(name, pool, |price| price.over(each) <= left).over(each);
                let standing = Standing { limit, amount, spent, promised, launch, until };
                (name.to_owned(), Counted { standing, build, each })
            }));
        }
        Ok(budgets)
    }

    /// What a build in a pool is counted with.
    async fn build_counts(&self, name: &str, pool: &PoolConfig) -> Result<Duration, FleetError> {
        if let Some(build) = pool.budget.build {
            return Ok(build.0);
        }
        let mut longest = LEAST;
        for builder in self.learned.builders_of(name) {
            longest = longest.max(self.usual(&builder).await?.longest());
        }
        Ok(longest)
    }
}

/// What one that lies parked may still cost where nobody wants it: to lie for as long as it may, and to be ended.
fn lies(worker: &Worker, pool: &PoolConfig, now: Timestamp) -> Option<Money> {
    let park = pool.park.filter(|_| worker.is_parked())?;
    let Phase::Parked { since, .. } = worker.phase else { return None };
    let until = (since + park.length.0).min(worker.expires);
    Some(park.cost().min(worker.price).over(until.since(now)) + worker.price.over(TEARDOWN))
}

/// When the latest build of each worker began.
fn latest_builds(leases: &[Lease]) -> HashMap<WorkerId, Timestamp> {
    let mut latest = HashMap::new();
    for lease in leases {
        let since = latest.entry(lease.worker).or_insert(lease.since);
        *since = lease.since.max(*since);
    }
    latest
}

fn doing(
    worker: &Worker,
    within: Duration,
    building: &HashMap<WorkerId, Timestamp>,
    now: Timestamp,
) -> Doing {
    if let Wanted::Hold { until, .. } = worker.wanted {
        return Doing::Held { until };
    }
    match building.get(&worker.id) {
        Some(since) => Doing::Building { since: *since },
        None if worker.is_being_resumed() => {
            let since = match worker.phase {
                Phase::Resuming { since, .. } => since,
                _ => now,
            };
            Doing::Coming { since, within }
        }
        None if worker.attached.is_none() && worker.is_coming() => {
            // Its time begins when its provider has taken it.
            Doing::Coming { since: worker.accepted.unwrap_or(now), within }
        }
        None => Doing::Nothing,
    }
}

/// How many builds a worker that may still serve so many is reckoned with, beside one that it runs: the next, and the one after that, which it may be given
/// before anybody looks again. With one alone, no worker would be used a second time near the end of a budget.
fn ahead(uses: i64, busy: bool) -> u32 {
    u32::try_from(uses.min(if busy { 1 } else { 2 })).unwrap_or(0)
}

/// What is not spent where a worker is given no more builds.
pub(super) fn spares(worker: &Worker, busy: bool, build: Duration, now: Timestamp) -> Money {
    let takes_more = matches!(worker.wanted, Wanted::Run)
        && !matches!(worker.phase, Phase::Terminating { .. } | Phase::Gone { .. })
        && now < worker.expires;
    let uses = if takes_more { worker.max_builds - worker.builds_done } else { 0 };
    worker.price.over(build * ahead(uses, busy))
}
