//! Who may come in: a door for each live worker of this master, and the two ways to one. A worker's own socket leads to its door alone; the
//! listener for many leads to the door of whoever proves to be that worker.

use super::guard::Guard;
use crate::accounts::Accounts;
use crate::ctx::Ctx;
use rouse_model::WorkerId;
use rouse_model::worker::{Phase, Worker};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// One worker's way in. It closes with its worker, and takes its session along.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub ctx: Arc<Ctx>,
    pub worker: WorkerId,
    pub stop: CancellationToken,
    /// Holds the join document until the worker has joined, where it came by its own socket.
    pub dir: Option<Arc<Path>>,
    pub guard: Arc<Guard>,
}

impl Door {
    /// Says that something was refused here, where a person looks.
    pub(super) async fn refused(&self, code: &'static str, message: &str) {
        self.guard.refused(&self.ctx, code, message).await;
    }
}

/// What a listener leads to.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    One(Door),
    Any { ctx: Arc<Ctx>, accounts: Arc<Accounts>, doors: Arc<Doors> },
}

impl Entry {
    pub(super) fn ctx(&self) -> &Arc<Ctx> {
        match self {
            Self::One(door) => &door.ctx,
            Self::Any { ctx, .. } => ctx,
        }
    }

    /// Says that somebody was refused who came as nobody's agent.
    pub(super) async fn refused(&self, code: &'static str, message: &str) {
        match self {
            Self::One(door) => door.refused(code, message).await,
            Self::Any { ctx, doors, .. } => doors.strangers.refused(ctx, code, message).await,
        }
    }

    /// Waits for a handshake's turn, where it is known whose it would be: nobody makes another worker's agent wait.
    pub(super) async fn turn(&self) {
        if let Self::One(door) = self {
            door.guard.turn().await;
        }
    }

    /// The door of a worker who says so, not yet believed; none where he has no business here.
    pub(super) async fn door(&self, worker: WorkerId) -> Result<Option<Door>, rouse_store::ReadError> {
        let (ctx, doors) = match self {
            Self::One(door) => return Ok((door.worker == worker).then(|| door.clone())),
            Self::Any { ctx, doors, .. } => (ctx, doors),
        };
        let (stop, guard) = match doors.find(worker) {
            Some(found) => found,
            // Younger than the loop's last look, for instance all of them where the master has just begun.
            None => match ctx.store.worker(worker).await? {
                Some(row) if is_ours(ctx, &row) => doors.open(worker),
                _ => return Ok(None),
            },
        };
        Ok(Some(Door { ctx: Arc::clone(ctx), worker, stop, dir: None, guard }))
    }
}

/// Where the agent could not remove its join document: nobody else may read the token before step 1. It is ours once its agent has come.
pub(super) async fn remove_join_document(entry: &Entry, worker: &Worker) {
    let dir = match entry {
        Entry::One(door) => door.dir.clone(),
        Entry::Any { .. } if worker.attached.is_some() && worker.resumes == 0 => None,
        Entry::Any { ctx, accounts, .. } => super::link_dir(ctx, accounts, worker).await.map(Arc::from),
    };
    if let Some(dir) = dir {
        let _ = std::fs::remove_file(dir.join("join.json"));
    }
}

/// Whether a worker may have an agent that comes to this master.
pub(super) fn is_ours(ctx: &Ctx, worker: &Worker) -> bool {
    let has_none =
        matches!(worker.phase, Phase::Requested { .. } | Phase::Parked { .. } | Phase::Gone { .. });
    worker.master == ctx.me && !has_none
}

/// The doors that are open.
#[derive(Debug)]
pub(super) struct Doors {
    stop: CancellationToken,
    open: Mutex<HashMap<WorkerId, (CancellationToken, Arc<Guard>)>>,
    /// For those who are at no door.
    strangers: Guard,
}

impl Doors {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, open: Mutex::default(), strangers: Guard::new(None) }
    }

    /// Set when this master stops listening.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    fn find(&self, worker: WorkerId) -> Option<(CancellationToken, Arc<Guard>)> {
        self.lock().get(&worker).cloned()
    }

    /// Opens one, or takes the one that is open.
    pub(super) fn open(&self, worker: WorkerId) -> (CancellationToken, Arc<Guard>) {
        let mut open = self.lock();
        let made = || (self.stop.child_token(), Arc::new(Guard::new(Some(worker))));
        open.entry(worker).or_insert_with(made).clone()
    }

    pub(super) fn all(&self) -> HashSet<WorkerId> {
        self.lock().keys().copied().collect()
    }

    /// Closes those of `seen` that are not wanted, and forgets those that closed by themselves.
    pub(super) fn close_all_but(&self, wanted: &HashSet<WorkerId>, seen: &HashSet<WorkerId>) {
        self.lock().retain(|id, (stop, _)| {
            if seen.contains(id) && !wanted.contains(id) {
                stop.cancel();
            }
            !stop.is_cancelled()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkerId, (CancellationToken, Arc<Guard>)>> {
        self.open.lock().expect("nothing panics while it is held")
    }
}
