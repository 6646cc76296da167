//! What is kept for what may come.

use super::outlook::Classes;
use super::{Answer, Capacity};
use crate::matching::ReuseClass;
use crate::money::Price;

/// How much the [reserve](super::Limits::reserve) is at most: 31 of 1,000,000 would wait.
const MOST: f64 = 4.0;

/// The [reserve](super::Limits::reserve) where waiting and idling cost so much: it lacks as often as waiting is worth it, taken that what is uncertain is normally
/// distributed (the newsvendor's quantile).
#[must_use]
pub fn reserve(waiting: Price, idling: Price) -> f64 {
    let (waiting, idling) = (waiting.0 as f64, idling.0 as f64);
    // How likely one more would be wanted, where the last one pays.
    let tail = idling / (waiting + idling).max(1.0);
    if tail >= 0.5 { 0.0 } else { deviations(tail).min(MOST) }
}

/// The normal deviate that is exceeded with so small a probability: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.23, wrong by less
/// than 0.00045.
fn deviations(tail: f64) -> f64 {
    let t = (-2.0 * tail.max(f64::MIN_POSITIVE).ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - above / below
}

/// Whether one counts among the workers that are kept. One that idles does not where it has served its last build, or is not of the class that is wanted next.
pub(super) fn counts(worker: &Capacity, usual: Option<&ReuseClass>) -> bool {
    let is_of_use = worker.uses_left > 0 && usual.is_none_or(|usual| *usual == worker.class);
    !worker.leaving && worker.parked.is_none() && (worker.idle_since.is_none() || is_of_use)
}

/// Workers of the usual class that are to come though nothing waits for them.
pub(super) fn lacking<'a>(classes: &Classes<'a>, answer: &Answer) -> Option<(&'a ReuseClass, usize)> {
    let limits = classes.limits;
    let usual = limits.usual.as_ref()?;
    let launched = answer.coming();
    let there = classes.capacity.iter().filter(|worker| counts(worker, Some(usual))).count();
    let for_min = limits.min.saturating_sub(there + launched);
    // What was just launched is needed.
    let for_warm = limits.warm.saturating_sub(idle(classes, usual) + for_min);
    Some((usual, for_min + for_warm)).filter(|(_, count)| *count > 0)
}

/// Workers of a class that are idle, or will be, beyond those that what waits for it will take.
fn idle(classes: &Classes<'_>, class: &ReuseClass) -> usize {
    let of_class = classes.capacity.iter().filter(|w| w.class == *class && counts(w, None));
    let idle = of_class.filter(|w| w.idle_since.is_some() || w.up_by.is_some()).count();
    // Free slots of busy workers take some of it.
    let waiting = classes.get(class).map_or(0, |outlook| outlook.waiting.saturating_sub(outlook.beside));
    let each = classes.limits.slots.min(classes.limits.builds).max(1);
    idle.saturating_sub(waiting.div_ceil(each))
}

/// How many idle workers of the usual class may end.
pub(super) fn may_end(classes: &Classes<'_>) -> usize {
    let idle = classes.limits.usual.as_ref().map_or(usize::MAX, |usual| idle(classes, usual));
    idle.saturating_sub(classes.limits.warm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_what_waiting_is_worth() {
        let of = |waiting, idling| (reserve(Price(waiting), Price(idling)) * 100.0).round() / 100.0;
        assert_eq!(of(100, 100), 0.0);
        assert_eq!(of(1, 100), 0.0, "never less than none");
        assert_eq!(of(300, 100), 0.67, "the upper quartile");
        assert_eq!(of(975, 25), 1.96);
        assert_eq!(of(99_000, 1_000), 2.33);
        assert_eq!(of(30_000_000, 170_000), 2.53, "0.50 a minute, 0.17 an hour");
        assert_eq!((of(i64::MAX, 1), of(5, 0), of(0, 0)), (4.0, 4.0, 4.0), "idling that costs nothing");
    }
}
