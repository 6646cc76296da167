//! Locks: what builds share that is no worker, as a licence, a key or a rig. Who may go on is decided here, by one function for the fleet, the
//! matcher and `explain`.
//!
//! A request takes all its locks at once, before anybody makes a worker for it, or it waits. Whoever waits keeps its place: those behind it get
//! nothing that it waits for, so that nobody starves, and since nobody waits with a part of its locks in hand, nobody waits in a ring.

use crate::{RequestId, Trust, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A lock, as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// So many may be taken at the same time; at least 1.
    pub count: u32,
    /// Among what they are counted.
    pub per: Scope,
    /// The least trust of the builds that may take it.
    pub accepts: Trust,
}

/// Where a lock is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Installation,
    /// On each worker by itself.
    Worker,
}

/// How much of a lock somebody takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    Count(u32),
    /// All of it.
    Exclusive,
}

/// A lock that a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need<'a> {
    pub name: &'a str,
    pub lock: Lock,
    pub share: Share,
}

/// A lock that a request has. It ends with the request, or with its build where that is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub lock: String,
    pub share: Share,
    /// Of a lock that is counted on each worker, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
}

/// Why a request cannot have its locks now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// Never: its trust is less than the lock accepts.
    Untrusted { lock: String },
    /// Others have it, or wait before it.
    Taken {
        lock: String,
        /// Who has it, oldest first.
        by: Vec<RequestId>,
        /// Who waits for it with a better right.
        ahead: Vec<RequestId>,
    },
}

/// Who has what, and who waits for what in front of others.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    taken: HashMap<(String, Option<WorkerId>), Vec<Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    request: RequestId,
    share: Share,
    waits: bool,
}

impl Ledger {
    /// What is on record.
    pub fn of<'a>(holds: impl IntoIterator<Item = (RequestId, &'a Hold)>) -> Self {
        let mut ledger = Self::default();
        for (request, hold) in holds {
            ledger.add(&hold.lock, hold.worker, Entry { request, share: hold.share, waits: false });
        }
        ledger
    }

    fn add(&mut self, lock: &str, worker: Option<WorkerId>, entry: Entry) {
        self.taken.entry((lock.to_owned(), worker)).or_default().push(entry);
    }

    /// Whether a request could have all these; `worker` where it is known, without which those that are counted on workers are left aside.
    ///
    /// # Errors
    /// The first that it cannot have, and why.
    pub fn try_all(&self, needs: &[Need<'_>], trust: Trust, worker: Option<WorkerId>) -> Result<(), Blocked> {
        if let Some(lock) = refused(needs, trust) {
            return Err(Blocked::Untrusted { lock: lock.to_owned() });
        }
        needs.iter().filter_map(|need| Some((need, place(need, worker)?))).try_for_each(|(need, place)| {
            let entries = self.taken.get(&(need.name.to_owned(), place)).map_or(&[][..], Vec::as_slice);
            if fits(need, entries) {
                return Ok(());
            }
            let who = |waits: bool| {
                entries.iter().filter(|entry| entry.waits == waits).map(|entry| entry.request).collect()
            };
            Err(Blocked::Taken { lock: need.name.to_owned(), by: who(false), ahead: who(true) })
        })
    }

    /// A request takes them.
    pub fn take(&mut self, request: RequestId, needs: &[Need<'_>], worker: Option<WorkerId>) -> Vec<Hold> {
        self.enter(request, needs, worker, false)
    }

    /// A request waits for them: whoever is asked about later comes after it.
    pub fn wait(&mut self, request: RequestId, needs: &[Need<'_>], worker: Option<WorkerId>) {
        self.enter(request, needs, worker, true);
    }

    fn enter(
        &mut self,
        request: RequestId,
        needs: &[Need<'_>],
        worker: Option<WorkerId>,
        waits: bool,
    ) -> Vec<Hold> {
        let mut holds = Vec::new();
        for (need, worker) in needs.iter().filter_map(|need| Some((need, place(need, worker)?))) {
            self.add(need.name, worker, Entry { request, share: need.share, waits });
            holds.push(Hold { lock: need.name.to_owned(), share: need.share, worker });
        }
        holds
    }

    /// A request has nothing any more.
    pub fn forget(&mut self, request: RequestId) {
        for entries in self.taken.values_mut() {
            entries.retain(|entry| entry.request != request);
        }
    }
}

/// Where a need is counted, as far as that is known.
#[allow(clippy::option_option)] // Not counted now; counted for all; counted on one.
fn place(need: &Need<'_>, worker: Option<WorkerId>) -> Option<Option<WorkerId>> {
    match (need.lock.per, worker) {
        (Scope::Installation, _) => Some(None),
        (Scope::Worker, Some(worker)) => Some(Some(worker)),
        (Scope::Worker, None) => None,
    }
}

fn fits(need: &Need<'_>, entries: &[Entry]) -> bool {
    let mut free = u64::from(need.lock.count);
    for entry in entries {
        match entry.share {
            Share::Exclusive => return false,
            Share::Count(count) => free = free.saturating_sub(u64::from(count)),
        }
    }
    match need.share {
        Share::Exclusive => entries.is_empty(),
        Share::Count(count) => u64::from(count) <= free,
    }
}

/// Whether what a request has is what it needs, of that which is counted for all; nothing less, and nothing that it needs no more.
#[must_use]
pub fn has_all(holds: &[Hold], needs: &[Need<'_>]) -> bool {
    let mut wanted = needs.iter().filter(|need| need.lock.per == Scope::Installation);
    let count = wanted.clone().count();
    holds.len() == count
        && wanted.all(|need| holds.iter().any(|hold| hold.lock == need.name && hold.share == need.share))
}

/// The first lock that a request may never take, for its trust.
#[must_use]
pub fn refused<'a>(needs: &[Need<'a>], trust: Trust) -> Option<&'a str> {
    needs.iter().find(|need| trust < need.lock.accepts).map(|need| need.name)
}

/// Those that are counted on workers.
#[must_use]
pub fn of_workers<'a>(needs: &[Need<'a>]) -> Vec<Need<'a>> {
    needs.iter().filter(|need| need.lock.per == Scope::Worker).cloned().collect()
}

/// How many builds with these needs one worker runs at the same time, where locks set a limit to that.
#[must_use]
pub fn at_once_on_a_worker(needs: &[Need<'_>]) -> Option<usize> {
    let of_workers = needs.iter().filter(|need| need.lock.per == Scope::Worker);
    of_workers
        .map(|need| match need.share {
            Share::Exclusive => 1,
            Share::Count(count) => (need.lock.count / count.max(1)).max(1) as usize,
        })
        .min()
}
