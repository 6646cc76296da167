//! How many workers to launch and which to end: one pure function over one snapshot, used by the loop and, later, by the simulator alike.

use crate::matching::ReuseClass;
use crate::{Timestamp, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// One class's demand: runnable requests of it, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    pub class: ReuseClass,
    pub waiting: usize,
    /// One worker runs no more of them at the same time, for the locks that are counted on workers; `None` where nothing but its slots sets a limit.
    pub at_once: Option<usize>,
}

/// A live worker, as scaling sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    pub worker: WorkerId,
    pub class: ReuseClass,
    /// Slots that are free, or will be once it is up.
    pub free: usize,
    /// Builds on it that have a lock that is counted on workers.
    pub locked: usize,
    pub slots: usize,
    /// Draining or ending: neither supply nor a reason to stop, but it still takes room.
    pub leaving: bool,
    /// Idle since then; `None` while busy or on its way up.
    pub idle_since: Option<Timestamp>,
    /// Builds that it may still serve.
    pub uses_left: usize,
}

/// The limits of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub min: usize,
    pub max: usize,
    pub slots: usize,
    /// Builds that one worker serves in all.
    pub builds: usize,
    /// An idle worker that nothing waits for is ended after this.
    pub idle: Duration,
}

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    pub launch: Vec<(ReuseClass, usize)>,
    pub end: Vec<(WorkerId, Reason)>,
    /// Classes that wait because their pool is at its maximum.
    pub held_back: Vec<(ReuseClass, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Idle,
    /// Another class wants the room.
    Displaced,
    Used,
}

/// Decides for one pool. `demand` is in the order in which requests would be served.
#[must_use]
pub fn decide(limits: &Limits, demand: &[Demand], capacity: &[Capacity], now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let mut supply: BTreeMap<&ReuseClass, usize> = BTreeMap::new();
    for worker in capacity.iter().filter(|w| !w.leaving && w.uses_left > 0) {
        *supply.entry(&worker.class).or_default() += worker.free.min(worker.uses_left);
    }
    // What one more worker is good for.
    let each = limits.slots.min(limits.builds).max(1);
    let mut wanted: Vec<(&ReuseClass, usize)> = Vec::new();
    for wish in demand {
        let have = supply.entry(&wish.class).or_default();
        let met = wish.waiting.min(*have).min(unlocked(wish, capacity));
        *have -= met;
        let missing = wish.waiting - met;
        if missing > 0 {
            let count = missing.div_ceil(each.min(wish.at_once.unwrap_or(each)).max(1));
            // The last one's free slots serve the same class further down.
            *have += count * each - missing;
            wanted.push((&wish.class, count));
        }
    }
    end_used(capacity, &mut decision);
    let mut room = limits.max.saturating_sub(capacity.len());
    for (class, count) in &wanted {
        let now_launched = (*count).min(room);
        room -= now_launched;
        if now_launched > 0 {
            decision.launch.push(((*class).clone(), now_launched));
        }
        if *count > now_launched {
            decision.held_back.push(((*class).clone(), count - now_launched));
        }
    }
    let short: usize = decision.held_back.iter().map(|(_, n)| n).sum();
    displace(capacity, demand, short, &mut decision);
    end_idle(limits, capacity, demand, now, &mut decision);
    decision
}

/// How many of these the workers of their class could take with the locks that are counted on each.
fn unlocked(wish: &Demand, capacity: &[Capacity]) -> usize {
    let Some(at_once) = wish.at_once else { return usize::MAX };
    let of_class = capacity.iter().filter(|w| !w.leaving && w.class == wish.class);
    of_class.map(|w| w.free.min(w.uses_left).min(at_once.saturating_sub(w.locked))).sum()
}

/// A worker that served its last build ends.
fn end_used(capacity: &[Capacity], decision: &mut Decision) {
    for worker in capacity.iter().filter(|w| !w.leaving && w.uses_left == 0 && w.idle_since.is_some()) {
        decision.end.push((worker.worker, Reason::Used));
    }
}

/// At the maximum, idle workers of classes without demand make room, longest idle first.
fn displace(capacity: &[Capacity], demand: &[Demand], short: usize, decision: &mut Decision) {
    let already: Vec<WorkerId> = decision.end.iter().map(|(w, _)| *w).collect();
    let leaving = capacity.iter().filter(|w| w.leaving).count() + already.len();
    let mut victims: Vec<&Capacity> = capacity
        .iter()
        .filter(|w| !w.leaving && !already.contains(&w.worker))
        .filter(|w| w.idle_since.is_some() && !demand.iter().any(|d| d.class == w.class && d.waiting > 0))
        .collect();
    victims.sort_by_key(|w| (w.idle_since, w.worker));
    for victim in victims.into_iter().take(short.saturating_sub(leaving)) {
        decision.end.push((victim.worker, Reason::Displaced));
    }
}

fn end_idle(
    limits: &Limits,
    capacity: &[Capacity],
    demand: &[Demand],
    now: Timestamp,
    decision: &mut Decision,
) {
    // Those that were just decided on count, as they will when this is asked again.
    let launched: usize = decision.launch.iter().map(|(_, n)| n).sum();
    let staying = capacity.iter().filter(|w| !w.leaving).count() + launched - decision.end.len();
    let mut spare = staying.saturating_sub(limits.min);
    let mut idle: Vec<&Capacity> = capacity
        .iter()
        .filter(|w| !w.leaving && !decision.end.iter().any(|(e, _)| *e == w.worker))
        .filter(|w| w.idle_since.is_some_and(|since| now.since(since) >= limits.idle))
        .filter(|w| !demand.iter().any(|d| d.class == w.class && d.waiting > 0))
        .collect();
    idle.sort_by_key(|w| (w.idle_since, w.worker));
    for worker in idle {
        if spare == 0 {
            break;
        }
        spare -= 1;
        decision.end.push((worker.worker, Reason::Idle));
    }
}
