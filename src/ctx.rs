//! What every loop and every handler is given: the store, the clock, the configuration in force, and the ways to wake each other.
//!
//! It owns nothing but handles. What is true stands in the store; a nudge carries no data.

use crate::config::Config;
use crate::keys::InstallationKey;
use crate::switchboard::Switchboard;
use rouse_model::master::{Master, Role};
use rouse_model::{ConfigRevisionId, MasterId, Timestamp};
use rouse_store::{HoldError, Observer, Store};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Shared by all parts of one master.
#[derive(Debug)]
pub struct Ctx {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub me: MasterId,
    /// Public address, for links in messages.
    pub url: String,
    /// This master's own folder.
    pub state: PathBuf,
    pub key: InstallationKey,
    pub revisions: crate::revisions::Revisions,
    pub active: watch::Receiver<Arc<Active>>,
    pub nudges: Nudges,
    pub hurry: Hurry,
    pub turnstile: crate::requests::Turnstile,
    pub roles: Roles,
    pub switchboard: Switchboard,
    pub sources: crate::sources::Sources,
    pub logs: crate::logs::Logs,
    pub artifacts: crate::artifacts::Artifacts,
}

impl Ctx {
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The configuration in force at this moment.
    #[must_use]
    pub fn config(&self) -> Arc<Active> {
        self.active.borrow().clone()
    }
}

/// The wall clock, passed in so that tests and the simulator can set it. Waiting goes by tokio's own clock.
pub trait Clock: fmt::Debug + Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// The configuration in force, with the revision that builds and workers name.
#[derive(Debug)]
pub struct Active {
    pub revision: ConfigRevisionId,
    pub hash: String,
    pub config: Config,
}

/// One wake-up for each loop. A nudge that finds its loop busy is kept for its next turn.
#[derive(Debug, Default)]
pub struct Nudges {
    pub changes: Notify,
    pub schedulers: Notify,
    pub matching: Notify,
    pub fleet: Notify,
    pub agent_link: Notify,
    pub builds: Notify,
}

impl Nudges {
    /// Something changed that everybody may care about.
    pub fn all(&self) {
        for loop_ in
            [&self.changes, &self.schedulers, &self.matching, &self.fleet, &self.agent_link, &self.builds]
        {
            loop_.notify_one();
        }
    }
}

/// Word from outside that a codebase has changed. Nothing of it is believed but that a look is due; a branch that it names is looked at
/// even where it is not watched, and what is found there is untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Who gave it; stands with the change sets that are found.
    pub by: String,
    pub branch: Option<String>,
    /// What was pushed: a look that does not find it was too early, and another one follows.
    pub revision: Option<String>,
}

/// Hints that wait for a look. Lost with the process: a watched branch's next look finds the same.
#[derive(Debug, Default)]
pub struct Hurry {
    wanted: Mutex<HashMap<String, Vec<Hint>>>,
}

impl Hurry {
    /// More wait for one codebase only where somebody floods it; one look serves them all.
    const MOST: usize = 100;

    pub fn say(&self, codebase: &str, hint: Hint) {
        let mut wanted = self.wanted.lock().expect("nothing panics while it is held");
        let hints = wanted.entry(codebase.to_owned()).or_default();
        if hints.len() < Self::MOST && !hints.contains(&hint) {
            hints.push(hint);
        }
    }

    /// All that wait for a codebase, once.
    #[must_use]
    pub fn take(&self, codebase: &str) -> Vec<Hint> {
        self.wanted.lock().expect("nothing panics while it is held").remove(codebase).unwrap_or_default()
    }
}

/// The roles that this master holds or asks for.
#[derive(Debug)]
pub struct Roles {
    store: Store,
    me: MasterId,
    observer: Observer,
    dead: Mutex<Vec<Master>>,
}

impl Roles {
    #[must_use]
    pub fn new(store: Store, me: MasterId, lease: Duration) -> Self {
        Self { store, me, observer: Observer::new(lease), dead: Mutex::default() }
    }

    /// Looks at the other masters' heartbeats; called at each of our own.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn observe(&self) -> Result<(), rouse_store::ReadError> {
        let others: Vec<Master> =
            self.store.masters().await?.into_iter().filter(|m| m.id != self.me).collect();
        let dead = self.observer.observe(&others, Instant::now());
        *self.dead.lock().expect("nothing panics while it is held") = dead;
        Ok(())
    }

    /// Masters that are dead, as far as this one can tell.
    #[must_use]
    pub fn dead(&self) -> Vec<Master> {
        self.dead.lock().expect("nothing panics while it is held").clone()
    }

    /// The proof that this master may act in a role now; `None` where another one does.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub async fn hold(&self, role: &str, shard: &str) -> Result<Option<Role>, HoldError> {
        let dead = self.dead();
        self.store.hold(role, shard, self.me, &dead).await
    }
}
