//! The workers of a simulated pool: which of them has a free slot, and which lies parked; each since when.

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
    lives: HashMap<WorkerId, Life>,
    /// Those that have a free slot, by class.
    free: Vec<BTreeSet<Rank>>,
    /// How many of all lie parked.
    lying: usize,
    last: i64,
}

/// One worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub class: usize,
    /// What it was launched as.
    pub thing: usize,
    /// When it was launched, parked or resumed last.
    pub since: Timestamp,
    /// How often it was parked or resumed: what was to happen before is void.
    pub turn: u32,
}

/// A span of a worker's life that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub thing: usize,
    pub lasted: Duration,
    pub lay: bool,
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
        thing: usize,
        (class, named): (usize, &ReuseClass),
        up_by: Timestamp,
        slots: usize,
        uses: usize,
    ) -> WorkerId {
        self.last += 1;
        let worker = WorkerId(self.last);
        self.places.insert(worker, self.all.len());
        self.lives.insert(worker, Life { class, thing, since: now, turn: 0 });
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
        let Life { class, .. } = self.lives[&id];
        if has_room(worker) {
            self.free[class].remove(&rank(worker));
        }
        change(worker);
        if has_room(worker) {
            self.free[class].insert(rank(worker));
        }
        Some(class)
    }

    /// It takes builds from now on; answers what is known of it. Nothing where it has ended.
    pub(super) fn comes_up(&mut self, id: WorkerId, now: Timestamp) -> Option<Life> {
        self.change(id, |worker| {
            worker.up_by = None;
            worker.idle_since = Some(now);
        })?;
        self.life(id)
    }

    pub(super) fn life(&self, id: WorkerId) -> Option<Life> {
        self.lives.get(&id).copied()
    }

    /// It lies from now on.
    pub(super) fn park(&mut self, id: WorkerId, now: Timestamp) -> Option<(Life, Span)> {
        self.change(id, |worker| {
            worker.free = 0;
            worker.idle_since = None;
            worker.parked = Some(now);
        })?;
        self.lying += 1;
        self.turns(id, now, false)
    }

    /// It is on its way again.
    pub(super) fn resume(&mut self, id: WorkerId, up_by: Timestamp, now: Timestamp) -> Option<(Life, Span)> {
        self.change(id, |worker| {
            worker.free = worker.slots;
            worker.parked = None;
            worker.up_by = Some(up_by);
        })?;
        self.lying -= 1;
        self.turns(id, now, true)
    }

    fn turns(&mut self, id: WorkerId, now: Timestamp, lay: bool) -> Option<(Life, Span)> {
        let life = self.lives.get_mut(&id)?;
        let span = Span { thing: life.thing, lasted: now.since(life.since), lay };
        life.since = now;
        life.turn += 1;
        Some((*life, span))
    }

    /// How many there are that do not lie parked, those on their way included.
    pub(super) fn running(&self) -> usize {
        self.all.len() - self.lying
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

    /// Answers what of its life was not told yet; nothing where it has ended before.
    pub(super) fn end(&mut self, id: WorkerId, now: Timestamp) -> Option<Span> {
        self.change(id, |worker| worker.free = 0);
        let place = self.places.remove(&id)?;
        let worker = self.all.swap_remove(place);
        if let Some(moved) = self.all.get(place) {
            self.places.insert(moved.worker, place);
        }
        let life = self.lives.remove(&id)?;
        let lay = worker.parked.is_some();
        self.lying -= usize::from(lay);
        Some(Span { thing: life.thing, lasted: now.since(life.since), lay })
    }

    /// All that are there.
    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.all.iter().map(|worker| worker.worker).collect()
    }
}
