//! What a pass has before it, for the metrics.

use super::budgets::Budgets;
use crate::metrics::{FleetLevels, PoolLevels};
use rouse_model::WorkerId;
use rouse_model::build::Lease;
use rouse_model::money::Price;
use rouse_model::worker::{Link, Phase, Wanted, Worker};
use std::collections::{BTreeMap, HashMap};

/// Workers and their slots, by pool; `price` is what one costs as it is now.
pub(super) fn levels(workers: &[Worker], leases: &[Lease], price: impl Fn(&Worker) -> Price) -> FleetLevels {
    let mut taken: HashMap<WorkerId, u32> = HashMap::new();
    for lease in leases {
        *taken.entry(lease.worker).or_default() += 1;
    }
    let mut pools: BTreeMap<String, PoolLevels> = BTreeMap::new();
    for worker in workers {
        let pool = pools.entry(worker.pool.clone()).or_default();
        *pool.phases.entry(crate::workers::phase_word(&worker.phase)).or_default() += 1;
        pool.price.0 = pool.price.0.saturating_add(price(worker).0);
        let slots = u32::try_from(worker.slots).unwrap_or(1);
        let busy = taken.get(&worker.id).copied().unwrap_or_default().min(slots);
        pool.busy += busy;
        if matches!(worker.phase, Phase::Up { .. }) {
            pool.idle += slots - busy;
        }
        let left = u32::try_from(worker.max_builds - worker.builds_done).unwrap_or(0);
        let stays = matches!(worker.wanted, Wanted::Run)
            && !matches!(worker.phase, Phase::Terminating { .. })
            && !matches!(worker.link, Link::Lost { .. });
        if stays {
            pool.supply += (slots - busy).min(left);
        }
    }
    FleetLevels { pools }
}

/// The same with how many builds wait for each pool, and what is left of its budget.
pub(super) fn with_demand<'a>(
    mut levels: FleetLevels,
    waiting: impl Iterator<Item = (&'a str, usize)>,
    budgets: &Budgets,
) -> FleetLevels {
    for (name, budget) in budgets {
        levels.pools.entry(name.clone()).or_default().left = Some(budget.standing.left());
    }
    for (name, waiting) in waiting {
        levels.pools.entry(name.to_owned()).or_default().demand = u32::try_from(waiting).unwrap_or(u32::MAX);
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::budgets::Counted;
    use rouse_model::Timestamp;
    use rouse_model::budget::Standing;
    use rouse_model::money::Money;
    use rouse_model::worker::{Cause, CauseCode, ProviderRef};
    use rouse_store::testing::samples;
    use std::time::Duration;

    fn up(id: i64, slots: i64, builds: (i64, i64)) -> Worker {
        let phase = Phase::Up { at: ProviderRef(id.to_string()) };
        let (builds_done, max_builds) = builds;
        Worker { phase, slots, builds_done, max_builds, ..samples::worker(id) }
    }

    fn leases(of: &[(i64, i64)]) -> Vec<Lease> {
        let lease = |(worker, slot): &(i64, i64)| Lease {
            worker: WorkerId(*worker),
            slot: *slot,
            build: (worker * 10 + slot).into(),
            since: Timestamp(0),
        };
        of.iter().map(lease).collect()
    }

    #[test]
    fn slots_are_counted_by_what_they_do_and_by_what_they_may_still_do() {
        let cause = Cause::new(CauseCode::Idle, None, "it was idle");
        let leaves = Wanted::Drain { cause: cause.clone() };
        let ends = Phase::Terminating { at: None, since: Timestamp(0), cause };
        let workers = [
            up(1, 4, (0, 100)),
            // It may be given one more, and has room for two.
            up(2, 3, (4, 5)),
            Worker { wanted: leaves, ..up(3, 2, (0, 9)) },
            Worker { link: Link::Lost { at: Timestamp(0) }, ..up(4, 1, (0, 9)) },
            Worker { phase: ends, ..up(5, 1, (0, 9)) },
            // On its way.
            Worker { slots: 2, max_builds: 9, ..samples::worker(6) },
            Worker { pool: "small".into(), ..up(7, 1, (0, 9)) },
        ];
        let leases = leases(&[(1, 0), (1, 1), (1, 2), (2, 0), (3, 0)]);
        let levels = levels(&workers, &leases, |worker| Price(worker.id.0));
        let big = &levels.pools["big"];
        assert_eq!((big.busy, big.idle), (5, 1 + 2 + 1 + 1));
        assert_eq!(big.supply, 1 + 1 + 2);
        assert_eq!(big.phases, BTreeMap::from([("requested", 1), ("terminating", 1), ("up", 4)]));
        assert_eq!(big.price, Price(1 + 2 + 3 + 4 + 5 + 6));
        let small = &levels.pools["small"];
        assert_eq!((small.busy, small.idle, small.supply), (0, 1, 1));
    }

    #[test]
    fn what_waits_and_what_is_left_stand_with_pools_that_have_no_worker_too() {
        let (amount, spent) = (Money(900), Money(200));
        let standing = Standing {
            limit: "1 USD/h".into(),
            amount,
            spent,
            promised: Money(100),
            launch: Money(50),
            until: Timestamp(0),
        };
        let left = standing.left();
        let counted = Counted { standing, build: Duration::ZERO, each: Duration::ZERO };
        let budgets = Budgets::from([("paid".to_owned(), counted)]);
        let there = levels(&[up(1, 1, (0, 9))], &[], |_| Price::NONE);
        let levels = with_demand(there, [("big", 3), ("new", 1)].into_iter(), &budgets);
        let of = |name: &str| (levels.pools[name].demand, levels.pools[name].left);
        assert_eq!((of("big"), of("new"), of("paid")), ((3, None), (1, None), (0, Some(left))));
        assert_eq!(levels.pools["big"].idle, 1);
    }
}
