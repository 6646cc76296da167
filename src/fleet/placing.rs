//! The accounts that a worker may be launched on, and what one that does not answer means for the others.

use super::Fleet;
use super::breakers::{Asks, Freed, May};
use crate::config::{Config, PoolConfig};
use crate::ctx::Active;
use crate::placing::{self, Taken};
use rouse_contract::ProviderError;
use rouse_model::matching::ReuseClass;
use rouse_model::offering::Scarce;
use rouse_model::placement::{self, Host};
use rouse_model::worker::{Link, Worker};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

/// How many images on how many accounts are remembered.
const REMEMBERED: usize = 4_096;
/// Before another account is asked.
const SOON: Duration = Duration::from_secs(1);

/// Which images an account is known to have. Lost with the process: then it is learned anew.
#[derive(Debug, Default)]
pub(super) struct Warm(Mutex<HashSet<(String, String)>>);

impl Warm {
    pub(super) fn note(&self, account: &str, image: &str) {
        let mut known = self.0.lock().expect("nothing panics while it is held");
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((account.to_owned(), image.to_owned()));
    }

    pub(super) fn forget(&self, account: &str, images: &[String]) {
        let mut known = self.0.lock().expect("nothing panics while it is held");
        known.retain(|(at, image)| at != account || !images.contains(image));
    }

    pub(super) fn has(&self, account: &str, image: &str) -> bool {
        let known = self.0.lock().expect("nothing panics while it is held");
        known.contains(&(account.to_owned(), image.to_owned()))
    }
}

impl Fleet {
    /// The images of a class: its own first, then those of the services beside it.
    pub(super) fn images_of(&self, digest: &str) -> Vec<String> {
        let Some(spec) = self.specs.get(digest) else { return Vec::new() };
        spec.image.into_iter().chain(spec.beside.into_values()).map(|image| image.id).collect()
    }

    /// Why no account of a pool can have the image of a class now; `None` where one may be asked, or is.
    pub(super) fn without_image(&self, pool: &PoolConfig, class: &ReuseClass) -> Option<ProviderError> {
        let images = self.images_of(&class.spec_digest);
        let soonest = |error: &ProviderError| error.retry_after;
        let refusals = pool.on.iter().map(|account| {
            images.iter().find_map(|image| match self.breakers.may(account, image) {
                May::Not(error) => Some(error),
                May::Ask | May::Wait => None,
            })
        });
        refusals.collect::<Option<Vec<_>>>()?.into_iter().min_by_key(soonest)
    }

    /// An account did not take a launch. It is nobody's fault, and all pools that want the same hear of it.
    pub(super) fn offering_refused(
        &self,
        worker: &Worker,
        what: Scarce,
        after: Option<Duration>,
    ) -> ProviderError {
        let doing = format!("launch on `{}`", worker.provider);
        let error =
            ProviderError { retry_after: after, ..ProviderError::new(what.class(), doing, what.to_string()) };
        self.offerings.refused(&worker.provider, Asks::of(worker), what, &error);
        error
    }

    /// A worker is gone: what it took of its account is free, and what it was to find out nobody finds out by it.
    pub(super) fn offering_freed(&self, worker: &Worker) {
        if worker.accepted.is_none() {
            self.offerings.asks_no_more(&worker.provider, Asks::of(worker));
        } else if self.offerings.freed(&worker.provider, Freed::One(worker.offering.as_deref())) {
            self.ctx.nudges.fleet.notify_one();
        }
    }

    /// A launch found no image; when whoever waits for the class may ask for a worker again: at once, where another account may have it.
    pub(super) fn image_failed(&self, worker: &Worker, image: &str, error: ProviderError) -> Duration {
        let images = self.images_of(&worker.spec_digest);
        let own = self.breakers.failed(&worker.provider, image, error).retry_after.unwrap_or_default();
        // Nothing was found out about the others.
        let others = images.iter().filter(|other| *other != image);
        others.for_each(|other| self.breakers.asks_no_more(&worker.provider, other));
        let active = self.ctx.config();
        let pool = active.config.pools.iter().find(|(name, _)| name.as_str() == worker.pool);
        let another = pool.is_some_and(|(_, pool)| {
            pool.on.iter().any(|account| {
                images.iter().all(|image| matches!(self.breakers.may(account, image), May::Ask))
            })
        });
        if another { SOON } else { own }
    }

    /// A worker has come into being: its image is where it is.
    pub(super) fn note_warm(&self, worker: &Worker) {
        for image in self.images_of(&worker.spec_digest) {
            self.warm.note(&worker.provider, &image);
            self.breakers.good(&worker.provider, &image);
        }
        self.offerings.taken(&worker.provider, Asks::of(worker));
    }

    /// Whether a pool could launch one more worker as far as its accounts are concerned.
    pub(super) fn has_room(&self, config: &Config, pool: &PoolConfig, taken: &Taken) -> bool {
        placement::place(&placing::hosts(config, pool, taken), pool.takes).is_ok()
    }

    /// The account that is asked what an image means: the first that answers and takes workers.
    pub(super) fn asked(&self, config: &Config, pool: &PoolConfig) -> String {
        let hosts = self.hosts(config, pool, &Taken::default());
        let best = hosts.iter().min_by_key(|host| (host.drained, host.away));
        best.map(|host| host.name.clone()).unwrap_or_default()
    }

    pub(super) fn hosts(&self, config: &Config, pool: &PoolConfig, taken: &Taken) -> Vec<Host> {
        let mut hosts = placing::hosts(config, pool, taken);
        // Of one alone nobody chooses.
        if let [_, _, ..] = hosts.as_slice() {
            hosts.iter_mut().for_each(|host| host.away = self.accounts.is_away(config, &host.name));
        }
        hosts
    }

    /// Workers without those that are stranded: on an account that does not answer, with an agent that does not either, while their pool has
    /// another account. Nobody can say what became of them, and they shall not keep others from coming.
    pub(super) fn within_reach<'a>(&self, active: &Active, workers: &'a [Worker]) -> Cow<'a, [Worker]> {
        let config = &active.config;
        let mut lost: HashSet<(&str, String)> = HashSet::new();
        for (name, pool) in config.pools.iter().filter(|(_, pool)| pool.on.len() > 1) {
            let hosts = self.hosts(config, pool, &Taken::default());
            if hosts.iter().any(|host| !host.away && !host.drained) {
                lost.extend(
                    hosts.into_iter().filter(|host| host.away).map(|host| (name.as_str(), host.name)),
                );
            }
        }
        let stranded = |worker: &&Worker| {
            !matches!(worker.link, Link::Attached { .. })
                && lost.iter().any(|(pool, account)| *pool == worker.pool && *account == worker.provider)
        };
        if lost.is_empty() {
            return Cow::Borrowed(workers);
        }
        workers.iter().filter(|worker| !stranded(worker)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_where_it_was_seen_until_it_goes_there() {
        let warm = Warm::default();
        warm.note("one", "a");
        warm.note("one", "b");
        warm.note("other", "a");
        assert!(warm.has("one", "a") && warm.has("other", "a") && !warm.has("other", "b"));
        warm.forget("one", &["a".to_owned()]);
        assert!(!warm.has("one", "a") && warm.has("one", "b") && warm.has("other", "a"));
        for image in 0..REMEMBERED {
            warm.note("many", &image.to_string());
        }
        assert!(!warm.has("one", "b") && warm.has("many", &(REMEMBERED - 1).to_string()));
    }
}
