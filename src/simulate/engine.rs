//! Simulated time: requests arrive, workers boot and build, and soon after each event the scaler looks, as the fleet's loop does when it is nudged.

use super::chance::{self, Announcement, Boots, Fates};
use super::market::{Market, OfOffering};
use super::supply::Supply;
use super::{Policy, Trace, World};
use rouse_model::arrivals::{self, Arrivals};
use rouse_model::durations::{Durations, nine_of_ten};
use rouse_model::matching::ReuseClass;
use rouse_model::scaling::{self, Coming, Demand, Limits};
use rouse_model::{Timestamp, Trust, WorkerId};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// After an event, and where nothing happens.
const LOOK: Duration = Duration::from_millis(100);
const RARELY: Duration = Duration::from_secs(5);
/// Builds that are remembered for each class, and after how many more it is learned anew.
const BUILDS: usize = 1_000;
const ANEW: usize = 50;
/// Boots that are remembered.
const BOOTS: usize = 30;
/// What a provider takes to say that it has none.
const REFUSES: Duration = Duration::from_secs(1);
/// How often a build is tried again whose worker was taken back: as one whose builder says nothing of it.
pub(super) const RETRIES: u32 = 3;
/// The picture has so many moments.
const SAMPLES: u64 = 600;

/// What a policy comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub policy: String,
    /// (Boot + idle) ÷ busy time.
    pub overhead: f64,
    /// Of all workers, each by the price of what it was launched as, and of the parked ones.
    pub cost: f64,
    pub mean_wait_s: f64,
    pub p95_wait_s: f64,
    pub boots: usize,
    /// Parked workers that were started again.
    pub resumes: usize,
    /// In which workers lay parked: not counted in the overhead.
    pub parked_s: f64,
    /// Where anything is offered.
    pub per_offering: Vec<OfOffering>,
    /// Builds whose workers were taken back so often that they are not tried again.
    pub given_up: usize,
    /// The overhead that no policy goes below that lets nobody wait.
    pub bound_overhead: f64,
    /// Most workers at one time, those on their way included, parked ones not.
    pub peak: usize,
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// One moment of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub at: Timestamp,
    /// Requests that run or wait.
    pub demand: usize,
    /// Slots of workers that are there or on their way.
    pub capacity: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Of a launch; with whether there is a worker then.
    Boot(WorkerId, bool),
    Done(WorkerId, usize),
    Said(usize),
    Due(usize),
    Arrives(usize),
    /// There was none for this launch.
    Refused(WorkerId),
    /// A parked one is there again, in this turn of its life.
    Resumed(WorkerId, u32),
    /// It has lain so long as it may.
    Lain(WorkerId, u32),
    /// Its owner wants it back.
    TakenBack(WorkerId, u32),
    Look,
}

/// Runs a trace under a policy.
#[must_use]
pub fn simulate(trace: &Trace, world: &World, policy: &Policy) -> Outcome {
    let mut run = Run::of(trace, world, policy);
    while let Some(Reverse((now, event))) = run.events.pop() {
        run.on(event, now);
        run.sample(now);
        if run.left == 0 {
            run.supply.ids().into_iter().for_each(|worker| run.end(worker, now));
            break;
        }
    }
    run.outcome()
}

pub(super) struct Run<'a> {
    trace: &'a Trace,
    pub(super) world: &'a World,
    pub(super) policy: &'a Policy,
    pub(super) events: BinaryHeap<Reverse<(Timestamp, Event)>>,
    announcements: Vec<Announcement>,
    boots: Boots,
    pub(super) fates: Fates,
    pub(super) market: Market,
    pub(super) supply: Supply,
    pub(super) classes: Vec<Class>,
    /// Which of the requests have been announced.
    announced: Vec<bool>,
    /// What the last workers took to come.
    took: VecDeque<Duration>,
    /// What each request has waited, in seconds, and since when it waits.
    waits: Vec<f64>,
    pub(super) waits_since: Vec<Timestamp>,
    pub(super) retries: Vec<u32>,
    pub(super) left: usize,
    pub(super) running: BTreeSet<(WorkerId, usize)>,
    pub(super) resumes: usize,
    pub(super) given_up: usize,
    next_look: Option<Timestamp>,
    samples: Vec<Sample>,
    peak: usize,
}

/// What is known of one class.
pub(super) struct Class {
    named: ReuseClass,
    pub(super) waiting: VecDeque<usize>,
    coming: BTreeMap<(Timestamp, usize), ()>,
    arrivals: Arrivals,
    took: VecDeque<Duration>,
    fresh: usize,
    usual: Arc<Durations>,
}

impl Class {
    fn of(name: &str) -> Self {
        Self {
            named: ReuseClass {
                pool: "simulated".into(),
                spec_digest: name.to_owned(),
                trust: Trust::Trusted,
                project: "default".into(),
            },
            waiting: VecDeque::new(),
            coming: BTreeMap::new(),
            arrivals: Arrivals::default(),
            took: VecDeque::new(),
            fresh: 0,
            usual: Arc::new(Durations::of([])),
        }
    }

    fn learn(&mut self, took: Duration) {
        if self.took.len() == BUILDS {
            self.took.pop_front();
        }
        self.took.push_back(took);
        self.fresh += 1;
        if self.fresh >= ANEW.min(self.took.len()) {
            self.fresh = 0;
            self.usual = Arc::new(Durations::of(self.took.iter().copied()));
        }
    }
}

impl<'a> Run<'a> {
    fn of(trace: &'a Trace, world: &'a World, policy: &'a Policy) -> Self {
        let announcements = chance::announcements(trace, world);
        let mut events: BinaryHeap<_> = (trace.jobs.iter().enumerate())
            .map(|(number, job)| Reverse((job.arrives, Event::Arrives(number))))
            .collect();
        for (number, said) in announcements.iter().enumerate() {
            events.push(Reverse((said.said, Event::Said(number))));
            events.push(Reverse((said.due, Event::Due(number))));
        }
        let mut announced = vec![false; trace.jobs.len()];
        announcements.iter().filter_map(|said| said.job).for_each(|job| announced[job] = true);
        Self {
            trace,
            world,
            policy,
            events,
            announcements,
            boots: Boots::of(world),
            fates: Fates::of(world),
            market: Market::of(world),
            supply: Supply::of(trace.classes.len()),
            classes: trace.classes.iter().map(|name| Class::of(name)).collect(),
            announced,
            took: VecDeque::new(),
            waits: vec![0.0; trace.jobs.len()],
            waits_since: trace.jobs.iter().map(|job| job.arrives).collect(),
            retries: vec![0; trace.jobs.len()],
            left: trace.jobs.len(),
            running: BTreeSet::new(),
            resumes: 0,
            given_up: 0,
            next_look: None,
            samples: Vec::new(),
            peak: 0,
        }
    }

    fn on(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Boot(worker, good) => self.booted(worker, good, now),
            Event::Done(worker, job) => self.done(worker, job, now),
            Event::Said(number) => {
                let said = self.announcements[number];
                self.classes[said.class].coming.insert((said.due, number), ());
            }
            Event::Due(number) => {
                let said = self.announcements[number];
                self.classes[said.class].coming.remove(&(said.due, number));
            }
            Event::Arrives(number) => {
                let class = self.trace.jobs[number].class;
                let announced = self.announced[number];
                self.classes[class].arrivals.came(now, announced);
                self.classes[class].waiting.push_back(number);
                self.serve(class, now);
            }
            Event::Refused(worker) => self.refused(worker, now),
            Event::Resumed(worker, turn) if self.is_in(worker, turn) => self.comes_up(worker, now),
            Event::Lain(worker, turn) if self.is_in(worker, turn) => self.end(worker, now),
            Event::TakenBack(worker, turn) if self.is_in(worker, turn) => self.taken_back(worker, now),
            Event::Resumed(..) | Event::Lain(..) | Event::TakenBack(..) => return,
            // One that was put off by a sooner one.
            Event::Look if self.next_look != Some(now) => return,
            Event::Look => {
                self.next_look = None;
                self.look(now);
                return self.look_by(now + RARELY);
            }
        }
        self.look_by(now + LOOK);
    }

    /// The next look is then, where none is sooner.
    fn look_by(&mut self, at: Timestamp) {
        if self.next_look.is_none_or(|next| at < next) {
            self.next_look = Some(at);
            self.events.push(Reverse((at, Event::Look)));
        }
    }

    fn booted(&mut self, worker: WorkerId, good: bool, now: Timestamp) {
        if !good {
            return self.end(worker, now);
        }
        if let Some(life) = self.supply.life(worker) {
            if self.took.len() == BOOTS {
                self.took.pop_front();
            }
            self.took.push_back(now.since(life.since));
            self.market.came(worker);
            self.comes_up(worker, now);
        }
    }

    fn done(&mut self, worker: WorkerId, job: usize, now: Timestamp) {
        // Its worker may have been taken back before.
        if !self.running.remove(&(worker, job)) {
            return;
        }
        let job = self.trace.jobs[job];
        self.left -= 1;
        self.classes[job.class].learn(job.takes);
        self.supply.give_back(worker, now - job.takes, now);
        self.serve(job.class, now);
    }

    /// Whoever waits first has the free slots.
    pub(super) fn serve(&mut self, class: usize, now: Timestamp) {
        let of_class = &mut self.classes[class];
        while let Some(number) = of_class.waiting.front().copied() {
            let Some(worker) = self.supply.take(class, now, &of_class.usual) else { break };
            of_class.waiting.pop_front();
            let job = self.trace.jobs[number];
            self.waits[number] += now.since(self.waits_since[number]).as_secs_f64();
            self.running.insert((worker, number));
            self.events.push(Reverse((now + job.takes, Event::Done(worker, number))));
        }
    }

    fn look(&mut self, now: Timestamp) {
        let boot = nine_of_ten(self.took.iter().copied().collect());
        let uses = self.policy.uses.unwrap_or(usize::MAX).min(self.world.max_uses);
        let limits = Limits {
            min: self.policy.min,
            max: self.policy.max,
            waiting: 0,
            slots: self.world.slots,
            builds: uses,
            ramp: usize::MAX,
            idle: self.policy.idle.or(boot).unwrap_or_default(),
            boot: boot.filter(|_| self.policy.looks_ahead).map(|boot| boot + LOOK),
            foretold: if self.policy.looks_ahead {
                arrivals::foretold(self.classes.iter().map(|class| &class.arrivals))
            } else {
                0.0
            },
            reserve: self.policy.reserve,
            warm: 0,
            park: self.policy.park,
            usual: None,
            purse: None,
        };
        let demand = self.demand(limits.boot, now);
        let decision = scaling::decide(&limits, &demand, &self.supply.all, now);
        if !decision.end.is_empty() {
            // There may be room now for what was held back.
            self.look_by(now + LOOK);
        }
        decision.resume.into_iter().for_each(|worker| self.resume(worker, boot, now));
        decision.park.into_iter().for_each(|worker| self.park(worker, now));
        decision.end.into_iter().for_each(|(worker, _)| self.end(worker, now));
        for (class, count) in decision.launch {
            let class = self.classes.iter().position(|known| known.named == class).unwrap_or_default();
            for _ in 0..count {
                match self.market.next(now) {
                    Ok(thing) => self.launch((class, thing), boot, uses, now),
                    Err(wait) => {
                        if let Some(wait) = wait {
                            self.look_by(now + wait);
                        }
                        break;
                    }
                }
            }
        }
        self.peak = self.peak.max(self.supply.running());
    }

    fn launch(
        &mut self,
        (class, thing): (usize, usize),
        boot: Option<Duration>,
        uses: usize,
        now: Timestamp,
    ) {
        let named = &self.classes[class].named;
        if self.market.is_out(thing, now) {
            let by = now + boot.unwrap_or(self.world.boot);
            let worker = self.supply.launch(now, thing, (class, named), by, self.world.slots, uses);
            return self.events.push(Reverse((now + REFUSES, Event::Refused(worker))));
        }
        let (takes, good) = self.boots.next();
        let by = now + boot.unwrap_or(takes);
        let worker = self.supply.launch(now, thing, (class, named), by, self.world.slots, uses);
        self.market.taken(thing, worker, now);
        self.events.push(Reverse((now + takes, Event::Boot(worker, good))));
    }

    /// Of each class that anything is wanted of, the one that waits longest first.
    fn demand(&self, boot: Option<Duration>, now: Timestamp) -> Vec<Demand> {
        let mut wishes: Vec<(Option<usize>, Demand)> = Vec::with_capacity(self.classes.len());
        for class in &self.classes {
            let mut wish = Demand::waiting(class.named.clone(), class.waiting.len());
            if let Some(boot) = boot {
                let until = (now + boot, usize::MAX);
                let beside = class.arrivals.beside();
                let coming = class.coming.range(..=until);
                wish.coming =
                    coming.map(|((due, _), ())| Coming { due: *due, likely: 1.0, beside }).collect();
                wish.unforeseen = class.arrivals.again(now, boot);
            }
            if wish.waiting > 0 || !wish.coming.is_empty() || wish.unforeseen > 0.0 {
                wishes.push((class.waiting.front().copied(), wish));
            }
        }
        wishes.sort_by_key(|(first, _)| first.unwrap_or(usize::MAX));
        wishes.into_iter().map(|(_, wish)| wish).collect()
    }

    fn sample(&mut self, now: Timestamp) {
        let last = self.trace.jobs.last().map_or(now, |job| job.arrives);
        let every = Duration::from_micros(u64::try_from(last.0).unwrap_or_default() / SAMPLES);
        if self.samples.last().is_none_or(|sample| now.since(sample.at) >= every) {
            let waiting: usize = self.classes.iter().map(|class| class.waiting.len()).sum();
            let capacity = self.supply.running() * self.world.slots;
            self.samples.push(Sample { at: now, demand: self.running.len() + waiting, capacity });
        }
    }

    fn outcome(mut self) -> Outcome {
        self.waits.sort_unstable_by(f64::total_cmp);
        let busy = self.trace.busy();
        let last = (self.waits.len() * 95).div_ceil(100).saturating_sub(1);
        Outcome {
            policy: self.policy.name.clone(),
            overhead: if busy > 0.0 { self.market.paid() / busy - 1.0 } else { 0.0 },
            cost: self.market.cost(),
            mean_wait_s: self.waits.iter().sum::<f64>() / self.waits.len().max(1) as f64,
            p95_wait_s: self.waits.get(last).copied().unwrap_or_default(),
            boots: self.market.launched(),
            resumes: self.resumes,
            parked_s: self.market.parked(),
            per_offering: self.market.per_offering(),
            given_up: self.given_up,
            bound_overhead: super::bound(self.trace, self.world.boot),
            peak: self.peak,
            samples: self.samples,
        }
    }
}
