//! A rate limit for each account and class of calls, which gives way where the account says that it is asked too much.
//!
//! A lane is a token bucket on tokio's clock: a second's worth of calls may go at once, and the others go in the order in which they came.
//! Who waits gives its place back by being dropped, at no cost to those behind it. A throttled answer halves the rate and lets nothing
//! through for as long as the answer asks; good ones raise it by a tenth a second while it is what calls wait for, up to the configured rate. Where none is configured,
//! calls go as they come until the first throttled answer: then the rate is half of what was asked in a second. It is forgotten when
//! there was no such answer for a while.

use crate::units::Rate;
use serde::Serialize;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// Between two raises of a rate that was cut.
const RAISE: Duration = Duration::from_secs(1);
/// By how much it is raised.
const RAISED: f64 = 1.1;
/// A rate that was cut is as configured again when no answer was throttled for so long.
const CALM: Duration = Duration::from_secs(600);
/// Nothing is cut below so many calls a second, unless less is configured.
const LEAST: f64 = 0.5;
/// After a throttled answer that names no time.
const PAUSE: Duration = Duration::from_secs(1);
/// No answer is believed that asks for a longer pause.
const LONGEST: Duration = Duration::from_secs(300);
/// A rate may be changed while somebody waits by the old one: so often they look again.
const LOOK: Duration = Duration::from_secs(1);
/// Who was not let through in time may come again so soon: the lane is not to stand still meanwhile.
const SOON: Duration = Duration::from_secs(1);

/// What an account may be asked. Clouds count what is read and what is changed apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallClass {
    /// List, inspect, console, logs of services.
    Reads,
    /// Launch, terminate, park, resume.
    Writes,
}

/// The most calls of each class; no limit of ours where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Rates {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<Rate>,
}

/// One account's rates: all connections to it share them.
#[derive(Debug)]
pub struct Pace {
    reads: Lane,
    writes: Lane,
}

impl Pace {
    /// The account has not been asked for anything yet.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { reads: Lane::new(rates.reads), writes: Lane::new(rates.writes) }
    }

    /// What is configured now.
    pub fn set(&self, rates: Rates) {
        self.reads.flow().set(rates.reads);
        self.writes.flow().set(rates.writes);
    }

    pub(super) fn lane(&self, class: CallClass) -> &Lane {
        match class {
            CallClass::Reads => &self.reads,
            CallClass::Writes => &self.writes,
        }
    }
}

/// The calls of one class.
#[derive(Debug)]
pub(super) struct Lane {
    /// Whose turn comes next; others stand in line for it.
    next: tokio::sync::Mutex<()>,
    flow: Mutex<Flow>,
}

impl Lane {
    fn new(most: Option<Rate>) -> Self {
        Self { next: tokio::sync::Mutex::default(), flow: Mutex::new(Flow::new(most, Instant::now())) }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().expect("nothing panics while it is held")
    }

    /// Waits until so many calls may be made; the moment at which they are. Where that is not within a time: how long one should stay away.
    pub(super) async fn turn(&self, calls: u32, within: Duration) -> Result<Instant, Duration> {
        let paused = || self.flow().paused_for(Instant::now());
        if let Some(pause) = paused().filter(|pause| *pause > within) {
            return Err(pause);
        }
        let turn = tokio::time::timeout(within, self.in_line(calls)).await;
        turn.map_err(|_| paused().unwrap_or(SOON))
    }

    async fn in_line(&self, calls: u32) -> Instant {
        let _place = self.next.lock().await;
        loop {
            let now = Instant::now();
            let Some(wait) = self.flow().take(calls, now) else { return now };
            tokio::time::sleep(wait.min(LOOK)).await;
        }
    }

    /// Waits until a call would be let through that came alone.
    pub(super) async fn free(&self) {
        while let Some(wait) = {
            let mut flow = self.flow();
            flow.wait(Instant::now())
        } {
            tokio::time::sleep(wait.min(LOOK)).await;
        }
    }

    /// The answer to a call that began at a moment was good.
    pub(super) fn good(&self, began: Instant) {
        self.flow().good(began, Instant::now());
    }

    /// The account had enough.
    pub(super) fn throttled(&self, began: Instant, retry_after: Option<Duration>) {
        self.flow().throttled(began, retry_after, Instant::now());
    }
}

/// How fast calls go now. Rates are calls per second.
#[derive(Debug)]
struct Flow {
    /// As configured.
    most: Option<f64>,
    /// `None`: as fast as they come.
    rate: Option<f64>,
    /// Calls that may be made at once, as of a moment.
    credit: f64,
    as_of: Instant,
    paused: Option<Instant>,
    /// When the rate was cut last, and when it was last changed.
    cut: Option<Instant>,
    changed: Instant,
    /// Whether somebody had to wait for it since.
    binds: bool,
    /// Calls of the second that began then, and of the one before.
    counted: (Instant, u32, u32),
}

/// A second's worth, and one call at least.
fn burst(rate: f64) -> f64 {
    rate.max(1.0)
}

impl Flow {
    fn new(most: Option<Rate>, now: Instant) -> Self {
        let most = most.map(Rate::per_second);
        Self {
            most,
            rate: most,
            credit: most.map_or(0.0, burst),
            as_of: now,
            paused: None,
            cut: None,
            changed: now,
            binds: false,
            counted: (now, 0, 0),
        }
    }

    fn set(&mut self, most: Option<Rate>) {
        let most = most.map(Rate::per_second);
        if self.most != most {
            self.most = most;
            self.rate = most;
        }
    }

    fn paused_for(&self, now: Instant) -> Option<Duration> {
        self.paused.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// How long until a call may be made; `None` where one may be now.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        if let Some(pause) = self.paused_for(now) {
            return Some(pause);
        }
        if self.cut.is_some_and(|cut| now.saturating_duration_since(cut) > CALM) {
            (self.cut, self.rate) = (None, self.most);
        }
        let rate = self.rate?;
        let grown = now.saturating_duration_since(self.as_of).as_secs_f64() * rate;
        if grown > 0.0 {
            self.credit = (self.credit + grown).min(burst(rate));
            self.as_of = now;
        }
        // A hair below one is one: moments are whole nanoseconds.
        let short = 1.0 - self.credit;
        if short <= 1e-6 {
            return None;
        }
        self.binds = true;
        Some(Duration::from_secs_f64(short / rate))
    }

    /// Makes so many calls, or says when that may be tried. Those above what there is are owed by whoever comes next.
    fn take(&mut self, calls: u32, now: Instant) -> Option<Duration> {
        let wait = self.wait(now);
        if wait.is_none() {
            self.credit -= f64::from(calls);
            self.count(calls, now);
        }
        wait
    }

    fn count(&mut self, calls: u32, now: Instant) {
        let (since, count, _) = self.counted;
        let past = now.saturating_duration_since(since).as_secs();
        match past {
            0 => self.counted.1 += calls,
            1 => self.counted = (now, calls, count),
            _ => self.counted = (now, calls, 0),
        }
    }

    fn good(&mut self, began: Instant, now: Instant) {
        let (Some(rate), Some(cut)) = (self.rate, self.cut) else { return };
        let due = now.saturating_duration_since(self.changed) >= RAISE;
        if due && self.binds && began > cut {
            let raised = rate * RAISED;
            self.rate = Some(self.most.map_or(raised, |most| most.min(raised)));
            (self.changed, self.binds) = (now, false);
        }
    }

    fn throttled(&mut self, began: Instant, retry_after: Option<Duration>, now: Instant) {
        let until = now + retry_after.unwrap_or(PAUSE).min(LONGEST);
        self.paused = Some(self.paused.map_or(until, |paused| paused.max(until)));
        // Those that were under way when it was cut say nothing new.
        if self.cut.is_some_and(|cut| began <= cut) {
            return;
        }
        let (_, latest, before) = self.counted;
        let was = self.rate.unwrap_or_else(|| f64::from(latest.max(before).max(1)));
        let least = self.most.map_or(LEAST, |most| LEAST.min(most / 8.0));
        self.rate = Some((was / 2.0).max(least));
        (self.credit, self.as_of) = (0.0, until);
        (self.cut, self.changed, self.binds) = (Some(now), now, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(writes: Option<&str>) -> Pace {
        Pace::new(Rates { reads: None, writes: writes.map(|rate| rate.parse().expect(rate)) })
    }

    /// Seconds until so many calls, one after the other, have been let through, each with a good answer.
    async fn takes(pace: &Pace, calls: u32) -> f64 {
        let (lane, since) = (pace.lane(CallClass::Writes), Instant::now());
        for _ in 0..calls {
            let began = lane.turn(1, LONGEST).await.expect("its turn");
            lane.good(began);
        }
        since.elapsed().as_secs_f64()
    }

    fn about(seconds: f64, expected: f64) -> bool {
        (seconds - expected).abs() <= 0.05 * expected + 0.01
    }

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_goes_at_once_and_the_rest_by_the_rate() {
        let pace = pace(Some("10/s"));
        assert_eq!(takes(&pace, 10).await, 0.0);
        assert!(about(takes(&pace, 100).await, 10.0));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(takes(&pace, 10).await, 0.0, "no more is saved up than that");
        assert!(about(takes(&pace, 10).await, 1.0));
        let began = pace.lane(CallClass::Writes).turn(20, LONGEST).await;
        began.expect("let through by one turn");
        assert!(about(takes(&pace, 1).await, 2.0), "and owed by the next one");
        let slow = super::tests::pace(Some("30/m"));
        takes(&slow, 1).await;
        assert!(about(takes(&slow, 10).await, 20.0));
        // What is read does not count among what is changed.
        let reads = slow.lane(CallClass::Reads).turn(1000, Duration::ZERO).await;
        reads.expect("without a limit");
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_let_through_in_time_is_told_so() {
        let pace = pace(Some("1/s"));
        let lane = pace.lane(CallClass::Writes);
        let tries = (0..10).map(|_| lane.turn(1, Duration::from_millis(4_500)));
        let (good, late): (Vec<_>, Vec<_>) =
            futures::future::join_all(tries).await.into_iter().partition(Result::is_ok);
        assert_eq!((good.len(), late.len()), (5, 5));
        assert!(late.iter().all(|late| *late == Err(SOON)), "{late:?}");
        lane.throttled(Instant::now(), Some(Duration::from_secs(20)));
        let since = Instant::now();
        assert_eq!(lane.turn(1, Duration::from_secs(5)).await, Err(Duration::from_secs(20)));
        assert_eq!(since.elapsed(), Duration::ZERO, "it is known from the start");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_holds_up_nobody() {
        let pace = pace(Some("1/s"));
        takes(&pace, 1).await;
        let lane = pace.lane(CallClass::Writes);
        {
            let mut given_up: Vec<_> = (0..50).map(|_| Box::pin(lane.turn(1, LONGEST))).collect();
            for turn in &mut given_up {
                assert!(futures::poll!(turn).is_pending());
            }
        }
        assert!(about(takes(&pace, 1).await, 1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_answer_halves_the_rate_and_good_ones_raise_it() {
        let pace = pace(Some("10/s"));
        let lane = pace.lane(CallClass::Writes);
        let began = lane.turn(1, LONGEST).await.expect("its turn");
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Three calls that were under way say the same thing once.
        for _ in 0..3 {
            lane.throttled(began, Some(Duration::from_secs(5)));
        }
        assert_eq!(lane.flow().rate, Some(5.0));
        assert!(about(takes(&pace, 1).await, 5.2), "nothing goes before the answer said so");
        let slow = takes(&pace, 20).await;
        assert!((2.5..4.0).contains(&slow), "{slow}");
        takes(&pace, 200).await;
        assert_eq!(lane.flow().rate, Some(10.0), "and never above what is configured");
        pace.set(Rates { reads: None, writes: Some("2/s".parse().expect("a rate")) });
        takes(&pace, 10).await;
        assert!(about(takes(&pace, 10).await, 5.0), "as configured now");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_one_is_found_and_forgotten() {
        let pace = pace(None);
        let lane = pace.lane(CallClass::Writes);
        assert_eq!(takes(&pace, 1000).await, 0.0);
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(200)).await;
        lane.throttled(began, None);
        assert_eq!(lane.flow().rate, Some(500.0), "half of what was asked in a second");
        tokio::time::sleep(Duration::from_secs(5)).await;
        for _ in 0..20 {
            let began = lane.turn(1, LONGEST).await.expect("its turn");
            tokio::time::sleep(Duration::from_millis(10)).await;
            lane.throttled(began, Some(Duration::from_millis(1)));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(lane.flow().rate, Some(LEAST), "never none at all");
        tokio::time::sleep(CALM + RAISE).await;
        assert_eq!(takes(&pace, 1000).await, 0.0);
    }
}
