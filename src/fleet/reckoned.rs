//! What a pass came to for a pool, as it is kept.

use super::sizing::class_of_worker;
use rouse_model::decision::{DecisionCode, LaunchedAs, Reckoning, Short, Sum};
use rouse_model::matching::ReuseClass;
use rouse_model::scaling::offers::PassedOver;
use rouse_model::scaling::{Answer, Capacity, Limits, Reason};
use rouse_model::worker::Worker;
use std::collections::HashMap;

/// What is launched for one pool.
#[derive(Default)]
pub(super) struct Launches {
    pub workers: Vec<Worker>,
    /// What no provider had room for, or the rest of the budget did not pay for.
    pub held_back: Vec<(ReuseClass, usize, Short)>,
    /// Whether one of them is of an offer that is not the first.
    pub fell_back: bool,
    /// What would have come before them, each once.
    passed: Vec<PassedOver>,
}

impl Launches {
    pub(super) fn passed(&mut self, passed: Vec<PassedOver>) {
        for one in passed {
            match self.passed.iter_mut().find(|known| known.offering == one.offering) {
                Some(known) => *known = one,
                None => self.passed.push(one),
            }
        }
    }
}

pub(super) fn reckoning_of(
    limits: &Limits,
    there: &[Capacity],
    answer: &Answer,
    launches: &Launches,
) -> (DecisionCode, Reckoning) {
    let mut reckoning = Reckoning::within(limits, there);
    let mut launched: HashMap<ReuseClass, Vec<&Worker>> = HashMap::new();
    for worker in &launches.workers {
        launched.entry(class_of_worker(worker)).or_default().push(worker);
    }
    let mut held_back: HashMap<&ReuseClass, usize> = HashMap::new();
    let by_limits = answer.held_back.iter().map(|(class, count, _)| (class, *count));
    let by_room = launches.held_back.iter().map(|(class, count, _)| (class, *count));
    for (class, count) in by_limits.chain(by_room) {
        *held_back.entry(class).or_default() += count;
    }
    for (class, terms) in &answer.terms {
        let workers = launched.get(class).map_or(&[][..], Vec::as_slice);
        reckoning.sums.push(Sum {
            project: class.project.clone(),
            trust: class.trust,
            spec_digest: class.spec_digest.clone(),
            terms: *terms,
            launched: workers.len(),
            offerings: launched_as(workers),
            held_back: held_back.get(class).copied().unwrap_or_default(),
        });
    }
    reckoning.passed.clone_from(&launches.passed);
    // That one has served its last build is reason enough.
    reckoning.ended = answer.end.iter().filter(|(_, reason)| *reason != Reason::Used).copied().collect();
    reckoning.resumed.clone_from(&answer.resume);
    reckoning.parked.clone_from(&answer.park);
    let bound = answer.held_back.first().map(|(_, _, bound)| Short::By(*bound));
    let short = launches.held_back.first().map(|(_, _, short)| *short).or(bound);
    (reckoning.code(short, launches.fell_back), reckoning)
}

/// In the order in which they were chosen.
fn launched_as(workers: &[&Worker]) -> Vec<LaunchedAs> {
    let mut all: Vec<LaunchedAs> = Vec::new();
    for worker in workers {
        let Some(offering) = &worker.offering else { continue };
        match all.iter_mut().find(|one| one.offering == *offering && one.price == worker.price) {
            Some(one) => one.count += 1,
            None => all.push(LaunchedAs { offering: offering.clone(), price: worker.price, count: 1 }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::money::Price;
    use rouse_store::testing::samples;

    #[test]
    fn those_that_are_alike_are_told_of_together_in_the_order_of_the_first() {
        let worker = |offering: Option<&str>, price| Worker {
            offering: offering.map(str::to_owned),
            price: Price(price),
            ..samples::worker(1)
        };
        let workers = [
            worker(Some("spot"), 3),
            worker(None, 3),
            worker(Some("sure"), 9),
            worker(Some("spot"), 3),
            worker(Some("spot"), 4),
            worker(Some("dear"), 9),
            worker(Some("spot"), 3),
        ];
        let told = launched_as(&workers.iter().collect::<Vec<_>>());
        let told: Vec<_> = told.iter().map(|one| (one.offering.as_str(), one.price.0, one.count)).collect();
        assert_eq!(told, [("spot", 3, 3), ("sure", 9, 1), ("spot", 4, 1), ("dear", 9, 1)]);
    }
}
