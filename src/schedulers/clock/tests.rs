//! Cron on the nights on which clocks are changed, in real zones; and clocks that are set back.

use super::{next_after, strikes_anew};
use crate::config::{Cron, Missed};
use chrono::{DateTime, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use rouse_model::Timestamp;

/// Gaps and folds of half an hour, one and two; at night, at midnight, and none.
const ZONES: [Tz; 10] = [
    Tz::Europe__Paris,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::America__Santiago,
    Tz::America__Havana,
    Tz::Africa__Cairo,
    Tz::Asia__Beirut,
    Tz::Pacific__Chatham,
    Tz::Antarctica__Troll,
    Tz::Asia__Tokyo,
];

fn cron(expression: &str, zone: Tz) -> Cron {
    let expression = expression.parse().expect("an expression");
    let zone = zone.name().parse().expect("a zone");
    Cron { expression, zone, missed: Missed::Once, only_if_changed: None }
}

fn stamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp(at.timestamp_micros())
}

fn moment(at: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.0).expect("a moment of ours")
}

fn utc(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").expect("a moment").and_utc()
}

/// What strikes after one moment, up to another, each asked for after the one before it.
fn strokes(cron: &Cron, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut all = Vec::new();
    let mut last = stamp(from);
    while let Some(next) = next_after(cron, last).filter(|next| moment(*next) <= to) {
        assert!(next > last, "it stands still at {}", moment(last));
        all.push(moment(next));
        last = next;
    }
    all
}

/// Strokes of one night, from noon to noon in UTC.
fn of_night(expression: &str, zone: Tz, evening: &str) -> Vec<String> {
    let noon = utc(&format!("{evening} 12:00"));
    let all = strokes(&cron(expression, zone), noon, noon + Duration::days(1));
    all.iter().map(|at| at.format("%H:%M").to_string()).collect()
}

#[test]
fn on_the_night_that_lacks_an_hour_it_strikes_once_at_its_end() {
    // 02:00 becomes 03:00.
    assert_eq!(of_night("30 2 * * *", Tz::Europe__Paris, "2027-03-27"), ["01:00"]);
    assert_eq!(of_night("30 2 * * *", Tz::America__New_York, "2027-03-13"), ["07:00"]);
    // 02:00 becomes 02:30.
    assert_eq!(of_night("15 2 * * *", Tz::Australia__Lord_Howe, "2026-10-03"), ["15:30"]);
    // Midnight becomes 01:00.
    assert_eq!(of_night("0 0 * * *", Tz::America__Santiago, "2026-09-05"), ["04:00"]);
    // Those before and after are where they are written.
    assert_eq!(of_night("30 1 * * *", Tz::Europe__Paris, "2027-03-27"), ["00:30"]);
    assert_eq!(of_night("30 3 * * *", Tz::Europe__Paris, "2027-03-27"), ["01:30"]);
}

#[test]
fn on_the_night_that_has_an_hour_twice_it_strikes_once_in_the_first() {
    // 03:00 becomes 02:00.
    assert_eq!(of_night("30 2 * * *", Tz::Europe__Paris, "2026-10-24"), ["00:30"]);
    assert_eq!(of_night("0 2 * * *", Tz::Europe__Paris, "2026-10-24"), ["00:00"]);
    assert_eq!(of_night("30 1 * * *", Tz::America__New_York, "2026-10-31"), ["05:30"]);
    // 02:00 becomes 01:30.
    assert_eq!(of_night("45 1 * * *", Tz::Australia__Lord_Howe, "2027-04-03"), ["14:45"]);
    // Whoever begins between the two has missed it, and waits for the next night.
    let between = utc("2026-10-25 00:45");
    let next = next_after(&cron("30 2 * * *", Tz::Europe__Paris), stamp(between)).map(moment);
    assert_eq!(next, Some(utc("2026-10-26 01:30")));
}

#[test]
fn what_strikes_each_hour_does_so_in_each_hour_that_there_is() {
    let of_day = |from: &str, hours: i64| {
        let from = utc(from);
        strokes(&cron("0 * * * *", Tz::Europe__Paris), from, from + Duration::hours(hours)).len()
    };
    // The day that has 25 hours, and the one that has 23.
    assert_eq!(of_day("2026-10-24 22:00", 25), 25);
    assert_eq!(of_day("2027-03-27 23:00", 23), 23);
}

#[test]
fn a_clock_that_is_set_back_is_followed_where_nothing_strikes_twice_for_it() {
    let now = utc("2026-11-25 11:00");
    let anew = |expression: &str, ahead: Duration| {
        strikes_anew(&cron(expression, Tz::UTC), stamp(now + ahead), stamp(now))
    };
    for steady in ["* * * * *", "*/5 * * * *", "30 * * * *", "@hourly", "0 3 * * *"] {
        assert!(!anew(steady, Duration::seconds(-5)), "{steady}: it stands as it should");
        assert!(!anew(steady, Duration::seconds(30)), "{steady}: it is kept in step");
        assert!(anew(steady, Duration::hours(24)), "{steady}: it was wrong by a day");
    }
    for often in ["* * * * *", "*/5 * * * *", "30 * * * *", "@hourly"] {
        assert!(anew(often, Duration::hours(1)), "{often}");
    }
    // It has struck at that hour.
    for written in ["0 12 * * *", "30 2 * * mon-fri", "@daily", "@weekly"] {
        assert!(!anew(written, Duration::hours(1)), "{written}");
    }
}

/// When a local time is there, for the first time on its date; where it is not, the end of the gap.
fn first_of(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    let mut at = local;
    loop {
        match zone.from_local_datetime(&at) {
            LocalResult::Single(found) | LocalResult::Ambiguous(found, _) => {
                return found.with_timezone(&Utc);
            }
            LocalResult::None => at += Duration::minutes(1),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A written time strikes once on each date, whatever the zone does that night and wherever a master begins to look.
    #[test]
    fn once_on_each_date(
        zone in proptest::sample::select(ZONES.to_vec()),
        minute_of_day in 0u32..1440,
        day in 0i64..730,
        begin in 0i64..86_400,
    ) {
        let (hour, minute) = (minute_of_day / 60, minute_of_day % 60);
        let cron = cron(&format!("{minute} {hour} * * *"), zone);
        let date = NaiveDate::from_ymd_opt(2026, 1, 1).expect("a date") + Duration::days(day);
        let from = date.and_time(NaiveTime::MIN).and_utc() + Duration::seconds(begin);
        let seen = strokes(&cron, from, from + Duration::days(230));
        let time = NaiveTime::from_hms_opt(hour, minute, 0).expect("a time");
        let mut expected: Vec<DateTime<Utc>> = (-2..232)
            .map(|days| first_of(zone, (date + Duration::days(days)).and_time(time)))
            .filter(|at| *at > from && *at <= from + Duration::days(230))
            .collect();
        expected.sort();
        prop_assert_eq!(seen, expected, "{} {}:{} after {}", zone, hour, minute, from);
    }
}
