//! Which idle workers are parked instead of ended, which parked ones are resumed, and which end.

use super::outlook::Classes;
use super::{Answer, Capacity, Reason};
use crate::WorkerId;
use crate::matching::ReuseClass;
use std::collections::{HashMap, HashSet};

/// Parked workers that may be resumed, by class: of each the one that was parked last comes first.
pub(super) struct Parked<'a>(HashMap<&'a ReuseClass, Vec<&'a Capacity>>);

impl<'a> Parked<'a> {
    pub(super) fn of(capacity: &'a [Capacity]) -> Self {
        let mut parked: HashMap<&ReuseClass, Vec<&Capacity>> = HashMap::new();
        for worker in capacity.iter().filter(|w| lies(w) && w.uses_left > 0) {
            parked.entry(&worker.class).or_default().push(worker);
        }
        parked.values_mut().for_each(|workers| workers.sort_by_key(|w| (w.parked, w.worker)));
        Self(parked)
    }

    /// As many of a class, or fewer.
    pub(super) fn take(&mut self, class: &ReuseClass, most: usize) -> Vec<WorkerId> {
        let Some(workers) = self.0.get_mut(class) else { return Vec::new() };
        let taken = workers.split_off(workers.len().saturating_sub(most));
        taken.into_iter().rev().map(|worker| worker.worker).collect()
    }
}

fn lies(worker: &Capacity) -> bool {
    !worker.leaving && worker.parked.is_some()
}

/// Parked workers that stay so, longest parked first.
fn staying<'a>(classes: &Classes<'a>, answer: &Answer) -> Vec<&'a Capacity> {
    let moves: HashSet<WorkerId> =
        answer.resume.iter().copied().chain(answer.end.iter().map(|(worker, _)| *worker)).collect();
    let stays = |w: &&Capacity| lies(w) && !moves.contains(&w.worker);
    let mut staying: Vec<&Capacity> = classes.capacity.iter().filter(stays).collect();
    staying.sort_by_key(|w| (w.parked, w.worker));
    staying
}

/// Those of classes that nothing waits for.
pub(super) fn spare<'a>(classes: &Classes<'a>, answer: &Answer) -> Vec<&'a Capacity> {
    let mut spare = staying(classes, answer);
    spare.retain(|w| classes.get(&w.class).is_none_or(|outlook| outlook.waiting == 0));
    spare
}

/// Parks those that would end for idleness, as far as there is room for them: those that were used last, and of as many classes as there are. What is
/// more than is to be kept, or can serve nobody, ends.
pub(super) fn park(classes: &Classes<'_>, answer: &mut Answer) {
    let most = classes.limits.park;
    let mut lying = staying(classes, answer);
    lying.retain(|worker| {
        let useless = worker.uses_left == 0;
        if useless {
            answer.end.push((worker.worker, Reason::Used));
        }
        !useless
    });
    for worker in lying.drain(..lying.len().saturating_sub(most)) {
        answer.end.push((worker.worker, Reason::Idle));
    }
    if most == 0 {
        return;
    }
    let idle: HashSet<WorkerId> =
        answer.end.iter().filter(|(_, why)| *why == Reason::Idle).map(|(worker, _)| *worker).collect();
    let may = |w: &&Capacity| idle.contains(&w.worker) && w.parked.is_none() && w.uses_left > 0;
    let mut candidates: Vec<&Capacity> = classes.capacity.iter().filter(may).collect();
    candidates.sort_by_key(|w| (std::cmp::Reverse(w.idle_since), w.worker));
    let mut of_class: HashMap<&ReuseClass, usize> = HashMap::new();
    for worker in &lying {
        *of_class.entry(&worker.class).or_default() += 1;
    }
    let mut room = most - lying.len();
    for worker in candidates {
        let alike = of_class.get(&worker.class).copied().unwrap_or_default();
        if room == 0 {
            // One of a class that has more of them makes room.
            let more = |w: &&Capacity| of_class.get(&w.class).is_some_and(|count| *count > alike);
            let Some(at) = lying.iter().position(more) else { continue };
            let victim = lying.remove(at);
            if let Some(count) = of_class.get_mut(&victim.class) {
                *count -= 1;
            }
            answer.end.push((victim.worker, Reason::Displaced));
        } else {
            room -= 1;
        }
        *of_class.entry(&worker.class).or_default() += 1;
        answer.park.push(worker.worker);
    }
    answer.end.retain(|(worker, _)| !answer.park.contains(worker));
}
