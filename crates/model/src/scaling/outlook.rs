//! What each class of a pool will want and will have, from now until one boot time from now.

use super::{Capacity, Demand, Limits, Terms};
use crate::Timestamp;
use crate::matching::ReuseClass;
use std::collections::HashMap;
use std::time::Duration;

/// Moments that are looked at, equally far apart; the last is one boot time from now.
const STEPS: usize = 8;

type Steps = [f64; STEPS];

/// The classes of one pool: those that are wanted, in order of demand, then those that are only there.
pub(super) struct Classes<'a> {
    pub limits: &'a Limits,
    pub demand: &'a [Demand],
    pub capacity: &'a [Capacity],
    places: HashMap<&'a ReuseClass, usize>,
    all: Vec<Outlook<'a>>,
    /// The first of them are those that are wanted.
    asked: usize,
}

/// What one class wants and has, in slots.
pub(super) struct Outlook<'a> {
    class: &'a ReuseClass,
    pub waiting: usize,
    /// Free on workers that are up.
    free: usize,
    booting: usize,
    /// Free on workers that are up and run something.
    pub beside: usize,
    /// By each moment.
    announced: Steps,
    unforeseen: Steps,
    up: Steps,
    ending: Steps,
    variance: Steps,
    /// Its workers that may run wishes that are counted on each.
    workers: Vec<&'a Capacity>,
}

impl<'a> Outlook<'a> {
    fn of(class: &'a ReuseClass) -> Self {
        let none = [0.0; STEPS];
        Self {
            class,
            waiting: 0,
            free: 0,
            booting: 0,
            beside: 0,
            announced: none,
            unforeseen: none,
            up: none,
            ending: none,
            variance: none,
            workers: Vec::new(),
        }
    }

    fn reserve(&self, limits: &Limits, step: usize) -> f64 {
        limits.reserve * self.variance[step].sqrt()
    }

    /// More that will be wanted than what waits, less what will be given back, once a worker that is launched now is up; with what may come otherwise than
    /// announced, where that is hoped for.
    fn more(&self, limits: &Limits, hopes: bool) -> f64 {
        let last = STEPS - 1;
        let sure = self.announced[last] - self.ending[last];
        if hopes { sure + self.unforeseen[last] + self.reserve(limits, last) } else { sure }
    }

    /// How many slots of idle workers will be wanted at some moment before another worker could come.
    fn kept(&self, limits: &Limits) -> f64 {
        let at = |step: usize| {
            let wanted = self.waiting as f64 + self.announced[step] + self.unforeseen[step];
            wanted + self.reserve(limits, step) - self.ending[step] - self.up[step] - self.beside as f64
        };
        (0..STEPS).map(at).fold(0.0, f64::max)
    }
}

impl<'a> Classes<'a> {
    pub(super) fn of(
        limits: &'a Limits,
        demand: &'a [Demand],
        capacity: &'a [Capacity],
        now: Timestamp,
    ) -> Self {
        let mut classes =
            Self { limits, demand, capacity, places: HashMap::new(), all: Vec::new(), asked: 0 };
        for wish in demand {
            let outlook = classes.entry(&wish.class);
            outlook.waiting += wish.waiting;
            if let Some(boot) = limits.boot {
                foretell_demand(outlook, wish, boot, now);
            }
        }
        classes.asked = classes.all.len();
        let mut last: Option<usize> = None;
        for worker in capacity.iter().filter(|worker| !worker.leaving && worker.parked.is_none()) {
            // Mostly the next one is of the same class: looking it up costs more than comparing it.
            let place = match last.filter(|place| *classes.all[*place].class == worker.class) {
                Some(place) => place,
                None => classes.place(&worker.class),
            };
            last = Some(place);
            foretell_supply(&mut classes.all[place], worker, limits, now);
        }
        classes
    }

    fn place(&mut self, class: &'a ReuseClass) -> usize {
        *self.places.entry(class).or_insert_with(|| {
            self.all.push(Outlook::of(class));
            self.all.len() - 1
        })
    }

    fn entry(&mut self, class: &'a ReuseClass) -> &mut Outlook<'a> {
        let place = self.place(class);
        &mut self.all[place]
    }

    pub(super) fn get(&self, class: &ReuseClass) -> Option<&Outlook<'a>> {
        self.places.get(class).map(|place| &self.all[*place])
    }

    /// How many more workers each wish wants.
    pub(super) fn wanted(&self, hopes: bool) -> Vec<usize> {
        // What one more worker is good for.
        let each = self.limits.slots.min(self.limits.builds).max(1);
        let mut have: Vec<usize> = self.all.iter().map(|outlook| outlook.free + outlook.booting).collect();
        let mut missing: Vec<usize> = Vec::with_capacity(self.demand.len());
        let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); self.all.len()];
        for (at, wish) in self.demand.iter().enumerate() {
            let place = self.places[&wish.class];
            let met = wish.waiting.min(have[place]).min(self.unlocked(place, wish));
            have[place] -= met;
            missing.push(wish.waiting - met);
            of_class[place].push(at);
        }
        for (place, outlook) in self.all.iter().enumerate() {
            let more = outlook.more(self.limits, hopes);
            // What is free now is not wanted by those that wait: they would have it, but for their locks.
            let more = if more > 0.0 { (more - have[place] as f64).max(0.0) } else { more };
            adjust(more.round(), &of_class[place], &mut missing);
        }
        let mut left: Vec<usize> = vec![0; self.all.len()];
        let wanted = self.demand.iter().zip(missing).map(|(wish, missing)| {
            let left = &mut left[self.places[&wish.class]];
            let met = missing.min(*left);
            *left -= met;
            let missing = missing - met;
            let count = missing.div_ceil(each.min(wish.at_once.unwrap_or(each)).max(1));
            // The last one's free slots serve the same class further down.
            *left += (count * each).saturating_sub(missing);
            count
        });
        wanted.collect()
    }

    /// How many of these the workers of their class could take with the locks that are counted on each.
    fn unlocked(&self, place: usize, wish: &Demand) -> usize {
        let Some(at_once) = wish.at_once else { return usize::MAX };
        let free = |w: &&Capacity| w.free.min(w.uses_left).min(at_once.saturating_sub(w.locked));
        self.all[place].workers.iter().map(free).sum()
    }

    /// Slots of idle workers of a class that are wanted before others could come, rounded up.
    pub(super) fn kept(&self, outlook: &Outlook<'_>) -> usize {
        outlook.kept(self.limits).ceil() as usize
    }

    pub(super) fn terms(&self) -> Vec<(ReuseClass, Terms)> {
        let last = STEPS - 1;
        let terms = self.all[..self.asked].iter().map(|outlook| {
            let terms = Terms {
                waiting: outlook.waiting,
                announced: outlook.announced[last],
                unforeseen: outlook.unforeseen[last],
                reserve: outlook.reserve(self.limits, last),
                free: outlook.free,
                booting: outlook.booting,
                ending: outlook.ending[last],
            };
            (outlook.class.clone(), terms)
        });
        terms.collect()
    }
}

/// More slots are added to the last wish of a class; fewer are taken away from the last first.
fn adjust(more: f64, wishes: &[usize], missing: &mut [usize]) {
    // A float that is too large for it is the largest, and one below 0 is 0.
    let (mut fewer, more) = (-more as usize, more as usize);
    if let Some(last) = wishes.last() {
        missing[*last] += more;
    }
    for wish in wishes.iter().rev() {
        let less = fewer.min(missing[*wish]);
        missing[*wish] -= less;
        fewer -= less;
    }
}

/// The moments from now to one boot time from now, from 1 on.
fn moment(step: usize, boot: Duration) -> Duration {
    boot.mul_f64((step + 1) as f64 / STEPS as f64)
}

/// The first moment by which something has happened; `None` where that is after the last one.
fn step_of(at: Timestamp, boot: Duration, now: Timestamp) -> Option<usize> {
    let after = at.since(now);
    if after > boot {
        return None;
    }
    let steps = after.as_secs_f64() / boot.as_secs_f64().max(f64::MIN_POSITIVE) * STEPS as f64;
    Some((steps.ceil() as usize).clamp(1, STEPS) - 1)
}

fn foretell_demand(outlook: &mut Outlook<'_>, wish: &Demand, boot: Duration, now: Timestamp) {
    let mut by = [[0.0; 3]; STEPS];
    for coming in &wish.coming {
        let Some(step) = step_of(coming.due, boot, now) else { break };
        by[step][0] += coming.likely;
        by[step][1] += coming.beside;
        by[step][2] += coming.likely * (1.0 - coming.likely);
    }
    let (mut announced, mut beside, mut variance) = (0.0, 0.0, 0.0);
    for (step, [number, more, spread]) in by.into_iter().enumerate() {
        announced += number;
        beside += more;
        variance += spread;
        let unforeseen = beside + wish.unforeseen * (step + 1) as f64 / STEPS as f64;
        outlook.announced[step] += announced;
        outlook.unforeseen[step] += unforeseen;
        outlook.variance[step] += variance + unforeseen;
    }
}

fn foretell_supply<'a>(outlook: &mut Outlook<'a>, worker: &'a Capacity, limits: &Limits, now: Timestamp) {
    let free = worker.free.min(worker.uses_left);
    match worker.up_by {
        None => outlook.free += free,
        Some(_) => outlook.booting += free,
    }
    outlook.workers.push(worker);
    if worker.up_by.is_none() && worker.idle_since.is_none() {
        outlook.beside += free;
    }
    let Some(boot) = limits.boot else { return };
    if let Some(up_by) = worker.up_by {
        // One that is late is likely up soon.
        let step = step_of(up_by, boot, now).unwrap_or(STEPS - 1);
        outlook.up[step..].iter_mut().for_each(|up| *up += free as f64);
    }
    let moments = std::array::from_fn::<_, STEPS, _>(|step| moment(step, boot));
    // Those that it may not serve any more are given back to nobody.
    for running in worker.running.iter().take(worker.uses_left - free) {
        let chances = running.usual.ends_within_each(now.since(running.since), moments);
        for (step, chance) in chances.into_iter().enumerate() {
            outlook.ending[step] += chance;
            outlook.variance[step] += chance * (1.0 - chance);
        }
    }
}
