//! Breakers: where something on an account is not to be had for a while, few find out whether it is so still, and whoever else wants it is told
//! what the last one was told. Other things of the same account go on.
//!
//! One for each image on each account ([`Breakers`]): a registry is down, slow or has enough of us. One for each offering and quota of an account
//! ([`Offerings`]): its cloud has no more machines of a kind, or gives us no more.
//!
//! Kept in memory: another process finds out by one question of its own.

mod offerings;

pub(super) use offerings::{Asks, Freed, Known, Offerings};

use rouse_contract::ProviderError;
use rouse_model::breaker::{self, Breaker};
use rouse_model::failure::FailureClass;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use tokio::time::Instant;

/// How many are remembered.
const REMEMBERED: usize = 4_096;

/// Whether something may be asked for.
#[derive(Debug)]
pub(super) enum May {
    Ask,
    /// Somebody asks already, for all.
    Wait,
    /// Not now; why, and for how long.
    Not(ProviderError),
}

impl May {
    /// What may be asked for that was refused with this error last.
    fn of(may: breaker::May, error: &ProviderError) -> Self {
        match may {
            breaker::May::Ask => Self::Ask,
            breaker::May::Wait => Self::Wait,
            breaker::May::Not(wait) => Self::Not(error.clone().retry_after(wait)),
        }
    }

    /// Without the reason.
    pub(super) fn plain(&self) -> breaker::May {
        match self {
            Self::Ask => breaker::May::Ask,
            Self::Wait => breaker::May::Wait,
            Self::Not(error) => breaker::May::Not(error.retry_after.unwrap_or_default()),
        }
    }
}

/// An image that could not be had lately, and why.
#[derive(Debug)]
struct Image {
    breaker: Breaker<Instant>,
    error: ProviderError,
}

/// Images that could not be had lately, by account and image.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<(String, String), Image>>);

/// Whether the image is to blame, and may be had later.
fn trips(error: &ProviderError) -> bool {
    error.class == FailureClass::Image && error.retry_after.is_some()
}

impl Breakers {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Image>> {
        self.0.lock().expect("nothing panics while it is held")
    }

    pub(super) fn may(&self, account: &str, image: &str) -> May {
        let (map, now) = (self.map(), Instant::now());
        let known = map.get(&(account.to_owned(), image.to_owned()));
        known.map_or(May::Ask, |known| May::of(known.breaker.may(now), &known.error))
    }

    /// Somebody asks.
    pub(super) fn asks(&self, account: &str, image: &str) {
        if let Some(known) = self.map().get_mut(&(account.to_owned(), image.to_owned())) {
            known.breaker.asks(Instant::now());
        }
    }

    /// Who asked has ended without an answer.
    pub(super) fn asks_no_more(&self, account: &str, image: &str) {
        if let Some(known) = self.map().get_mut(&(account.to_owned(), image.to_owned())) {
            known.breaker.asks_no_more();
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
            map.retain(|_, known| now < known.breaker.until());
        }
        let key = (account.to_owned(), image.to_owned());
        let new = || Image { breaker: Breaker::new(now), error: error.clone() };
        let known = map.entry(key).or_insert_with(new);
        if known.breaker.trip(error.retry_after, now) {
            known.error = error.clone();
        }
        error.retry_after(known.breaker.until().duration_since(now))
    }

    /// How many images of each account are not asked for now, or by one alone.
    pub(super) fn open(&self) -> BTreeMap<String, u32> {
        let now = Instant::now();
        let mut open = BTreeMap::new();
        for ((account, _), _) in self.map().iter().filter(|(_, known)| known.breaker.is_open(now)) {
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
    use rouse_model::breaker::PROBE;
    use std::time::Duration;

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
