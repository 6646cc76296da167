//! When a waiting request is likely to start: from how long workers of its pools took to come lately, and the builds before it took.

use super::reason::ReasonCode;
use super::request::{PoolFacts, PoolVerdict, Snapshot};
use rouse_model::build::Lease;
use std::time::Duration;

/// An estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// As likely later as sooner.
    pub after: Duration,
    /// Nine of ten are not later than this.
    pub at_worst: Duration,
}

impl Start {
    const NOW: Self = Self { after: Duration::ZERO, at_worst: Duration::ZERO };

    fn and(self, other: Self) -> Self {
        Self { after: self.after + other.after, at_worst: self.at_worst + other.at_worst }
    }
}

/// How long a build on a worker of the pool took before, and for how long this one has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningBuild {
    pub for_so_long: Duration,
    /// Shortest first.
    pub usual: Vec<Duration>,
}

/// How much longer something takes that has taken `age`, by those of the known ones that took longer still; `None` where none did. `known` is
/// sorted, shortest first.
fn rest(known: &[Duration], age: Duration) -> Option<Start> {
    let longer = &known[known.partition_point(|took| *took <= age)..];
    let at = |tenths: usize| longer.get((longer.len() * tenths).div_ceil(10).checked_sub(1)?).copied();
    Some(Start { after: at(5)?.saturating_sub(age), at_worst: at(9)?.saturating_sub(age) })
}

/// When one pool will likely run it; `None` where nothing is known.
pub(super) fn of_pool(
    snapshot: &Snapshot,
    pool: &PoolFacts,
    answer: &PoolVerdict,
    code: ReasonCode,
) -> Option<Start> {
    let boot = || rest(&pool.boots, Duration::ZERO);
    match code {
        ReasonCode::BeingMatched => Some(Start::NOW),
        ReasonCode::LaunchDue | ReasonCode::ResolvingImage => boot(),
        ReasonCode::Provisioning | ReasonCode::PoolFull => {
            // Whoever is ahead takes the first to come, then the first to fall free.
            let slots = pool.slots.max(1);
            let mut soonest: Vec<Start> = Vec::new();
            for coming in &answer.coming {
                let start = rest(&pool.boots, coming.for_so_long)?;
                soonest.extend(std::iter::repeat_n(start, slots));
            }
            let ends = snapshot.leases.iter().filter_map(|lease| falls_free(snapshot, pool, lease));
            soonest.extend(ends);
            soonest.sort_unstable();
            soonest.get(answer.ahead).copied()
        }
        _ => None,
    }
}

/// When a slot is likely free again, or a worker in its worker's place is up.
fn falls_free(snapshot: &Snapshot, pool: &PoolFacts, lease: &Lease) -> Option<Start> {
    let worker = snapshot.workers.iter().find(|w| w.id == lease.worker && w.pool == pool.name)?;
    let running = snapshot.running.get(&lease.build)?;
    let end = rest(&running.usual, running.for_so_long)?;
    let request = &snapshot.request;
    let same = worker.trust == request.trust
        && worker.project == request.project
        && request.provision.digests.get(&pool.name) == Some(&worker.spec_digest);
    // A build counts once it has begun.
    let serves_more = same && worker.builds_done < worker.max_builds;
    if serves_more { Some(end) } else { Some(end.and(rest(&pool.boots, Duration::ZERO)?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(all: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        all.into_iter().map(Duration::from_secs).collect()
    }

    #[test]
    fn what_has_taken_long_is_judged_by_those_that_took_longer() {
        let known = secs(1..=100);
        let at = |age: u64| {
            let start = rest(&known, Duration::from_secs(age))?;
            Some((start.after.as_secs(), start.at_worst.as_secs()))
        };
        assert_eq!((at(0), at(50), at(98)), (Some((50, 90)), Some((25, 45)), Some((1, 2))));
        assert_eq!(at(100), None, "longer than any before");
        assert_eq!(rest(&[], Duration::ZERO), None);
        assert_eq!(rest(&secs([7]), Duration::ZERO).map(|start| start.after.as_secs()), Some(7));
    }
}
