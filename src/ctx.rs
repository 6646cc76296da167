//! What every loop and every handler is given: the store, the clock, the configuration in force, and the ways to wake each other.
//!
//! It owns nothing but handles. What is true stands in the store; a nudge carries no data.

mod coming;
mod trouble;

use crate::authority::Authority;
use crate::config::Config;
use crate::keys::InstallationKey;
use crate::switchboard::Switchboard;
use rouse_model::master::{Master, Role};
use rouse_model::{ConfigRevisionId, MasterId, Timestamp};
use rouse_store::{HoldError, Observer, Store};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};

pub use coming::{Announced, Coming};
pub use trouble::Trouble;

/// Shared by all parts of one master.
#[derive(Debug)]
pub struct Ctx {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub me: MasterId,
    /// The id of the machine that it runs on: some accounts belong to one.
    pub machine: String,
    /// Public address, for links in messages.
    pub url: String,
    /// This master's own folder.
    pub state: PathBuf,
    pub key: InstallationKey,
    /// Vouches for this master towards agents that come by TLS.
    pub authority: Authority,
    /// Where it listens for them, if it does.
    pub agents: Option<std::net::SocketAddr>,
    pub revisions: crate::revisions::Revisions,
    pub active: watch::Receiver<Arc<Active>>,
    pub nudges: Nudges,
    pub hurry: Hurry,
    pub mirrors: MirrorsWanted,
    pub coming: Coming,
    pub turnstile: crate::requests::Turnstile,
    pub roles: Roles,
    pub switchboard: Switchboard,
    /// Set once this master was told to make room for another one: so long agents are to wait for it.
    pub away: OnceLock<Duration>,
    pub sources: crate::sources::Sources,
    pub logs: crate::logs::Logs,
    pub artifacts: crate::artifacts::Artifacts,
    pub accounts: Arc<crate::accounts::Accounts>,
    /// Enrolled machines that are connected to this master.
    pub machines: Arc<rouse_provider_enrolled::Hub>,
    pub metrics: Arc<crate::metrics::Metrics>,
    /// Where the bytes of logs and artifacts lie, for what its disk has to say.
    pub objects: Arc<crate::objects::Objects>,
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// Codebases that builds check out, and on which accounts' hosts: there a mirror is of use. Lost with the process: the next build says it again.
#[derive(Debug, Default)]
pub struct MirrorsWanted {
    wanted: Mutex<BTreeSet<(String, String, String)>>,
    said: Notify,
}

impl MirrorsWanted {
    /// On an account's host, of a codebase, with a revision in it.
    pub fn say(&self, account: &str, codebase: &str, revision: &str) {
        let mut wanted = self.wanted.lock().expect("nothing panics while it is held");
        if wanted.insert((account.to_owned(), codebase.to_owned(), revision.to_owned())) {
            self.said.notify_one();
        }
    }

    /// All of them, once.
    #[must_use]
    pub fn take(&self) -> BTreeSet<(String, String, String)> {
        std::mem::take(&mut *self.wanted.lock().expect("nothing panics while it is held"))
    }

    /// Until one more is wanted.
    pub async fn wanted(&self) {
        self.said.notified().await;
    }
}

/// Another master of the installation, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub master: Master,
    pub is_dead: bool,
    /// For how long it has been watched saying nothing.
    pub still: Duration,
}

/// The roles that this master holds or asks for, and the masters that it shares them with.
#[derive(Debug)]
pub struct Roles {
    store: Store,
    me: MasterId,
    observer: Observer,
    peers: Mutex<Vec<Peer>>,
    /// What was found at the last heartbeat or since. A role is lost only to who has fenced this master, whose writes are refused from then on.
    held: Mutex<HashMap<(String, String), Role>>,
}

impl Roles {
    #[must_use]
    pub fn new(store: Store, me: MasterId, lease: Duration) -> Self {
        Self { store, me, observer: Observer::new(lease), peers: Mutex::default(), held: Mutex::default() }
    }

    /// Looks at the other masters' heartbeats; called at each of our own.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn observe(&self) -> Result<(), rouse_store::ReadError> {
        let others: Vec<Master> =
            self.store.masters().await?.into_iter().filter(|m| m.id != self.me).collect();
        let dead = self.observer.observe(&others, tokio::time::Instant::now().into_std());
        let peer = |master: Master| Peer {
            is_dead: dead.iter().any(|m| m.id == master.id),
            still: self.observer.still(master.id),
            master,
        };
        let peers = others.into_iter().map(peer).collect();
        *self.peers.lock().expect("nothing panics while it is held") = peers;
        self.held.lock().expect("nothing panics while it is held").clear();
        Ok(())
    }

    /// The other masters of the installation, as they were seen last.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.peers.lock().expect("nothing panics while it is held").clone()
    }

    /// Whether another master is up, as far as this one can tell.
    #[must_use]
    pub fn is_living(&self, master: MasterId) -> bool {
        let peers = self.peers.lock().expect("nothing panics while it is held");
        peers.iter().any(|peer| peer.master.id == master && !peer.is_dead)
    }

    /// Whether any other master is up.
    #[must_use]
    pub fn has_company(&self) -> bool {
        self.peers.lock().expect("nothing panics while it is held").iter().any(|peer| !peer.is_dead)
    }

    /// The proof that this master may act in a role now; `None` where another one does.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub async fn hold(&self, role: &str, shard: &str) -> Result<Option<Role>, HoldError> {
        let key = (role.to_owned(), shard.to_owned());
        if let Some(held) = self.held.lock().expect("nothing panics while it is held").get(&key) {
            return Ok(Some(held.clone()));
        }
        let peers = self.peers();
        let dead: Vec<Master> =
            peers.into_iter().filter(|peer| peer.is_dead).map(|peer| peer.master).collect();
        let held = self.store.hold(role, shard, self.me, &dead).await?;
        if let Some(held) = &held {
            self.held.lock().expect("nothing panics while it is held").insert(key, held.clone());
        }
        Ok(held)
    }
}
