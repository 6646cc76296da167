//! How many workers to launch and which to end: one pure function over one snapshot, used by the fleet's loop and by `rouse simulate` alike.
//!
//! What is wanted once a worker that is launched now is up, one boot time from now, is what waits and what is to come by then; there is, by then, what is free, what
//! is on its way, and what busy workers are likely to give back. What lacks is launched ([`outlook`] foretells, [`decide`] judges); [`ends`] is about the other way, and [`offers`] about
//! what each of those that are launched is, where its provider sells several things.

mod ends;
pub mod offers;
mod outlook;
mod parking;
mod tally;
mod warm;

use crate::durations::Durations;
use crate::matching::ReuseClass;
use crate::money::Money;
use crate::{Timestamp, WorkerId};
use outlook::Classes;
use parking::Parked;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
pub use tally::Tally;
pub use warm::reserve;

/// The [reserve](Limits::reserve) where nobody says what waiting costs: enough for three of four times.
pub const RESERVE: f64 = 0.7;

/// One class's demand: runnable requests of it, oldest first, and what is to come after them.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    pub class: ReuseClass,
    pub waiting: usize,
    /// One worker runs no more of them at the same time, for the locks that are counted on workers; `None` where nothing but its slots sets a limit.
    pub at_once: Option<usize>,
    /// Announced, soonest first.
    pub coming: Vec<Coming>,
    /// So many more are likely to come within one boot time without a word, at any moment of it.
    pub unforeseen: f64,
}

impl Demand {
    /// What waits, and nothing to come.
    #[must_use]
    pub fn waiting(class: ReuseClass, waiting: usize) -> Self {
        Self { class, waiting, at_once: None, coming: Vec::new(), unforeseen: 0.0 }
    }
}

/// A request that somebody has announced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coming {
    pub due: Timestamp,
    /// How likely it comes at all, from 0 to 1.
    pub likely: f64,
    /// How many more are likely to come with it without a word.
    pub beside: f64,
}

/// A live worker, as scaling sees it.
#[derive(Debug, Clone, PartialEq)]
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
    /// All that it runs only waits for other builds: it takes no room, as far as [that](Limits::waiting) goes.
    pub waits: bool,
    /// Idle since then; `None` while busy or on its way up.
    pub idle_since: Option<Timestamp>,
    /// On its way, and likely up by then; `None` where it is up.
    pub up_by: Option<Timestamp>,
    /// It lies stopped since then, or is about to: it takes room and gives none until it is resumed.
    pub parked: Option<Timestamp>,
    /// Builds that it may still serve.
    pub uses_left: usize,
    /// What is spared where it is given no more builds.
    pub spares: Money,
    /// What it runs.
    pub running: Vec<Running>,
}

/// A build on a worker, and how long those like it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub since: Timestamp,
    pub usual: Arc<Durations>,
}

/// The limits of one pool, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub min: usize,
    pub max: usize,
    /// Workers that only wait for other builds, beside `max`; more of them count in it.
    pub waiting: usize,
    pub slots: usize,
    /// Builds that one worker serves in all.
    pub builds: usize,
    /// No more than so many are on their way at one time.
    pub ramp: usize,
    /// An idle worker that nothing waits for is ended after this, sooner by the share that is [foretold](Self::foretold).
    pub idle: Duration,
    /// How long a worker takes to come; `None` where that is not known yet: then nothing is looked ahead to.
    pub boot: Option<Duration>,
    /// How large the share of requests is that somebody announced, from 0 to 1: where all are, a worker that nothing needs within a boot time is not kept in case.
    pub foretold: f64,
    /// How many standard deviations of what is uncertain are kept in reserve: 0 where a minute of waiting costs as much as one of idling.
    pub reserve: f64,
    /// Idle workers that are kept beside those that are needed.
    pub warm: usize,
    /// Workers that are parked, at most, where they would end for idleness.
    pub park: usize,
    /// Of which class a worker is that is there though nothing waits for it: the one that was asked for last.
    pub usual: Option<ReuseClass>,
    /// Where what is spent has a limit.
    pub purse: Option<Purse>,
}

/// What may still be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purse {
    /// Once all workers that are there have done what they may be given to do; less than nothing where that is too much.
    pub left: Money,
    /// What one more is counted with.
    pub launch: Money,
}

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub launch: Vec<(ReuseClass, usize)>,
    /// Parked ones that come before any launch of their class.
    pub resume: Vec<WorkerId>,
    /// Idle ones that are parked instead of ended.
    pub park: Vec<WorkerId>,
    pub end: Vec<(WorkerId, Reason)>,
    /// What would be launched but for a limit.
    pub held_back: Vec<(ReuseClass, usize, Bound)>,
    /// What that follows from, for each class that anything is wanted of, in order of demand.
    pub terms: Vec<(ReuseClass, Terms)>,
}

/// Which limit holds a launch back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The pool is at its maximum.
    Max,
    /// As many as may be on their way at one time are.
    Ramp,
    /// More would cost more than may be spent.
    Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Idle,
    /// Another class wants the room.
    Displaced,
    Used,
    /// What it could still be given to do costs more than may be spent.
    Budget,
}

/// The sum behind a decision about one class, in slots, as of one boot time from now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    pub waiting: usize,
    /// Announced, each by how likely it is.
    pub announced: f64,
    pub unforeseen: f64,
    /// Kept for what may come otherwise than foretold.
    pub reserve: f64,
    pub free: usize,
    /// On their way.
    pub booting: usize,
    /// What running builds are likely to give back.
    pub ending: f64,
}

impl Terms {
    /// Whether anything is wanted, to the nearest slot.
    #[must_use]
    pub fn is_anything(&self) -> bool {
        self.waiting > 0 || self.announced + self.unforeseen + self.reserve >= 0.5
    }
}

/// Decides for one pool. `demand` is in the order in which requests would be served.
#[must_use]
pub fn decide(limits: &Limits, demand: &[Demand], capacity: &[Capacity], now: Timestamp) -> Answer {
    let classes = Classes::of(limits, demand, capacity, now);
    let mut answer = Answer::default();
    // Who waits or is announced comes before what may come.
    let sure = classes.wanted(false);
    let mut room = Room::of(limits, capacity);
    room.launch(demand, &sure, &mut answer);
    let short = Lacks::of(&answer);
    let mut hoped = classes.wanted(true);
    hoped.iter_mut().zip(&sure).for_each(|(all, sure)| *all = all.saturating_sub(*sure));
    room.launch(demand, &hoped, &mut answer);
    if let Some((class, count)) = warm::lacking(&classes, &answer) {
        room.take(class, count, &mut answer);
    }
    ends::used(capacity, &mut answer);
    ends::unaffordable(&classes, &mut answer);
    ends::displace(&classes, short, &mut answer);
    ends::idle(&classes, now, &mut answer);
    parking::park(&classes, &mut answer);
    answer.terms = classes.terms();
    answer
}

/// How many workers do not count in the maximum, as they only wait for other builds.
#[must_use]
pub fn beside_max(limits: &Limits, capacity: &[Capacity]) -> usize {
    capacity.iter().filter(|worker| worker.waits && !worker.leaving).count().min(limits.waiting)
}

impl Answer {
    /// Workers that come by it.
    fn coming(&self) -> usize {
        self.launch.iter().map(|(_, n)| n).sum::<usize>() + self.resume.len()
    }
}

/// How many workers that are surely wanted are held back.
#[derive(Debug, Clone, Copy)]
struct Lacks {
    /// For want of room in the maximum.
    room: usize,
    /// For that or for want of money.
    all: usize,
}

impl Lacks {
    fn of(answer: &Answer) -> Self {
        let by = |which: &[Bound]| {
            answer.held_back.iter().filter(|(_, _, bound)| which.contains(bound)).map(|(_, n, _)| n).sum()
        };
        Self { room: by(&[Bound::Max]), all: by(&[Bound::Max, Bound::Budget]) }
    }
}

/// How many workers the limits still let come.
struct Room<'a> {
    workers: usize,
    ramp: usize,
    affordable: usize,
    parked: Parked<'a>,
}

impl<'a> Room<'a> {
    fn of(limits: &Limits, capacity: &'a [Capacity]) -> Self {
        let booting = capacity.iter().filter(|worker| worker.up_by.is_some()).count();
        let taken = capacity.len() - beside_max(limits, capacity);
        Self {
            workers: limits.max.saturating_sub(taken),
            ramp: limits.ramp.saturating_sub(booting),
            affordable: limits.purse.map_or(usize::MAX, Purse::affords),
            parked: Parked::of(capacity),
        }
    }

    /// As many of these workers, for each wish, as there is room for.
    fn launch(&mut self, demand: &[Demand], wanted: &[usize], answer: &mut Answer) {
        for (wish, count) in demand.iter().zip(wanted) {
            self.take(&wish.class, *count, answer);
        }
    }

    /// Those that are parked come first: they have their room already.
    fn take(&mut self, wanted: &ReuseClass, count: usize, answer: &mut Answer) {
        let resumed = self.parked.take(wanted, count.min(self.ramp).min(self.affordable));
        let count = count - resumed.len();
        self.ramp -= resumed.len();
        self.affordable -= resumed.len();
        answer.resume.extend(resumed);
        let launched = count.min(self.workers).min(self.ramp).min(self.affordable);
        self.workers -= launched;
        self.ramp -= launched;
        self.affordable -= launched;
        if launched > 0 {
            match answer.launch.iter_mut().find(|(class, _)| class == wanted) {
                Some((_, before)) => *before += launched,
                None => answer.launch.push((wanted.clone(), launched)),
            }
        }
        if count > launched {
            answer.held_back.push((wanted.clone(), count - launched, self.bound()));
        }
    }

    fn bound(&self) -> Bound {
        match self {
            Self { workers: 0, .. } => Bound::Max,
            Self { affordable: 0, .. } => Bound::Budget,
            _ => Bound::Ramp,
        }
    }
}

impl Purse {
    /// How many more workers it pays for.
    #[must_use]
    pub fn affords(self) -> usize {
        match (self.left.0.max(0), self.launch.0) {
            (_, ..=0) => usize::MAX,
            (left, launch) => usize::try_from(left / launch).unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_slot_is_wanted_and_less_is_not() {
        let of = |waiting, announced, unforeseen, reserve| {
            Terms { waiting, announced, unforeseen, reserve, free: 7, ..Terms::default() }.is_anything()
        };
        assert!(of(1, 0.0, 0.0, 0.0) && of(0, 0.5, 0.0, 0.0) && of(0, 0.0, 0.5, 0.0) && of(0, 0.0, 0.0, 0.5));
        assert!(of(0, 0.2, 0.2, 0.1) && !of(0, 0.2, 0.2, 0.0) && !of(0, 0.0, 0.0, 0.0));
    }
}
