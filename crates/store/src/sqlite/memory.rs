//! The store without a disk and without threads, for simulations: one connection to a database in memory, everything done where it is asked for.
//! It outlives its handles, as a disk outlives a master, and lets a master die at a commit: before it or after it, and in any case unanswered.

use super::open;
use super::reader::rows_of;
use super::writer::{Job, Writer};
use crate::batch::Batch;
use crate::value::Value;
use crate::{
    Answer, Backend, CommitError, Committed, DatabaseError, Identity, OpenError, Row, Store, writer_has_ended,
};
use async_trait::async_trait;
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A database that takes its time does so for one call in so many, for at most so long.
const SLOW: u64 = 8;
const SLOWEST: u64 = 30_000;

/// What lies in memory where others have a file. Clones are the same.
#[derive(Debug, Clone)]
pub struct Memory {
    writer: Arc<Mutex<Writer>>,
    /// From which it is drawn when it takes its time.
    pace: Option<u64>,
    refusals: Arc<Mutex<Vec<(&'static str, Refusal)>>>,
}

/// Why a batch is not written that says nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody was faster.
    Conflict,
    /// The database is away.
    Away,
}

impl Memory {
    /// # Errors
    /// Where SQLite has no room for it.
    pub fn new() -> Result<Self, OpenError> {
        let connection = open::writer(Path::new(open::IN_MEMORY))?;
        Ok(Self::over(connection))
    }

    fn over(connection: Connection) -> Self {
        let writer = Arc::new(Mutex::new(Writer::new(connection, Arc::default())));
        Self { writer, pace: None, refusals: Arc::default() }
    }

    /// Refuses the next batch of this name, whoever writes it.
    ///
    /// # Panics
    /// Where another user of it has.
    pub fn refuse(&self, batch: &'static str, refusal: Refusal) {
        self.refusals.lock().expect("nothing panics while it is held").push((batch, refusal));
    }

    fn refusal(&self, batch: &'static str) -> Option<CommitError> {
        let mut refusals = self.refusals.lock().expect("nothing panics while it is held");
        let at = refusals.iter().position(|(name, _)| *name == batch)?;
        Some(match refusals.remove(at).1 {
            Refusal::Conflict => CommitError::Conflict { batch, table: "any" },
            Refusal::Away => {
                CommitError::Unavailable { batch, source: DatabaseError::Other("it is away".into()) }
            }
        })
    }

    /// The same, but it takes its time now and then with what mortal masters ask of it: so others come in between what one has read and what it writes.
    #[must_use]
    pub fn at_a_pace(self, seed: u64) -> Self {
        Self { pace: Some(seed), ..self }
    }

    /// One more with the same in it, for whoever needs many: making a database takes longer than copying one. They are of one installation.
    ///
    /// # Errors
    /// Where SQLite has no room for it.
    pub fn copy(&self) -> Result<Self, OpenError> {
        let writer = self.writer.lock().expect("nothing panics while it is held");
        Ok(Self::over(open::copy_in_memory(&writer.connection)?))
    }

    /// One more handle, as one more master process would have it.
    ///
    /// # Errors
    /// Where the database's own facts cannot be read.
    pub async fn open(&self) -> Result<Store, OpenError> {
        self.handle(Death::Never, None).await.map(|(store, _)| store)
    }

    /// The handle of a master that dies; the second is true once it has: from then on nobody is answered, and nothing is written.
    ///
    /// # Errors
    /// Where the database's own facts cannot be read.
    pub async fn open_for(&self, death: Death) -> Result<(Store, watch::Receiver<bool>), OpenError> {
        self.handle(death, self.pace).await
    }

    async fn handle(
        &self,
        death: Death,
        pace: Option<u64>,
    ) -> Result<(Store, watch::Receiver<bool>), OpenError> {
        let committed: Committed = Arc::new(watch::Sender::new(0));
        let (dead, told) = watch::channel(false);
        let handle = Handle {
            memory: self.clone(),
            identity: Arc::default(),
            committed: Arc::clone(&committed),
            death: Mutex::new(death),
            dead,
            pace: pace.map(AtomicU64::new),
        };
        Ok((Store::over(Box::new(handle), committed, None).await?, told))
    }
}

/// When a master dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    Never,
    /// With the batch that comes after so many others, unwritten.
    Before(u64),
    /// The same, but it is written.
    After(u64),
}

impl Death {
    /// Whether the batch that comes now is the last, and is written.
    fn strikes(&mut self) -> Option<bool> {
        match self {
            Self::Never => None,
            Self::Before(0) => Some(false),
            Self::After(0) => Some(true),
            Self::Before(left) | Self::After(left) => {
                *left -= 1;
                None
            }
        }
    }
}

#[derive(Debug)]
struct Handle {
    memory: Memory,
    identity: Arc<Mutex<Option<Identity>>>,
    committed: Committed,
    death: Mutex<Death>,
    dead: watch::Sender<bool>,
    pace: Option<AtomicU64>,
}

impl Handle {
    fn write<T>(
        &self,
        job: impl FnOnce(super::writer::Reply<T>) -> Job,
    ) -> oneshot::Receiver<Result<T, CommitError>> {
        let (reply, answer) = oneshot::channel();
        let mut writer = self.memory.writer.lock().expect("nothing panics while it is held");
        writer.fence = Arc::clone(&self.identity);
        writer.write(vec![job(reply)]);
        answer
    }

    /// Others have their turn here, as they have where a thread or a server does it.
    async fn take_time(&self) {
        let Some(pace) = &self.pace else { return tokio::task::yield_now().await };
        // Knuth's: the upper half is as good as drawn.
        let next =
            |at: u64| at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = next(pace.load(Ordering::Relaxed));
        pace.store(drawn, Ordering::Relaxed);
        match drawn >> 32 {
            drawn if drawn % SLOW == 0 => {
                tokio::time::sleep(Duration::from_micros(drawn / SLOW % SLOWEST)).await
            }
            _ => tokio::task::yield_now().await,
        }
    }

    /// Who asks a dead master's handle waits for ever, as a process that is no more.
    async fn while_alive(&self) {
        if *self.dead.borrow() {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Backend for Handle {
    async fn submit(&self, batch: Batch) -> Result<Answer, CommitError> {
        self.take_time().await;
        self.while_alive().await;
        if let Some(refusal) = self.memory.refusal(batch.name) {
            return Err(refusal);
        }
        let strikes = self.death.lock().expect("nothing panics while it is held").strikes();
        if let Some(written) = strikes {
            self.dead.send_replace(true);
            if written {
                drop(self.write(|reply| Job::Commit(batch, reply)));
            }
            return std::future::pending().await;
        }
        Ok(self.write(|reply| Job::Commit(batch, reply)))
    }

    fn announce(&self) {
        self.committed.send_modify(|n| *n = n.wrapping_add(1));
    }

    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        self.take_time().await;
        self.while_alive().await;
        let writer = self.memory.writer.lock().expect("nothing panics while it is held");
        let mut statement = writer.connection.prepare_cached(sql)?;
        Ok(rows_of(&mut statement, &params, usize::MAX)?.unwrap_or_default())
    }

    async fn reserve(&self, kind: &'static str, count: i64) -> Result<i64, CommitError> {
        self.while_alive().await;
        let answer = self.write(|reply| Job::Reserve(kind, count, reply));
        answer.await.map_err(|_| writer_has_ended("ids.reserve"))?
    }

    fn fence(&self, identity: Identity) {
        *self.identity.lock().expect("nothing panics while it is held") = Some(identity);
    }
}
