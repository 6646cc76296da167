//! What accounts could not give lately. All pools of an account share a quota of it; an offering (machines of one kind, in one place) is shared by
//! those that were refused it, since only the provider knows which pools want the same.
//!
//! After a refusal none of them launches there for a pause that grows each time, up to five minutes; then one launch finds out for all, and
//! after each that is taken twice as many may, until enough were. Where something of ours has ended on the account there may be room: then it
//! is found out at once.

use super::{Breaker, May, REMEMBERED};
use rouse_contract::ProviderError;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// Once so many may find out at the same time, nobody has to any more.
const ENOUGH: usize = 16;
/// After its pause it is as if it had never been refused, where nobody wanted it for so long.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What an account does not have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::fleet) enum Scarce {
    /// As its provider names it.
    Offering(String),
    /// Its scope.
    Quota(String),
}

#[derive(Debug)]
struct Refused {
    breaker: Breaker,
    /// That wanted it.
    pools: BTreeSet<String>,
}

type Known = HashMap<(String, Scarce), Refused>;

/// By account and what it does not have.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Offerings(Mutex<Known>);

/// Whether a pool needs it.
fn concerns(what: &Scarce, pools: &BTreeSet<String>, pool: &str) -> bool {
    match what {
        Scarce::Quota(_) => true,
        Scarce::Offering(_) => pools.contains(pool),
    }
}

impl Offerings {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it is held")
    }

    /// Whether a pool may launch one more on an account.
    pub(in crate::fleet) fn may(&self, account: &str, pool: &str) -> May {
        let now = Instant::now();
        let mut answer = May::Ask;
        for ((at, what), refused) in self.known().iter() {
            if at != account
                || !concerns(what, &refused.pools, pool)
                || now.saturating_duration_since(refused.breaker.until) > FORGOTTEN
            {
                continue;
            }
            answer = match (answer, refused.breaker.may(now)) {
                // What lasts longest is what is waited for.
                (May::Not(one), May::Not(other)) => {
                    May::Not(if one.retry_after < other.retry_after { other } else { one })
                }
                (not @ May::Not(_), _) | (_, not @ May::Not(_)) => not,
                (May::Wait, _) | (_, May::Wait) => May::Wait,
                (May::Ask, May::Ask) => May::Ask,
            };
        }
        answer
    }

    fn change(&self, account: &str, pool: &str, mut change: impl FnMut(&mut Breaker) -> bool) {
        self.known().retain(|(at, what), refused| {
            at != account || !concerns(what, &refused.pools, pool) || change(&mut refused.breaker)
        });
    }

    /// A pool launches there.
    pub(in crate::fleet) fn asks(&self, account: &str, pool: &str) {
        let now = Instant::now();
        self.change(account, pool, |breaker| {
            let forgotten = now.saturating_duration_since(breaker.until) > FORGOTTEN;
            breaker.asks(now);
            !forgotten
        });
    }

    /// A launch of a pool was not asked for, or did not come to that question.
    pub(in crate::fleet) fn asks_no_more(&self, account: &str, pool: &str) {
        self.change(account, pool, |breaker| {
            breaker.asks_no_more();
            true
        });
    }

    /// A launch was taken.
    pub(in crate::fleet) fn taken(&self, account: &str, pool: &str) {
        let now = Instant::now();
        self.change(account, pool, |breaker| {
            // One that was under way when another was refused says nothing.
            if now >= breaker.until && breaker.asks_no_more() {
                breaker.width *= 2;
            }
            breaker.width < ENOUGH
        });
    }

    pub(in crate::fleet) fn refused(&self, account: &str, pool: &str, what: Scarce, error: &ProviderError) {
        let now = Instant::now();
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.retain(|_, refused| now < refused.breaker.until);
        }
        let refused = known
            .entry((account.to_owned(), what))
            .or_insert_with(|| Refused { breaker: Breaker::new(error.clone(), now), pools: BTreeSet::new() });
        refused.pools.insert(pool.to_owned());
        refused.breaker.trip(error, now);
    }

    /// Something of ours has ended on an account; whether somebody waited for that.
    pub(in crate::fleet) fn freed(&self, account: &str) -> bool {
        let now = Instant::now();
        let mut waited = false;
        for (_, refused) in self.known().iter_mut().filter(|((at, _), _)| at == account) {
            waited |= now < refused.breaker.until;
            refused.breaker.until = refused.breaker.until.min(now);
        }
        waited
    }

    /// How many offerings and quotas of each account are held back, or found out about.
    pub(in crate::fleet) fn open(&self) -> BTreeMap<String, u32> {
        let now = Instant::now();
        let mut open = BTreeMap::new();
        for ((account, _), _) in self.known().iter().filter(|(_, refused)| refused.breaker.is_open(now)) {
            *open.entry(account.clone()).or_default() += 1;
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::failure::FailureClass;

    fn refuse(offerings: &Offerings, pool: &str, what: Scarce) {
        let error = ProviderError::new(FailureClass::Quota, "launch a worker", "there is none");
        offerings.refused("aws", pool, what, &error);
    }

    fn waits(offerings: &Offerings, pool: &str) -> Option<u64> {
        match offerings.may("aws", pool) {
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
        assert!(matches!(offerings.may("b1", "linux"), May::Ask), "another account has its own");
        tokio::time::advance(Duration::from_secs(2)).await;
        offerings.asks("aws", "arm");
        assert_eq!(all(["linux", "arm", "gpu"]), [Some(0), Some(0), None], "one is on its way");
        refuse(&offerings, "arm", large());
        assert_eq!(all(["linux", "arm", "gpu"]), [Some(4), Some(4), None]);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(300)).await;
            refuse(&offerings, "linux", large());
        }
        assert_eq!(waits(&offerings, "linux"), Some(300), "at most");
        tokio::time::advance(Duration::from_secs(300) + FORGOTTEN + Duration::from_secs(1)).await;
        offerings.asks("aws", "linux");
        refuse(&offerings, "linux", large());
        assert_eq!(waits(&offerings, "linux"), Some(2), "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_that_is_taken_twice_as_many_may_follow() {
        let offerings = Offerings::default();
        refuse(&offerings, "linux", Scarce::Quota("instances".into()));
        assert_eq!(waits(&offerings, "gpu"), Some(2), "a quota is of all pools");
        offerings.taken("aws", "linux");
        assert_eq!(waits(&offerings, "gpu"), Some(2), "that one was on its way before");
        tokio::time::advance(Duration::from_secs(2)).await;
        for width in [1, 2, 4, 8] {
            for _ in 0..width {
                assert_eq!(waits(&offerings, "gpu"), None);
                offerings.asks("aws", "gpu");
            }
            assert_eq!((waits(&offerings, "linux"), offerings.open()["aws"]), (Some(0), 1));
            // The others end otherwise.
            (1..width).for_each(|_| offerings.asks_no_more("aws", "gpu"));
            offerings.taken("aws", "gpu");
        }
        (0..100).for_each(|_| offerings.asks("aws", "gpu"));
        assert_eq!((waits(&offerings, "linux"), offerings.open()), (None, BTreeMap::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn where_something_ended_it_is_found_out_at_once() {
        let offerings = Offerings::default();
        assert!(!offerings.freed("aws"));
        for _ in 0..5 {
            refuse(&offerings, "linux", Scarce::Quota("instances".into()));
            tokio::time::advance(Duration::from_secs(40)).await;
        }
        refuse(&offerings, "linux", Scarce::Quota("instances".into()));
        assert_eq!(waits(&offerings, "linux"), Some(64));
        assert!(!offerings.freed("b1") && offerings.freed("aws") && !offerings.freed("aws"));
        assert_eq!(waits(&offerings, "linux"), None);
        offerings.asks("aws", "linux");
        assert_eq!(waits(&offerings, "linux"), Some(0));
        refuse(&offerings, "linux", Scarce::Quota("instances".into()));
        assert_eq!(waits(&offerings, "linux"), Some(128), "it was not so");
    }
}
