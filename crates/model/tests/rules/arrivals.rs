//! What is counted on of what comes without a word.

use rouse_model::Timestamp;
use rouse_model::arrivals::{Arrivals, foretold};
use std::time::Duration;

const BOOT: Duration = Duration::from_secs(60);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// So many that were announced, then so many that were not, all at the same moment.
fn of(announced: usize, unannounced: usize) -> Arrivals {
    let mut arrivals = Arrivals::default();
    (0..announced).for_each(|_| arrivals.came(at(0), true));
    (0..unannounced).for_each(|_| arrivals.came(at(0), false));
    arrivals
}

fn unannounced(moments: impl IntoIterator<Item = i64>) -> Arrivals {
    let mut arrivals = Arrivals::default();
    moments.into_iter().for_each(|moment| arrivals.came(at(moment), false));
    arrivals
}

fn is_near(this: f64, that: f64) {
    assert!((this - that).abs() < 0.001, "{this}, not {that}");
}

#[test]
fn of_a_few_nothing_is_learned() {
    assert_eq!((of(10, 8).beside(), foretold([&of(10, 8)])), (0.0, 0.0));
    is_near(of(16, 8).beside(), 0.503);
    is_near(foretold([&of(16, 8)]), 0.666);
    // The twentieth is just lacking by what the others have faded.
    assert_eq!((of(10, 10).beside(), foretold([&of(10, 10)])), (0.0, 0.0));
    is_near(of(11, 10).beside(), 0.914);
}

#[test]
fn no_more_than_one_is_counted_on_beside_each_that_is_announced() {
    is_near(of(10, 90).beside(), 1.0);
    assert_eq!(of(0, 90).beside(), 0.0, "none is announced");
    is_near(of(90, 0).beside(), 0.0);
}

#[test]
fn what_came_long_ago_counts_less() {
    let mut changed = of(2_000, 0);
    is_near(foretold([&changed]), 1.0);
    (0..2_000).for_each(|_| changed.came(at(0), false));
    is_near(foretold([&changed]), 0.269);
}

#[test]
fn several_kinds_of_work_are_added() {
    // Too few of each, enough of both; a pool is asked by several builders.
    let (one, other) = (of(12, 0), of(0, 12));
    assert_eq!((foretold([&one]), foretold([&other])), (0.0, 0.0));
    is_near(foretold([&one, &other]), 0.5);
    is_near(foretold([&one, &other, &other]), 0.333);
}

#[test]
fn a_burst_that_goes_on_is_counted_on_with_caution() {
    let now = at(10_000);
    let often = |windows: i64, each: usize| {
        // Oldest first, in the middle of each window of one boot.
        let moments = (0..windows).rev().flat_map(|back| std::iter::repeat_n(10_000 - 60 * back - 30, each));
        unannounced(moments).again(now, BOOT)
    };
    assert_eq!(often(1, 7), 0.0, "nobody knows yet whether it goes on");
    is_near(often(5, 1), 0.4);
    is_near(often(5, 10), 4.0);
    // Four, two and one: of what came, so much came again in the next one.
    let growing = unannounced([9_850, 9_910, 9_920, 9_970, 9_971, 9_972, 9_973]).again(now, BOOT);
    is_near(growing, 0.4 * 4.0);
    let falling = unannounced([9_850, 9_851, 9_852, 9_853, 9_910, 9_920, 9_970]).again(now, BOOT);
    is_near(falling, 0.4 * (2.0 + 8.0) / (4.0 + 16.0));
}

#[test]
fn nothing_is_counted_on_where_nothing_came_lately() {
    let now = at(10_000);
    let before = || (0..10).map(|n| 9_000 + 60 * n);
    assert_eq!(unannounced(before()).again(now, BOOT), 0.0, "the last window is empty");
    assert_eq!(Arrivals::default().again(now, BOOT), 0.0);
    // One each ten minutes: what came was never followed.
    assert_eq!(unannounced((0..6).map(|n| 6_990 + 600 * n)).again(at(10_000), BOOT), 0.0);
    let announced = of(50, 0);
    assert_eq!(announced.again(at(0), BOOT), 0.0, "they are known without it");
}

#[test]
fn only_the_last_hour_is_looked_at() {
    // In each minute of the hour before the last one a hundred, in the last two minutes one each.
    let busy = (0..60).flat_map(|minute| std::iter::repeat_n(60 * minute, 100));
    let now = at(3_600 + 3_600 + 60);
    let arrivals = unannounced(busy.chain([7_150, 7_210]));
    is_near(arrivals.again(now, BOOT), 0.4);
    // One that came just an hour ago is looked at; it was not followed.
    let edge = unannounced([3_660, 7_150, 7_210]);
    is_near(edge.again(now, BOOT), 0.2);
    is_near(edge.again(now + Duration::from_micros(1), BOOT), 0.4);
}
