//! The workers of a simulated pool: which of them has a free slot, what each has cost.

use rouse_model::durations::Durations;
use rouse_model::matching::ReuseClass;
use rouse_model::money::Money;
use rouse_model::scaling::{Capacity, Running};
use rouse_model::{Timestamp, WorkerId};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Busy ones first, then those that became idle last.
type Rank = (bool, Reverse<Timestamp>, WorkerId);

/// All that are there.
#[derive(Default)]
pub(super) struct Supply {
    pub all: Vec<Capacity>,
    places: HashMap<WorkerId, usize>,
    /// When each was launched, and its class.
    launched: HashMap<WorkerId, (Timestamp, usize)>,
    /// Those that have a free slot, by class.
    free: Vec<BTreeSet<Rank>>,
    last: i64,
    /// Slot time that was paid for, of those that are gone.
    pub paid: f64,
    pub boots: usize,
}

fn rank(worker: &Capacity) -> Rank {
    (worker.idle_since.is_some(), Reverse(worker.idle_since.unwrap_or_default()), worker.worker)
}

fn has_room(worker: &Capacity) -> bool {
    worker.up_by.is_none() && worker.free > 0 && worker.uses_left > 0
}

impl Supply {
    pub(super) fn of(classes: usize) -> Self {
        Self { free: vec![BTreeSet::new(); classes], ..Self::default() }
    }

    pub(super) fn launch(
        &mut self,
        now: Timestamp,
        (class, named): (usize, &ReuseClass),
        up_by: Timestamp,
        slots: usize,
        uses: usize,
    ) -> WorkerId {
        self.last += 1;
        self.boots += 1;
        let worker = WorkerId(self.last);
        self.places.insert(worker, self.all.len());
        self.launched.insert(worker, (now, class));
        self.all.push(Capacity {
            worker,
            class: named.clone(),
            free: slots,
            locked: 0,
            slots,
            leaving: false,
            waits: false,
            idle_since: None,
            up_by: Some(up_by),
            parked: None,
            uses_left: uses,
            spares: Money::default(),
            running: Vec::new(),
        });
        worker
    }

    /// Changes one; answers its class. Nothing where it has ended.
    fn change(&mut self, id: WorkerId, change: impl FnOnce(&mut Capacity)) -> Option<usize> {
        let worker = &mut self.all[*self.places.get(&id)?];
        let (_, class) = self.launched[&id];
        if has_room(worker) {
            self.free[class].remove(&rank(worker));
        }
        change(worker);
        if has_room(worker) {
            self.free[class].insert(rank(worker));
        }
        Some(class)
    }

    /// It takes builds from now on; answers of which class, and how long it took to come. Nothing where it has ended.
    pub(super) fn comes_up(&mut self, id: WorkerId, now: Timestamp) -> Option<(usize, Duration)> {
        let class = self.change(id, |worker| {
            worker.up_by = None;
            worker.idle_since = Some(now);
        })?;
        Some((class, now.since(self.launched[&id].0)))
    }

    /// The one of a class that takes the next build takes it.
    pub(super) fn take(&mut self, class: usize, now: Timestamp, usual: &Arc<Durations>) -> Option<WorkerId> {
        let (_, _, id) = *self.free[class].first()?;
        self.change(id, |worker| {
            worker.free -= 1;
            worker.uses_left -= 1;
            worker.idle_since = None;
            worker.running.push(Running { since: now, usual: Arc::clone(usual) });
        });
        Some(id)
    }

    /// A build that began then is over.
    pub(super) fn give_back(&mut self, id: WorkerId, since: Timestamp, now: Timestamp) {
        self.change(id, |worker| {
            let place = worker.running.iter().position(|running| running.since == since);
            worker.running.swap_remove(place.expect("it ran there"));
            worker.free += 1;
            worker.idle_since = worker.running.is_empty().then_some(now);
        });
    }

    pub(super) fn end(&mut self, id: WorkerId, now: Timestamp) {
        self.change(id, |worker| worker.free = 0);
        let Some(place) = self.places.remove(&id) else { return };
        let worker = self.all.swap_remove(place);
        if let Some(moved) = self.all.get(place) {
            self.places.insert(moved.worker, place);
        }
        self.pay(&worker, now);
    }

    fn pay(&mut self, worker: &Capacity, now: Timestamp) {
        let (since, _) = self.launched.remove(&worker.worker).expect("it was launched");
        self.paid += slot_time(worker, now.since(since));
    }

    pub(super) fn end_all(&mut self, now: Timestamp) {
        for worker in std::mem::take(&mut self.all) {
            self.pay(&worker, now);
        }
    }
}

fn slot_time(worker: &Capacity, lived: Duration) -> f64 {
    lived.as_secs_f64() * worker.slots as f64
}
