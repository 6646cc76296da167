//! What goes wrong at a cloud, by what it is asked.

use rouse_provider_fake::Fault;
use rouse_testkit::chance::Dice;
use std::time::Duration;

pub(super) fn of_launch(dice: &mut Dice) -> Fault {
    match dice.below(17) {
        0 | 1 => Fault::NoCapacity,
        2 | 3 => Fault::Quota,
        4 | 5 => Fault::Throttled,
        6 | 7 => Fault::Unheard,
        8 | 9 => Fault::Unanswered,
        10 | 11 => Fault::Broken,
        // Seldom: it holds back all that wait for the image.
        12 => Fault::NoImage,
        _ => Fault::Late(Duration::from_secs(dice.below(200))),
    }
}

pub(super) fn of_instance(dice: &mut Dice) -> Fault {
    match dice.below(5) {
        0 => Fault::Dies,
        1 => Fault::Mute,
        2 => Fault::Slow(Duration::from_secs(dice.below(120))),
        3 => Fault::Preempted(Duration::from_secs(dice.below(60))),
        _ => Fault::Vanishes(Duration::from_secs(dice.below(60))),
    }
}

pub(super) fn of_call(dice: &mut Dice) -> Fault {
    match dice.below(5) {
        0 => Fault::Throttled,
        1 => Fault::Unheard,
        2 => Fault::Unanswered,
        3 => Fault::Late(Duration::from_secs(dice.below(60))),
        _ => Fault::Broken,
    }
}

/// None that is waited out: an image may take half an hour.
pub(super) fn of_resolve(dice: &mut Dice) -> Fault {
    match dice.below(3) {
        0 => Fault::Throttled,
        1 => Fault::Late(Duration::from_secs(dice.below(30))),
        _ => Fault::Broken,
    }
}

pub(super) fn of_list(dice: &mut Dice) -> Fault {
    match dice.below(2) {
        0 => Fault::Lags(Duration::from_secs(dice.below(60))),
        _ => of_call(dice),
    }
}
