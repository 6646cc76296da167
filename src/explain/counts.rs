//! What the workers of a pool are at.

use rouse_model::build::Lease;
use rouse_model::worker::{Link, Phase, Wanted, Worker};

/// A pool's workers that are not gone, each counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// On their way: wished for, launched, booting.
    pub coming: usize,
    /// Attached, with a free slot.
    pub idle: usize,
    /// Attached, all slots taken.
    pub busy: usize,
    /// Up, but no agent answers.
    pub silent: usize,
    /// Stopped at their provider until work comes for them.
    pub parked: usize,
    /// Draining, held, or ending.
    pub leaving: usize,
}

impl Counts {
    #[must_use]
    pub fn live(&self) -> usize {
        self.coming + self.idle + self.busy + self.silent + self.parked + self.leaving
    }

    /// Counts the workers of one pool.
    pub fn of<'a>(workers: impl IntoIterator<Item = &'a Worker>, leases: &[Lease]) -> Self {
        let mut counts = Self::default();
        for worker in workers.into_iter().filter(|w| w.is_live()) {
            *match standing(worker, leases) {
                Standing::Coming => &mut counts.coming,
                Standing::Idle => &mut counts.idle,
                Standing::Busy => &mut counts.busy,
                Standing::Silent => &mut counts.silent,
                Standing::Parked => &mut counts.parked,
                Standing::Leaving => &mut counts.leaving,
            } += 1;
        }
        counts
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Coming,
    Idle,
    Busy,
    Silent,
    Parked,
    Leaving,
}

pub(super) fn standing(worker: &Worker, leases: &[Lease]) -> Standing {
    if worker.is_parked() {
        return Standing::Parked;
    }
    if !matches!(worker.wanted, Wanted::Run) || matches!(worker.phase, Phase::Terminating { .. }) {
        return Standing::Leaving;
    }
    if worker.is_coming() {
        return Standing::Coming;
    }
    if !matches!(worker.link, Link::Attached { .. }) {
        return Standing::Silent;
    }
    let taken = leases.iter().filter(|lease| lease.worker == worker.id).count();
    if i64::try_from(taken).is_ok_and(|taken| taken < worker.slots) { Standing::Idle } else { Standing::Busy }
}
