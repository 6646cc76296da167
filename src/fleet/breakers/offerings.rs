//! What accounts could not give lately, and since when. A quota is shared by all pools of its account, and a named offering by all that have it among their
//! offers; what a launch without a name was refused is shared by the pools that were, since only the provider knows which pools want the same.
//!
//! After a refusal none of them launches there for a pause that grows each time, up to five minutes; then one launch finds out for all, and
//! after each that is taken twice as many may, until enough were. Where something of ours has ended on the account there may be room: then it
//! is found out at once. All that is on record, for the next master and for others ([`record`]).

mod record;

use super::{May, REMEMBERED};
use record::Recorded;
use rouse_contract::ProviderError;
use rouse_model::Timestamp;
use rouse_model::breaker;
use rouse_model::offering::{Scarce, Wants};
use rouse_model::worker::Worker;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// What a launch asks an account for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) struct Asks<'a> {
    pub pool: &'a str,
    /// Where its pool may choose.
    pub offering: Option<&'a str>,
}

impl<'a> Asks<'a> {
    pub(in crate::fleet) fn of(worker: &'a Worker) -> Self {
        Self { pool: &worker.pool, offering: worker.offering.as_deref() }
    }

    fn wants(self, what: &Scarce) -> Wants {
        match (self.offering, what) {
            (Some(name), _) => Wants::Named(name.to_owned()),
            (None, Scarce::Offering(_)) => Wants::OfPool(self.pool.to_owned()),
            (None, Scarce::Quota(_)) => Wants::Unnamed,
        }
    }
}

/// What has ended on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) enum Freed<'a> {
    /// A worker, by what it was launched as.
    One(Option<&'a str>),
    /// Nobody knows what.
    Anything,
}

#[derive(Debug)]
struct Refused {
    known: breaker::Refused<Instant>,
    /// What was said last.
    error: ProviderError,
    by: BTreeSet<Wants>,
    /// When what is on record of it was written; `None` where that is not so any more, or never was.
    written: Option<Timestamp>,
}

/// What is known of something on an account.
#[derive(Debug)]
pub(in crate::fleet) struct Known {
    pub may: May,
    /// How long it has been refused without a break.
    pub refused_for: Option<Duration>,
    /// What was said last; where it was.
    pub error: Option<ProviderError>,
}

type All = HashMap<(String, Scarce), Refused>;

/// By account and what it does not have. What is on record of it, for all masters, `record` reads and writes.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Offerings {
    known: Mutex<All>,
    record: Mutex<Recorded>,
}

impl Offerings {
    fn known(&self) -> MutexGuard<'_, All> {
        self.known.lock().expect("nothing panics while it is held")
    }

    /// Whether one more may be launched on an account.
    pub(in crate::fleet) fn may(&self, account: &str, asks: Asks<'_>) -> May {
        self.about(account, asks).may
    }

    pub(in crate::fleet) fn about(&self, account: &str, asks: Asks<'_>) -> Known {
        let now = Instant::now();
        let mut about = Known { may: May::Ask, refused_for: None, error: None };
        for ((at, what), refused) in self.known().iter() {
            if at != account || !refused.by.contains(&asks.wants(what)) || refused.known.is_forgotten(now) {
                continue;
            }
            about.may = match (about.may, May::of(refused.known.may(now), &refused.error)) {
                // What lasts longest is what is waited for.
                (May::Not(one), May::Not(other)) => {
                    May::Not(if one.retry_after < other.retry_after { other } else { one })
                }
                (not @ May::Not(_), _) | (_, not @ May::Not(_)) => not,
                (May::Wait, _) | (_, May::Wait) => May::Wait,
                (May::Ask, May::Ask) => May::Ask,
            };
            let refused_for = refused.known.refused_for(now);
            if refused_for > about.refused_for {
                (about.refused_for, about.error) = (refused_for, Some(refused.error.clone()));
            }
        }
        about
    }

    /// `change` says whether what is known is still worth knowing.
    fn change(&self, account: &str, asks: Asks<'_>, mut change: impl FnMut(&mut Refused) -> bool) {
        self.known().retain(|(at, what), refused| {
            at != account || !refused.by.contains(&asks.wants(what)) || change(refused)
        });
    }

    /// One is launched there.
    pub(in crate::fleet) fn asks(&self, account: &str, asks: Asks<'_>) {
        let now = Instant::now();
        self.change(account, asks, |refused| {
            let forgotten = refused.known.is_forgotten(now);
            refused.known.asks(now);
            !forgotten
        });
    }

    /// A launch was not asked for, or did not come to that question.
    pub(in crate::fleet) fn asks_no_more(&self, account: &str, asks: Asks<'_>) {
        self.change(account, asks, |refused| {
            refused.known.asks_no_more();
            true
        });
    }

    /// A launch was taken.
    pub(in crate::fleet) fn taken(&self, account: &str, asks: Asks<'_>) {
        let now = Instant::now();
        self.change(account, asks, |refused| {
            if refused.known.taken(now) {
                refused.written = None;
            }
            !refused.known.is_over()
        });
    }

    pub(in crate::fleet) fn refused(
        &self,
        account: &str,
        asks: Asks<'_>,
        what: Scarce,
        error: &ProviderError,
    ) {
        let now = Instant::now();
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.retain(|_, refused| now < refused.known.breaker().until());
        }
        let wants = asks.wants(&what);
        let new = || Refused {
            known: breaker::Refused::new(now),
            error: error.clone(),
            by: BTreeSet::new(),
            written: None,
        };
        let refused = known.entry((account.to_owned(), what)).or_insert_with(new);
        let is_news = refused.known.refused(error.retry_after, now);
        if is_news {
            refused.error = error.clone();
        }
        if refused.by.insert(wants) || is_news {
            refused.written = None;
        }
    }

    /// Something of ours has ended on an account, and such a thing may be there again; whether somebody waited for that.
    pub(in crate::fleet) fn freed(&self, account: &str, what: Freed<'_>) -> bool {
        let now = Instant::now();
        let mut waited = false;
        self.known().iter_mut().filter(|((at, _), _)| at == account).for_each(|(_, refused)| {
            let concerns = |wants: &Wants| match (what, wants) {
                (Freed::Anything, _) => true,
                (Freed::One(offering), Wants::Named(name)) => offering == Some(name.as_str()),
                (Freed::One(offering), Wants::OfPool(_) | Wants::Unnamed) => offering.is_none(),
            };
            if refused.by.iter().any(concerns) {
                waited |= refused.known.freed(now);
            }
        });
        waited
    }

    /// How many offerings and quotas of each account are held back, or found out about.
    pub(in crate::fleet) fn open(&self) -> BTreeMap<String, u32> {
        let now = Instant::now();
        let mut open = BTreeMap::new();
        for ((account, _), _) in
            self.known().iter().filter(|(_, refused)| refused.known.breaker().is_open(now))
        {
            *open.entry(account.clone()).or_default() += 1;
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::breaker::FORGOTTEN;
    use rouse_model::failure::FailureClass;

    fn of(pool: &str) -> Asks<'_> {
        Asks { pool, offering: None }
    }

    fn refuse(offerings: &Offerings, pool: &str, what: Scarce) {
        let error = ProviderError::new(FailureClass::Quota, "launch a worker", "there is none");
        offerings.refused("aws", of(pool), what, &error);
    }

    fn waits(offerings: &Offerings, pool: &str) -> Option<u64> {
        match offerings.may("aws", of(pool)) {
            May::Not(error) => error.retry_after.map(|wait| wait.as_secs()),
            May::Ask => None,
            May::Wait => Some(0),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_launch_finds_out_for_all_pools_that_want_the_same() {
        let offerings = Offerings::default();
        let large = || Scarce::Offering("m5.large".into());
        (0..100).for_each(|_| refuse(&offerings, "linux", large()));
        refuse(&offerings, "arm", large());
        let all = |pools: [&str; 3]| pools.map(|pool| waits(&offerings, pool));
        assert_eq!(
            all(["linux", "arm", "gpu"]),
            [Some(2), Some(2), None],
            "those at the same time count once"
        );
        assert!(matches!(offerings.may("b1", of("linux")), May::Ask), "another account has its own");
        tokio::time::advance(Duration::from_secs(2)).await;
        offerings.asks("aws", of("arm"));
        assert_eq!(all(["linux", "arm", "gpu"]), [Some(0), Some(0), None], "one is on its way");
        refuse(&offerings, "arm", large());
        assert_eq!(all(["linux", "arm", "gpu"]), [Some(4), Some(4), None]);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(300)).await;
            refuse(&offerings, "linux", large());
        }
        assert_eq!(waits(&offerings, "linux"), Some(300), "at most");
        tokio::time::advance(Duration::from_secs(300) + FORGOTTEN + Duration::from_secs(1)).await;
        offerings.asks("aws", of("linux"));
        refuse(&offerings, "linux", large());
        assert_eq!(waits(&offerings, "linux"), Some(2), "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_that_is_taken_twice_as_many_may_follow() {
        let offerings = Offerings::default();
        refuse(&offerings, "linux", Scarce::Quota("instances".into()));
        assert_eq!(waits(&offerings, "gpu"), Some(2), "a quota is of all pools");
        offerings.taken("aws", of("linux"));
        assert_eq!(waits(&offerings, "gpu"), Some(2), "that one was on its way before");
        tokio::time::advance(Duration::from_secs(2)).await;
        for width in [1, 2, 4, 8] {
            for _ in 0..width {
                assert_eq!(waits(&offerings, "gpu"), None);
                offerings.asks("aws", of("gpu"));
            }
            assert_eq!((waits(&offerings, "linux"), offerings.open()["aws"]), (Some(0), 1));
            // The others end otherwise.
            (1..width).for_each(|_| offerings.asks_no_more("aws", of("gpu")));
            offerings.taken("aws", of("gpu"));
        }
        (0..100).for_each(|_| offerings.asks("aws", of("gpu")));
        assert_eq!((waits(&offerings, "linux"), offerings.open()), (None, BTreeMap::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn where_something_ended_it_is_found_out_at_once() {
        let offerings = Offerings::default();
        assert!(!offerings.freed("aws", Freed::One(None)));
        for _ in 0..5 {
            refuse(&offerings, "linux", Scarce::Quota("instances".into()));
            tokio::time::advance(Duration::from_secs(40)).await;
        }
        refuse(&offerings, "linux", Scarce::Quota("instances".into()));
        assert_eq!(waits(&offerings, "linux"), Some(64));
        assert!(
            !offerings.freed("b1", Freed::Anything)
                && offerings.freed("aws", Freed::One(None))
                && !offerings.freed("aws", Freed::One(None))
        );
        assert_eq!(waits(&offerings, "linux"), None);
        offerings.asks("aws", of("linux"));
        assert_eq!(waits(&offerings, "linux"), Some(0));
        refuse(&offerings, "linux", Scarce::Quota("instances".into()));
        assert_eq!(waits(&offerings, "linux"), Some(128), "it was not so");
    }
    #[tokio::test(start_paused = true)]
    async fn a_named_offering_is_shared_by_all_that_have_it() {
        let offerings = Offerings::default();
        let spot = |pool| Asks { pool, offering: Some("spot") };
        let other = Asks { pool: "linux", offering: Some("on demand") };
        let error = ProviderError::new(FailureClass::Offering, "launch a worker", "there is none");
        offerings.refused("aws", spot("linux"), Scarce::Offering("spot".into()), &error);
        let may = |asks| matches!(offerings.may("aws", asks), May::Ask);
        assert!(!may(spot("linux")) && !may(spot("gpu")) && may(other) && may(of("linux")));
        // What else of the account has ended says nothing of it.
        assert!(
            !offerings.freed("aws", Freed::One(other.offering)) && !offerings.freed("aws", Freed::One(None))
        );
        let refused_for = || offerings.about("aws", spot("gpu")).refused_for.map(|refused| refused.as_secs());
        for (pause, since) in [(2, 2), (4, 6), (8, 14)] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            assert!(may(spot("gpu")) && refused_for() == Some(since), "without a break");
            offerings.asks("aws", spot("gpu"));
            assert!(!may(spot("linux")), "one finds out");
            offerings.refused("aws", spot("gpu"), Scarce::Offering("spot".into()), &error);
        }
        tokio::time::advance(Duration::from_secs(16)).await;
        offerings.asks("aws", spot("linux"));
        offerings.taken("aws", spot("linux"));
        assert!(may(spot("gpu")) && refused_for().is_none(), "that was the break");
        offerings.refused("aws", spot("gpu"), Scarce::Quota("spot vcpus".into()), &error);
        assert!(
            !may(spot("linux")) && may(other) && may(of("linux")),
            "so is a quota that it was refused by"
        );
        assert_eq!(refused_for(), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_longest_is_waited_for_and_what_is_back_is_not_spoken_of() {
        // Which of the two is looked at first is left to chance.
        for _ in 0..20 {
            let offerings = Offerings::default();
            let spot = Asks { pool: "linux", offering: Some("spot") };
            let error = |said: &str, wait| {
                let error = ProviderError::new(FailureClass::Quota, "launch a worker", said);
                error.retry_after(Duration::from_secs(wait))
            };
            offerings.refused("aws", spot, Scarce::Offering("spot".into()), &error("there is none", 3));
            offerings.refused("aws", spot, Scarce::Quota("spot vcpus".into()), &error("you have enough", 9));
            let May::Not(told) = offerings.may("aws", spot) else { panic!("it is refused") };
            assert_eq!(
                (told.message.as_str(), told.retry_after),
                ("you have enough", Some(Duration::from_secs(9)))
            );
            tokio::time::advance(Duration::from_secs(9)).await;
            offerings.asks("aws", spot);
            offerings.taken("aws", spot);
            let about = offerings.about("aws", spot);
            assert!(about.refused_for.is_none() && about.error.is_none(), "{about:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wanted_for_long_is_remembered_to_the_last_moment_and_not_beyond() {
        let offerings = Offerings::default();
        refuse(&offerings, "linux", Scarce::Quota("instances".into()));
        let is_known = || offerings.about("aws", of("linux")).refused_for.is_some();
        tokio::time::advance(Duration::from_secs(2) + FORGOTTEN).await;
        assert!(is_known());
        tokio::time::advance(Duration::from_micros(1)).await;
        assert!(!is_known());
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_are_too_many_those_that_may_be_launched_are_forgotten() {
        let offerings = Offerings::default();
        let named = |name: usize| Scarce::Offering(name.to_string());
        let error = |wait| {
            let error = ProviderError::new(FailureClass::Offering, "launch a worker", "there is none");
            error.retry_after(Duration::from_secs(wait))
        };
        for name in 0..REMEMBERED {
            let wait = if name % 2 == 0 { 2 } else { 60 };
            offerings.refused("aws", of("linux"), named(name), &error(wait));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        offerings.refused("aws", of("linux"), named(REMEMBERED), &error(60));
        let known = offerings.known();
        assert_eq!(known.len(), REMEMBERED / 2 + 1);
        let has = |name| known.contains_key(&("aws".to_owned(), named(name)));
        assert!(!has(0) && has(1) && has(REMEMBERED));
    }
}
