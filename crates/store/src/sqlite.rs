//! SQLite: WAL, synchronous FULL always. One thread owns the writing connection and runs whole folded transactions; reads go through a
//! small pool of read-only connections.

#[cfg(feature = "testing")]
pub(crate) mod memory;
mod open;
mod reader;
mod writer;

use crate::batch::Batch;
use crate::value::Value;
use crate::{
    Answer, Backend, CommitError, Committed, DatabaseError, Identity, OpenError, Row, writer_has_ended,
};
use async_trait::async_trait;
use reader::Readers;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use writer::{Job, Reply, Writer};

pub(crate) use writer::is_of_database;

/// How long another process (a backup, somebody's shell) may hold the database before a write answers that it cannot be done now.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Sqlite {
    jobs: mpsc::Sender<Job>,
    readers: Arc<Readers>,
    identity: Arc<Mutex<Option<Identity>>>,
    committed: Committed,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path, committed: Committed) -> Result<Self, OpenError> {
        let at = path.display().to_string();
        let opened = |source: DatabaseError| OpenError::Open { location: at.clone(), source };
        let file = path.to_owned();
        let connection = tokio::task::spawn_blocking(move || open::writer(&file))
            .await
            .map_err(|e| opened(DatabaseError::Other(e.to_string())))??;
        let file = path.to_owned();
        let readers = tokio::task::spawn_blocking(move || Readers::open(&file))
            .await
            .map_err(|e| opened(DatabaseError::Other(e.to_string())))?
            .map_err(opened)?;
        let (jobs, queue) = mpsc::channel(1024);
        let identity = Arc::new(Mutex::new(None));
        let fence = Arc::clone(&identity);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || Writer::new(connection, fence).run(queue))
            .map_err(|e| opened(DatabaseError::Other(e.to_string())))?;
        Ok(Self { jobs, readers: Arc::new(readers), identity, committed })
    }

    async fn ask<T>(
        &self,
        batch: &'static str,
        job: impl FnOnce(Reply<T>) -> Job,
    ) -> Result<oneshot::Receiver<Result<T, CommitError>>, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| writer_has_ended(batch))?;
        Ok(answer)
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn submit(&self, batch: Batch) -> Result<Answer, CommitError> {
        self.ask(batch.name, |reply| Job::Commit(batch, reply)).await
    }

    fn announce(&self) {
        self.committed.send_modify(|n| *n = n.wrapping_add(1));
    }

    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        self.readers.query(sql, params).await
    }

    async fn few(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        self.readers.few(sql, params).await
    }

    async fn reserve(&self, kind: &'static str, count: i64) -> Result<i64, CommitError> {
        let name = "ids.reserve";
        let answer = self.ask(name, |reply| Job::Reserve(kind, count, reply)).await?;
        answer.await.map_err(|_| writer_has_ended(name))?
    }

    fn fence(&self, identity: Identity) {
        *self.identity.lock().expect("nothing panics while it is held") = Some(identity);
    }
}
