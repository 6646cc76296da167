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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::lone::Lone;
    use rouse_model::money::Price;
    use rouse_model::worker::{Cause, CauseCode, LaunchToken, ProviderRef};
    use rouse_store::testing::samples;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn seconds(of: u64) -> Duration {
        Duration::from_secs(of)
    }

    #[test]
    fn only_one_that_is_wanted_and_has_not_come_is_on_its_way() {
        let (within, now) = (seconds(120), at(1_000));
        let booting = || Phase::Booting { at: ProviderRef("1".into()), deadline: at(2_000) };
        let worker = |phase, attached: Option<i64>| Worker {
            phase,
            attached: attached.map(at),
            accepted: Some(at(940)),
            ..samples::worker(1)
        };
        let of = |worker: Worker| doing(&worker, within, &HashMap::new(), now);
        let coming = Doing::Coming { since: at(940), within };
        assert_eq!(of(worker(booting(), None)), coming);
        let asked = Phase::Launching { token: LaunchToken("t".into()), since: at(940), deadline: at(2_000) };
        assert_eq!(of(worker(asked, None)), coming);
        assert_eq!(of(worker(Phase::Up { at: ProviderRef("1".into()) }, Some(950))), Doing::Nothing);
        // Its agent came before its provider had said so.
        assert_eq!(of(worker(booting(), Some(950))), Doing::Nothing);
        let cause = Cause::new(CauseCode::Idle, None, "nothing waits for it");
        let ends = Worker { wanted: Wanted::End { cause }, ..worker(booting(), None) };
        assert_eq!(of(ends), Doing::Nothing);
    }

    #[test]
    fn a_worker_may_cost_what_it_may_still_be_given_to_do() {
        let build = seconds(3_600);
        let worker = |max_builds, builds_done, expires| Worker {
            price: Price(1_000),
            max_builds,
            builds_done,
            expires: at(expires),
            phase: Phase::Up { at: ProviderRef("1".into()) },
            ..samples::worker(1)
        };
        let spares = |worker: Worker, busy| spares(&worker, busy, build, at(1_000)).0;
        assert_eq!((spares(worker(9, 2, 2_000), false), spares(worker(9, 2, 2_000), true)), (2_000, 1_000));
        assert_eq!((spares(worker(9, 8, 2_000), false), spares(worker(9, 9, 2_000), false)), (1_000, 0));
        assert_eq!(spares(worker(9, 2, 1_000), false), 0, "it takes none from now on");
        let drains = Wanted::Drain { cause: Cause::new(CauseCode::Idle, None, "nothing waits for it") };
        assert_eq!(spares(Worker { wanted: drains, ..worker(9, 2, 2_000) }, false), 0);
    }

    const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {cloud: "127.0.0.1:1"}}}
providers: {there: {fake: {}}}
pools:
  cloud:
    fake:
      on: there
      image: "debian:12"
      offers: [{types: [{name: large, price: 6 USD/h}]}, {types: [{name: small, price: 1 USD/h}]}]
    budget: {limits: [4 USD/h, 10 USD/day], build: 30m}
builders: {unit: {pool: cloud, steps: [{run: make}]}}
"#;

    #[tokio::test(start_paused = true)]
    async fn the_limit_counts_of_which_least_is_left_and_pays_for_what_is_promised_first() {
        let lone = Lone::of(CONFIG).await;
        let (now, minute) = (lone.now(), seconds(60));
        let cause = Cause::new(CauseCode::Idle, None, "nothing waits for it");
        // Fifty minutes of 7.92, in the hour before this one.
        let gone = Worker {
            price: Price(7_920_000),
            accepted: Some(now - minute * 60),
            gone: Some(now - minute * 10),
            phase: Phase::Gone { cause },
            ..lone.worker(1, "cloud", "there")
        };
        let idle = Worker {
            price: Price(1_000_000),
            accepted: Some(now),
            attached: Some(now),
            phase: Phase::Up { at: ProviderRef("1".into()) },
            expires: now + minute * 600,
            ..lone.worker(2, "cloud", "there")
        };
        lone.insert(&[&gone, &idle]).await;
        let budgets = lone.fleet.budgets(&lone.active(), &[idle], &[]).await.unwrap();
        let counted = &budgets["cloud"];
        let standing = &counted.standing;
        assert_eq!((standing.limit.as_str(), standing.spent), ("10.00 USD/day", Money(6_600_000)));
        // A build of it, and its end.
        assert_eq!(standing.promised, Price(1_000_000).over(minute * 31));
        // The large one would take 3.30 of the 2.88 that are left.
        assert_eq!(counted.each, minute * 33);
        assert_eq!(standing.launch, Price(1_000_000).over(minute * 33));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_begun_is_counted_with_its_rest() {
        let config = CONFIG
            .replace("build: 30m}", "build: 30m}\n    price: 6 USD/h\n    reuse: {builds: 9, idle: 10m}\n    park: {keep: 1, price: 0.60 USD/h, for: 1h}");
        let lone = Lone::of(&config).await;
        let (now, minute, price) = (lone.now(), seconds(60), Price(6_000_000));
        let at = || ProviderRef("1".into());
        let worker = |id, phase, wanted| Worker {
            price,
            phase,
            wanted,
            accepted: Some(now),
            attached: Some(now),
            // It is given no more.
            builds_done: 1,
            expires: now + minute * 600,
            ..lone.worker(id, "cloud", "there")
        };
        let promised = async |worker: &Worker, leases: &[Lease]| {
            let workers = std::slice::from_ref(worker);
            let budgets = lone.fleet.budgets(&lone.active(), workers, leases).await.unwrap();
            let counted = &budgets["cloud"];
            assert_eq!(counted.each, seconds(120) + minute * 61, "two builds at most are reckoned with");
            counted.standing.promised
        };
        // A third of its latest build is over.
        let builds = worker(1, Phase::Up { at: at() }, Wanted::Run);
        let lease = |slot, minutes| Lease {
            worker: builds.id,
            slot,
            build: (10 + slot).into(),
            since: now - minute * minutes,
        };
        let all = promised(&builds, &[lease(0, 20), lease(1, 10)]).await;
        assert_eq!(all, price.over(minute * 21));
        let lying = worker(2, Phase::Parked { at: at(), since: now - minute * 15 }, Wanted::Park);
        let lies = Price(600_000).over(minute * 45) + price.over(minute);
        assert_eq!(promised(&lying, &[]).await, lies);
        let resuming = Phase::Resuming { at: at(), since: now - seconds(30), deadline: now + minute };
        let comes = promised(&worker(3, resuming, Wanted::Run), &[]).await;
        assert_eq!(comes, price.over(seconds(90) + minute));
        let asked = worker(4, Phase::Parked { at: at(), since: now - minute }, Wanted::Run);
        assert_eq!(promised(&asked, &[]).await, price.over(seconds(120) + minute));
    }
}
