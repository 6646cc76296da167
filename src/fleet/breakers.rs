//! Breakers: where something on an account is not to be had for a while, few find out whether it is so still, and whoever else wants it is told
//! what the last one was told. Other things of the same account go on.
//!
//! One for each image on each account ([`Breakers`]): a registry is down, slow or has enough of us. One for each offering and quota of an account
//! ([`Offerings`]): its cloud has no more machines of a kind, or gives us no more.
//!
//! Kept in memory: another process finds out by one question of its own.

mod offerings;

pub(super) use offerings::{Asks, Freed, Offerings};

use rouse_contract::ProviderError;
use rouse_model::failure::FailureClass;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How many are remembered.
const REMEMBERED: usize = 4_096;
/// The pause is doubled with each failure up to this.
const LONGEST: Duration = Duration::from_secs(300);
/// Nobody is believed who asks for a longer one.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);
/// Who was to find out and has not been heard of since has ended otherwise.
const PROBE: Duration = Duration::from_secs(600);

/// Whether something may be asked for.
#[derive(Debug)]
pub(super) enum May {
    Ask,
    /// Somebody asks already, for all.
    Wait,
    /// Not now; why, and for how long.
    Not(ProviderError),
}

/// Something that could not be had lately.
#[derive(Debug)]
struct Breaker {
    error: ProviderError,
    failures: u32,
    until: Instant,
    /// Since when each of those finds out who do.
    probes: Vec<Instant>,
    /// How many may.
    width: usize,
}

impl Breaker {
    fn new(error: ProviderError, now: Instant) -> Self {
        Self { error, failures: 0, until: now, probes: Vec::new(), width: 1 }
    }

    fn probed(&self, now: Instant) -> usize {
        self.probes.iter().filter(|since| now.duration_since(**since) < PROBE).count()
    }

    fn may(&self, now: Instant) -> May {
        if now < self.until {
            return May::Not(self.error.clone().retry_after(self.until.duration_since(now)));
        }
        if self.probed(now) >= self.width { May::Wait } else { May::Ask }
    }

    fn asks(&mut self, now: Instant) {
        self.probes.retain(|since| now.duration_since(*since) < PROBE);
        self.probes.push(now);
    }

    /// One of those who asked has ended; whether there was one.
    fn asks_no_more(&mut self) -> bool {
        let any = !self.probes.is_empty();
        if any {
            self.probes.remove(0);
        }
        any
    }

    /// It could not be had: not for a pause that grows each time, and at least as long as was asked for. Those that were asked at the same time count once.
    fn trip(&mut self, error: &ProviderError, now: Instant) {
        if now < self.until {
            return;
        }
        let asked = error.retry_after.unwrap_or_default().min(LONGEST_ASKED);
        let pause = Duration::from_secs(2 << self.failures.min(8)).min(LONGEST);
        self.failures += 1;
        self.until = now + pause.max(asked);
        self.probes.clear();
        self.width = 1;
        self.error = error.clone();
    }

    /// Whether it is not to be had, or finding that out is left to few.
    fn is_open(&self, now: Instant) -> bool {
        now < self.until || self.probed(now) > 0
    }
}

/// Images that could not be had lately, by account and image.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<(String, String), Breaker>>);

/// Whether the image is to blame, and may be had later.
fn trips(error: &ProviderError) -> bool {
    error.class == FailureClass::Image && error.retry_after.is_some()
}

impl Breakers {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Breaker>> {
        self.0.lock().expect("nothing panics while it is held")
    }

    pub(super) fn may(&self, account: &str, image: &str) -> May {
        let map = self.map();
        map.get(&(account.to_owned(), image.to_owned())).map_or(May::Ask, |known| known.may(Instant::now()))
    }

    /// Somebody asks.
    pub(super) fn asks(&self, account: &str, image: &str) {
        if let Some(known) = self.map().get_mut(&(account.to_owned(), image.to_owned())) {
            known.asks(Instant::now());
        }
    }

    /// Who asked has ended without an answer.
    pub(super) fn asks_no_more(&self, account: &str, image: &str) {
        if let Some(known) = self.map().get_mut(&(account.to_owned(), image.to_owned())) {
            known.asks_no_more();
        }
    }

    /// What came of a question or a launch that failed; the failure with how long to wait.
    pub(super) fn failed(&self, account: &str, image: &str, error: ProviderError) -> ProviderError {
        if !trips(&error) {
            // An answer all the same, if not a good one.
            self.good(account, image);
            return error;
        }
        let now = Instant::now();
        let mut map = self.map();
        if map.len() >= REMEMBERED {
            map.retain(|_, known| now < known.until);
        }
        let key = (account.to_owned(), image.to_owned());
        let known = map.entry(key).or_insert_with(|| Breaker::new(error.clone(), now));
        known.trip(&error, now);
        error.retry_after(known.until.duration_since(now))
    }

    /// How many images of each account are not asked for now, or by one alone.
    pub(super) fn open(&self) -> BTreeMap<String, u32> {
        let now = Instant::now();
        let mut open = BTreeMap::new();
        for ((account, _), _) in self.map().iter().filter(|(_, known)| known.is_open(now)) {
            *open.entry(account.clone()).or_default() += 1;
        }
        open
    }

    pub(super) fn good(&self, account: &str, image: &str) {
        self.map().remove(&(account.to_owned(), image.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(retry_after: Option<u64>) -> ProviderError {
        let error = ProviderError::new(FailureClass::Image, "pull image a:1", "connection refused");
        retry_after.map_or(error.clone(), |wait| error.retry_after(Duration::from_secs(wait)))
    }

    fn waits(breakers: &Breakers, account: &str, image: &str) -> Option<u64> {
        match breakers.may(account, image) {
            May::Not(error) => error.retry_after.map(|wait| wait.as_secs()),
            May::Ask => None,
            May::Wait => Some(0),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_image_on_one_account_is_asked_for_by_one() {
        let breakers = Breakers::default();
        assert!(matches!(breakers.may("b1", "a:1"), May::Ask));
        breakers.asks("b1", "a:1");
        // Two that were under way together count once, and the registry's wish holds.
        for _ in 0..2 {
            assert_eq!(
                breakers.failed("b1", "a:1", error(Some(7))).retry_after,
                Some(Duration::from_secs(7))
            );
        }
        assert_eq!(waits(&breakers, "b1", "a:1"), Some(7));
        assert_eq!(breakers.open(), [("b1".to_owned(), 1)].into());
        assert_eq!((waits(&breakers, "b1", "b:1"), waits(&breakers, "b2", "a:1")), (None, None));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(matches!(breakers.may("b1", "a:1"), May::Ask));
        breakers.asks("b1", "a:1");
        assert!(matches!(breakers.may("b1", "a:1"), May::Wait));
        // Longer with each failure.
        breakers.failed("b1", "a:1", error(Some(1)));
        assert_eq!(waits(&breakers, "b1", "a:1"), Some(4));
        tokio::time::advance(Duration::from_secs(4)).await;
        breakers.asks("b1", "a:1");
        breakers.failed("b1", "a:1", error(Some(1)));
        assert_eq!(waits(&breakers, "b1", "a:1"), Some(8));
        tokio::time::advance(Duration::from_secs(8)).await;
        breakers.asks("b1", "a:1");
        // One that is never heard of again holds up nobody for ever.
        assert_eq!(breakers.open(), [("b1".to_owned(), 1)].into(), "one finds out for all");
        tokio::time::advance(PROBE).await;
        assert!(matches!(breakers.may("b1", "a:1"), May::Ask));
        assert!(breakers.open().is_empty(), "whoever wants it may ask");
        breakers.good("b1", "a:1");
        assert_eq!(breakers.failed("b1", "a:1", error(Some(1))).retry_after, Some(Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_time_does_not_mend_trips_nothing() {
        let breakers = Breakers::default();
        assert_eq!(breakers.failed("b1", "a:1", error(None)).retry_after, None);
        let away = ProviderError::new(FailureClass::Offering, "ask the daemon", "away").retry_after(PROBE);
        breakers.failed("b1", "a:1", away);
        assert!(matches!(breakers.may("b1", "a:1"), May::Ask));
    }

    #[tokio::test(start_paused = true)]
    async fn who_ends_without_an_answer_leaves_the_question_to_the_next_one() {
        let breakers = Breakers::default();
        let may_ask = || matches!(breakers.may("b1", "a:1"), May::Ask);
        breakers.failed("b1", "a:1", error(Some(1)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(may_ask() && breakers.open().is_empty(), "its pause is over to the moment");
        breakers.asks("b1", "a:1");
        assert!(!may_ask());
        breakers.asks_no_more("b1", "a:1");
        assert!(may_ask());
        // One that is not heard of any more does not answer for the next one.
        breakers.asks("b1", "a:1");
        tokio::time::advance(PROBE).await;
        breakers.asks("b1", "a:1");
        breakers.asks_no_more("b1", "a:1");
        assert!(may_ask());
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_are_too_many_those_that_may_be_asked_for_are_forgotten() {
        let breakers = Breakers::default();
        for image in 0..REMEMBERED {
            let wait = if image % 2 == 0 { 2 } else { 60 };
            breakers.failed("b1", &image.to_string(), error(Some(wait)));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        breakers.failed("b1", "another", error(Some(60)));
        assert_eq!(breakers.map().len(), REMEMBERED / 2 + 1);
        assert_eq!((waits(&breakers, "b1", "0"), waits(&breakers, "b1", "1")), (None, Some(58)));
    }
}
