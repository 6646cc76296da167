//! What a pass has before it, for the metrics.

use super::budgets::Budgets;
use crate::metrics::{FleetLevels, PoolLevels};
use rouse_model::WorkerId;
use rouse_model::build::Lease;
use rouse_model::worker::{Link, Phase, Wanted, Worker};
use std::collections::{BTreeMap, HashMap};

/// Workers and their slots, by pool.
pub(super) fn levels(workers: &[Worker], leases: &[Lease]) -> FleetLevels {
    let mut taken: HashMap<WorkerId, u32> = HashMap::new();
    for lease in leases {
        *taken.entry(lease.worker).or_default() += 1;
    }
    let mut pools: BTreeMap<String, PoolLevels> = BTreeMap::new();
    for worker in workers {
        let pool = pools.entry(worker.pool.clone()).or_default();
        *pool.phases.entry(crate::workers::phase_word(&worker.phase)).or_default() += 1;
        pool.price.0 = pool.price.0.saturating_add(worker.price.0);
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
