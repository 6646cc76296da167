//! What is foretold from how long others took.

use proptest::prelude::*;
use rouse_model::durations::{Durations, nine_of_ten};
use std::time::Duration;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn of_a_few_nothing_is_foretold() {
    let few = Durations::of((1..10).map(secs));
    assert_eq!(few.ends_within(secs(5), secs(100)), 0.0);
    let enough = Durations::of((1..11).map(secs));
    assert!(enough.ends_within(secs(5), secs(100)) > 0.8);
    assert_eq!(
        Durations::of((0..20).map(|_| secs(0))).ends_within(secs(0), secs(9)),
        0.0,
        "it is no time at all"
    );
}

#[test]
fn the_longer_it_runs_the_sooner_it_ends_where_all_take_alike() {
    // Nine of ten take between 90 and 110 s.
    let alike = Durations::of((0..100).map(|n| if n % 10 == 0 { secs(300) } else { secs(90 + n % 20) }));
    let soon = |age| alike.ends_within(secs(age), secs(30));
    assert!(soon(0) < 0.01, "{}", soon(0));
    assert!(soon(85) > 0.85, "{}", soon(85));
    assert!(soon(150) < 0.01, "it is one of those that take 300 s: {}", soon(150));
    assert!(soon(290) > 0.85, "{}", soon(290));
    assert_eq!(soon(301), 0.0, "nobody knows of one like it");
}

#[test]
fn the_longest_is_known() {
    let of = |seconds: std::ops::Range<u64>| Durations::of(seconds.map(secs)).longest().as_millis();
    assert_eq!((of(1..10), of(1..11), of(1..1_000)), (0, 10_000, 999_000));
}

/// As if one more had taken longer than any known: of ten that took alike, one of eleven still goes on.
#[test]
fn what_is_known_is_not_all_there_is() {
    let ten = Durations::of((0..10).map(|_| secs(100)));
    let within = |seconds| ten.ends_within(secs(0), secs(seconds));
    assert!((within(100) - 10.0 / 11.0).abs() < 1e-9, "{}", within(100));
    assert_eq!(within(99), 0.0);
    // Within the last of 256 parts it rises evenly.
    let last = Durations::of((0..10).map(|_| secs(256))).ends_within(secs(0), Duration::from_millis(255_500));
    assert!((last - 5.0 / 11.0).abs() < 1e-9, "{last}");
}

#[test]
fn one_of_ten_may_take_longer() {
    let of =
        |seconds: &[u64]| nine_of_ten(seconds.iter().copied().map(secs).collect()).map(|boot| boot.as_secs());
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[7]), Some(7));
    assert_eq!(of(&[3, 90, 2]), Some(90));
    assert_eq!(of(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 600]), Some(10));
}

proptest! {
    #[test]
    fn it_is_a_chance_that_grows_with_the_time_it_has(
        known in prop::collection::vec(1..4_000u64, 10..80), age in 0..5_000u64, within in 0..5_000u64,
    ) {
        let durations = Durations::of(known.into_iter().map(secs));
        let chance = durations.ends_within(secs(age), secs(within));
        prop_assert!((0.0..=1.0).contains(&chance), "{}", chance);
        prop_assert!(durations.ends_within(secs(age), secs(within + 10)) >= chance - 1e-9);
    }

    /// Those that ended within some time are as many as was foretold of them at their beginning.
    #[test]
    fn it_foretells_what_it_was_told(known in prop::collection::vec(1..4_000u64, 100..200), within in 0..4_000u64) {
        let durations = Durations::of(known.iter().copied().map(secs));
        let ended = known.iter().filter(|took| **took <= within).count() as f64 / known.len() as f64;
        let foretold = durations.ends_within(secs(0), secs(within));
        // A bin is one part of 256, and each of a hundred is one.
        let around = known.iter().filter(|took| took.abs_diff(within) <= 16).count() as f64 / known.len() as f64;
        prop_assert!((foretold - ended).abs() <= around + 0.02, "{} of {}", foretold, ended);
    }
}
