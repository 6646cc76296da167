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
    /// For each branch by itself.
    Branch,
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
    /// What the request is about; those that are about none count as one branch.
    pub branch: Option<&'a str>,
}

/// A lock that a request has. It ends with the request, or with its build where that is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub lock: String,
    pub share: Share,
    /// Of a lock that is counted on each worker, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Of a lock that is counted for each branch; empty for a request that is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// Where a lock is counted, in one case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    All,
    Worker(WorkerId),
    Branch(String),
}

impl Hold {
    fn place(&self) -> Place {
        match (self.worker, &self.branch) {
            (Some(worker), _) => Place::Worker(worker),
            (None, Some(branch)) => Place::Branch(branch.clone()),
            (None, None) => Place::All,
        }
    }
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
    taken: HashMap<(String, Place), Vec<Entry>>,
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
            ledger.add(&hold.lock, hold.place(), Entry { request, share: hold.share, waits: false });
        }
        ledger
    }

    fn add(&mut self, lock: &str, place: Place, entry: Entry) {
        self.taken.entry((lock.to_owned(), place)).or_default().push(entry);
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
        for (need, place) in needs.iter().filter_map(|need| Some((need, place(need, worker)?))) {
            let (worker, branch) = match &place {
                Place::All => (None, None),
                Place::Worker(worker) => (Some(*worker), None),
                Place::Branch(branch) => (None, Some(branch.clone())),
            };
            self.add(need.name, place, Entry { request, share: need.share, waits });
            holds.push(Hold { lock: need.name.to_owned(), share: need.share, worker, branch });
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
fn place(need: &Need<'_>, worker: Option<WorkerId>) -> Option<Place> {
    match need.lock.per {
        Scope::Installation => Some(Place::All),
        Scope::Worker => worker.map(Place::Worker),
        Scope::Branch => Some(Place::Branch(need.branch.unwrap_or_default().to_owned())),
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

/// Whether what a request has is what it needs, of that which is not counted on workers; nothing less, and nothing that it needs no more.
#[must_use]
pub fn has_all(holds: &[Hold], needs: &[Need<'_>]) -> bool {
    let mut wanted = needs.iter().filter_map(|need| Some((need, place(need, None)?)));
    let count = wanted.clone().count();
    let is = |hold: &Hold, need: &Need<'_>, place: &Place| {
        hold.lock == need.name && hold.share == need.share && hold.place() == *place
    };
    holds.len() == count && wanted.all(|(need, place)| holds.iter().any(|hold| is(hold, need, &place)))
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
