//! Which workers end.

use super::outlook::Classes;
use super::{Answer, Capacity, Lacks, Reason, parking, warm};
use crate::matching::ReuseClass;
use crate::money::Money;
use crate::{Timestamp, WorkerId};
use std::collections::{HashMap, HashSet};

/// A worker that served its last build ends.
pub(super) fn used(capacity: &[Capacity], answer: &mut Answer) {
    for worker in capacity.iter().filter(|w| !w.leaving && w.uses_left == 0 && w.idle_since.is_some()) {
        answer.end.push((worker.worker, Reason::Used));
    }
}

/// Where what all may still be given to do costs more than may be spent, some are given no more: the idle ones end, the longest idle first, and then busy ones
/// after what they do.
pub(super) fn unaffordable(classes: &Classes<'_>, answer: &mut Answer) {
    let mut lacks = Money::default() - classes.limits.purse.map_or(Money::default(), |purse| purse.left);
    if lacks <= Money::default() {
        return;
    }
    let ending: HashSet<WorkerId> = answer.end.iter().map(|(worker, _)| *worker).collect();
    let of_use = |w: &&Capacity| !w.leaving && w.spares > Money::default() && !ending.contains(&w.worker);
    let mut workers: Vec<&Capacity> = classes.capacity.iter().filter(of_use).collect();
    workers.sort_by_key(|w| (w.idle_since.is_none(), w.idle_since, w.worker));
    for worker in workers {
        if lacks <= Money::default() {
            break;
        }
        lacks = lacks - worker.spares;
        answer.end.push((worker.worker, Reason::Budget));
    }
}

/// Idle workers of classes that nothing waits for, and that do not end anyway, longest idle first.
fn spare<'a>(classes: &Classes<'a>, answer: &Answer) -> Vec<&'a Capacity> {
    let ending: HashSet<WorkerId> = answer.end.iter().map(|(worker, _)| *worker).collect();
    let mut spare: Vec<&Capacity> = classes
        .capacity
        .iter()
        .filter(|w| !w.leaving && w.idle_since.is_some() && !ending.contains(&w.worker))
        .filter(|w| classes.get(&w.class).is_none_or(|outlook| outlook.waiting == 0))
        .collect();
    spare.sort_by_key(|w| (w.idle_since, w.worker));
    spare
}

/// At the maximum, workers of classes without demand make room: those that are parked before those that idle.
pub(super) fn displace(classes: &Classes<'_>, short: Lacks, answer: &mut Answer) {
    let leaving = classes.capacity.iter().filter(|w| w.leaving).count() + answer.end.len();
    for victim in parking::spare(classes, answer).into_iter().take(short.room.saturating_sub(leaving)) {
        answer.end.push((victim.worker, Reason::Displaced));
    }
    let leaving = classes.capacity.iter().filter(|w| w.leaving).count() + answer.end.len();
    let spare = spare(classes, answer);
    for victim in spare.into_iter().take(short.all.saturating_sub(leaving)) {
        answer.end.push((victim.worker, Reason::Displaced));
    }
}

/// Those that have idled for long enough, and that nothing is likely to want before others could come.
pub(super) fn idle(classes: &Classes<'_>, now: Timestamp, answer: &mut Answer) {
    let limits = classes.limits;
    // Those that were just decided on count, as they will when this is asked again.
    let launched = answer.coming();
    let usual = limits.usual.as_ref();
    let ending: HashSet<WorkerId> = answer.end.iter().map(|(worker, _)| *worker).collect();
    let stays = |w: &&Capacity| warm::counts(w, usual) && !ending.contains(&w.worker);
    let staying = classes.capacity.iter().filter(stays).count() + launched;
    let mut surplus = staying.saturating_sub(limits.min);
    let spare = spare(classes, answer);
    let mut idle: HashMap<&ReuseClass, usize> = HashMap::new();
    let mut kept: HashMap<&ReuseClass, usize> = HashMap::new();
    // Of each class those stay that became idle last: they are given the next builds.
    for worker in spare.iter().rev() {
        let wanted = || classes.get(&worker.class).map_or(0, |outlook| classes.kept(outlook));
        let kept = kept.entry(&worker.class).or_insert_with(wanted);
        match *kept {
            0 => *idle.entry(&worker.class).or_default() += 1,
            slots => *kept = slots.saturating_sub(worker.free.min(worker.uses_left)),
        }
    }
    // Of the class that is kept warm.
    let mut warm = warm::may_end(classes);
    let enough = limits.idle.mul_f64((1.0 - limits.foretold).clamp(0.0, 1.0));
    for worker in spare {
        let of_class = idle.get_mut(&worker.class);
        // One of another class is none of those that are kept.
        let kept = warm::counts(worker, usual);
        let may = !kept || (surplus > 0 && warm > 0);
        let Some(of_class) = of_class.filter(|left| **left > 0 && may) else { continue };
        if worker.idle_since.is_some_and(|since| now.since(since) >= enough) {
            *of_class -= 1;
            if kept {
                surplus -= 1;
                warm -= 1;
            }
            answer.end.push((worker.worker, Reason::Idle));
        }
    }
}
