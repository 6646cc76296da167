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
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::{oneshot, watch};

/// What lies in memory where others have a file. Clones are the same.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Mutex<Writer>>);

impl Memory {
    /// # Errors
    /// Where SQLite has no room for it.
    pub fn new() -> Result<Self, OpenError> {
        let connection = open::writer(Path::new(open::IN_MEMORY))?;
        Ok(Self(Arc::new(Mutex::new(Writer::new(connection, Arc::default())))))
    }

    /// One more with the same in it, for whoever needs many: making a database takes longer than copying one. They are of one installation.
    ///
    /// # Errors
    /// Where SQLite has no room for it.
    pub fn copy(&self) -> Result<Self, OpenError> {
        let writer = self.0.lock().expect("nothing panics while it is held");
        let connection = open::copy_in_memory(&writer.connection)?;
        Ok(Self(Arc::new(Mutex::new(Writer::new(connection, Arc::default())))))
    }

    /// One more handle, as one more master process would have it.
    ///
    /// # Errors
    /// Where the database's own facts cannot be read.
    pub async fn open(&self) -> Result<Store, OpenError> {
        self.open_for(Death::Never).await.map(|(store, _)| store)
    }

    /// The handle of a master that dies; the second is true once it has: from then on nobody is answered, and nothing is written.
    ///
    /// # Errors
    /// Where the database's own facts cannot be read.
    pub async fn open_for(&self, death: Death) -> Result<(Store, watch::Receiver<bool>), OpenError> {
        let committed: Committed = Arc::new(watch::Sender::new(0));
        let (dead, told) = watch::channel(false);
        let handle = Handle {
            memory: self.clone(),
            identity: Arc::default(),
            committed: Arc::clone(&committed),
            death: Mutex::new(death),
            dead,
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
}

impl Handle {
    fn write<T>(
        &self,
        job: impl FnOnce(super::writer::Reply<T>) -> Job,
    ) -> oneshot::Receiver<Result<T, CommitError>> {
        let (reply, answer) = oneshot::channel();
        let mut writer = self.memory.0.lock().expect("nothing panics while it is held");
        writer.fence = Arc::clone(&self.identity);
        writer.write(vec![job(reply)]);
        answer
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
        // Others have their turn here, as they have where a thread writes.
        tokio::task::yield_now().await;
        self.while_alive().await;
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
        tokio::task::yield_now().await;
        self.while_alive().await;
        let writer = self.memory.0.lock().expect("nothing panics while it is held");
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
