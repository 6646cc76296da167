//! Masters and roles: who is alive, who does what, and who was fenced. Expiry is judged by the observer's own monotonic clock since a
//! counter last moved, so a wall clock that jumps changes nothing.

use crate::batch::Batch;
use crate::value::{Field, Value};
use crate::{CommitError, ReadError, Store};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::master::{Master, Role};
use rouse_model::{MasterId, Timestamp};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Who this process is, to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub master: MasterId,
    pub term: i64,
}

/// The proof that a role is held; batches of that role carry it.
pub type RoleHeld = Role;

/// What this process has seen of other masters' heartbeats.
#[derive(Debug)]
pub struct Observer {
    lease: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Instant>,
    /// Each one's counter, and for how long it was watched standing still.
    still: HashMap<MasterId, (i64, Duration)>,
}

impl Observer {
    /// A master whose counter has not moved for `lease` is taken for dead.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self { lease, seen: Mutex::default() }
    }

    /// Notes what stands in the rows now, and answers who is dead. Between two looks no more than a third of a lease counts: who was away for
    /// longer, frozen or without its database, was not watching, and those that it could not see may have been away with it.
    pub fn observe(&self, masters: &[Master], now: Instant) -> Vec<Master> {
        let mut seen = self.seen.lock().expect("nothing panics while it is held");
        let watched = seen.last.map_or(Duration::ZERO, |last| now.duration_since(last)).min(self.lease / 3);
        seen.last = Some(now);
        let mut dead = Vec::new();
        for master in masters {
            let (counter, still) = seen.still.entry(master.id).or_insert((master.counter, Duration::ZERO));
            if *counter == master.counter {
                *still += watched;
            } else {
                (*counter, *still) = (master.counter, Duration::ZERO);
            }
            if master.stopped || *still >= self.lease {
                dead.push(master.clone());
            }
        }
        dead
    }

    /// For how long a master's counter has stood still under this observer's eyes.
    #[must_use]
    pub fn still(&self, master: MasterId) -> Duration {
        let seen = self.seen.lock().expect("nothing panics while it is held");
        seen.still.get(&master).map_or(Duration::ZERO, |(_, still)| *still)
    }
}

impl Batch {
    /// The master must still be as it was read: not come back, not fenced by another one.
    pub fn expect_master(&mut self, master: &Master) -> &mut Self {
        self.ops.push(guarded_update(master, (master.term, master.counter)));
        self
    }
}

impl Store {
    /// Enters this process under its name. An earlier process of that name is fenced: the caller makes sure that it is dead, or that it should be.
    ///
    /// # Errors
    /// Where the database cannot be written.
    pub async fn enter(&self, name: &str, machine: &str, now: Timestamp) -> Result<Master, CommitError> {
        loop {
            let known = self.master_by_name(name).await.map_err(|e| CommitError::Unavailable {
                batch: "master.enter",
                source: crate::DatabaseError::Other(e.to_string()),
            })?;
            let mut batch = Batch::new("master.enter");
            let master = match known {
                Some(old) => {
                    let guard = (old.term, old.counter);
                    let mut master = Master {
                        term: old.term + 1,
                        counter: old.counter + 1,
                        stopped: false,
                        started: now,
                        ..old
                    };
                    master.machine = machine.to_owned();
                    batch.ops.push(guarded_update(&master, guard));
                    master
                }
                None => {
                    let id = self.next_id().await?;
                    let master = Master {
                        id,
                        name: name.into(),
                        machine: machine.into(),
                        term: 1,
                        counter: 0,
                        started: now,
                        stopped: false,
                    };
                    batch.insert(&master);
                    master
                }
            };
            batch.event(master_event(&master, "started", now));
            match self.commit(batch).await {
                Ok(()) => {
                    self.fence(Identity { master: master.id, term: master.term });
                    return Ok(master);
                }
                Err(error) if error.is_conflict() || error.is_duplicate() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One heartbeat. `Fenced` means that another master has taken this one's place.
    ///
    /// # Errors
    /// Where this master was fenced, or the database cannot be written.
    pub async fn beat(&self, master: &mut Master) -> Result<(), CommitError> {
        let guard = (master.term, master.counter);
        master.counter += 1;
        let mut batch = Batch::new("master.beat");
        batch.ops.push(guarded_update(master, guard));
        self.commit(batch).await
    }

    /// Says that this master ends by itself, so that others need not wait for its lease to run out.
    ///
    /// # Errors
    /// Where the database cannot be written.
    pub async fn leave(&self, master: &mut Master, now: Timestamp) -> Result<(), CommitError> {
        let guard = (master.term, master.counter);
        master.counter += 1;
        master.stopped = true;
        let mut batch = Batch::new("master.leave");
        batch.ops.push(guarded_update(master, guard));
        batch.event(master_event(master, "stopped", now));
        self.commit(batch).await
    }

    /// Sees to it that a dead master writes nothing more, before its work is taken over; answers its row, on which the batches that take over
    /// insist. `None` where it has moved since it was looked at.
    ///
    /// # Errors
    /// Where the database cannot be written.
    pub async fn fence_off(&self, gone: &Master, now: Timestamp) -> Result<Option<Master>, CommitError> {
        if gone.stopped {
            return Ok(Some(gone.clone()));
        }
        let fenced = Master { term: gone.term + 1, stopped: true, ..gone.clone() };
        let mut batch = Batch::new("master.fence");
        batch.ops.push(guarded_update(&fenced, (gone.term, gone.counter)));
        batch.event(master_event(&fenced, "fenced", now));
        match self.commit(batch).await {
            Ok(()) => Ok(Some(fenced)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a role, or keeps it. `None` where another living master holds it.
    ///
    /// # Errors
    /// Where the database cannot be read or written.
    pub async fn hold(
        &self,
        role: &str,
        shard: &str,
        me: MasterId,
        dead: &[Master],
    ) -> Result<Option<RoleHeld>, HoldError> {
        let known: Option<Role> =
            self.select_one("WHERE role = $1 AND shard = $2", vec![role.into(), shard.into()]).await?;
        let mut batch = Batch::new("role.take");
        let held = match known {
            None => {
                let held = Role { role: role.into(), shard: shard.into(), master: me, term: 1 };
                batch.insert(&held);
                held
            }
            Some(held) if held.master == me => return Ok(Some(held)),
            Some(other) => {
                let Some(gone) = dead.iter().find(|m| m.id == other.master) else { return Ok(None) };
                // Fenced first: whatever it still tries to write is refused from now on. One that ended by itself has nothing left to write; but
                // if it has come back since it was looked at, it keeps what it had.
                let term = if gone.stopped { gone.term } else { gone.term + 1 };
                let fenced = Master { term, stopped: true, ..gone.clone() };
                batch.ops.push(guarded_update(&fenced, (gone.term, gone.counter)));
                batch.expect_role(&other);
                let mut held = Role { master: me, term: other.term + 1, ..other };
                batch.update(&mut held);
                held
            }
        };
        match self.commit(batch).await {
            Ok(()) => Ok(Some(held)),
            Err(error) if error.is_conflict() || error.is_duplicate() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// # Errors
    /// Where the database cannot be read.
    pub async fn masters(&self) -> Result<Vec<Master>, ReadError> {
        self.select("ORDER BY id", vec![]).await
    }

    async fn master_by_name(&self, name: &str) -> Result<Option<Master>, ReadError> {
        self.select_one("WHERE name = $1", vec![name.into()]).await
    }
}

/// Why a role could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    #[error("take a role")]
    Read(#[from] ReadError),
    #[error("take a role")]
    Commit(#[from] CommitError),
}

/// A master's row is guarded by term and counter, since both move.
fn guarded_update(master: &Master, guard: (i64, i64)) -> crate::batch::Op {
    crate::batch::Op::UpdateMaster {
        id: master.id.0,
        set: vec![
            master.machine.put(),
            master.term.put(),
            master.counter.put(),
            master.started.put(),
            master.stopped.put(),
        ],
        guard: vec![Value::I64(guard.0), Value::I64(guard.1)],
    }
}

fn master_event(master: &Master, state: &str, now: Timestamp) -> NewEvent {
    NewEvent {
        kind: EventKind::MasterState,
        version: 1,
        subject: format!("master/{}", master.id),
        project: String::new(),
        at: now,
        payload: serde_json::json!({"name": master.name, "term": master.term, "state": state}),
    }
}
