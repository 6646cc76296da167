//! SQLite: WAL, synchronous FULL always. One thread owns the writing connection and runs whole folded transactions; reads go through a
//! small pool of read-only connections.

mod open;
mod writer;

use crate::batch::Batch;
use crate::value::{Type, Value};
use crate::{Backend, CommitError, Committed, DatabaseError, Identity, OpenError, Row};
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column as _, Row as _, TypeInfo as _, ValueRef as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use writer::{Job, Reply, Writer};

/// How long another process (a backup, somebody's shell) may hold the database before a write answers that it cannot be done now.
const BUSY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Sqlite {
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
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
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(|e| opened(e.into()))?;
        let (jobs, queue) = mpsc::channel(1024);
        let identity = Arc::new(Mutex::new(None));
        let fence = Arc::clone(&identity);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || Writer::new(connection, fence).run(queue))
            .map_err(|e| opened(DatabaseError::Other(e.to_string())))?;
        Ok(Self { jobs, readers, identity, committed })
    }

    async fn ask<T>(&self, batch: &'static str, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, CommitError> {
        let gone = || CommitError::Unavailable {
            batch,
            source: DatabaseError::Other("the store's writer has ended".into()),
        };
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let has_events = !batch.events.is_empty();
        self.ask(batch.name, |reply| Job::Commit(batch, reply)).await?;
        if has_events {
            self.committed.send_modify(|n| *n = n.wrapping_add(1));
        }
        Ok(())
    }

    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for value in params {
            query = match value {
                Value::Null(_) => query.bind(None::<i64>),
                Value::I64(v) => query.bind(v),
                Value::Text(v) => query.bind(v),
                Value::Bytes(v) => query.bind(v),
            };
        }
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(cells).collect()
    }

    async fn reserve(&self, kind: &'static str, count: i64) -> Result<i64, CommitError> {
        self.ask("ids.reserve", |reply| Job::Reserve(kind, count, reply)).await
    }

    fn fence(&self, identity: Identity) {
        *self.identity.lock().expect("nothing panics while it is held") = Some(identity);
    }
}

fn cells(row: &SqliteRow) -> Result<Row, DatabaseError> {
    (0..row.columns().len())
        .map(|n| {
            let raw = row.try_get_raw(n)?;
            if raw.is_null() {
                return Ok(Value::Null(Type::I64));
            }
            Ok(match raw.type_info().name() {
                "INTEGER" | "BOOLEAN" | "BIGINT" => Value::I64(row.try_get(n)?),
                "TEXT" => Value::Text(row.try_get(n)?),
                "BLOB" => Value::Bytes(row.try_get(n)?),
                other => {
                    let column = row.column(n).name();
                    return Err(DatabaseError::Other(format!(
                        "column {column} has the unknown type {other}"
                    )));
                }
            })
        })
        .collect()
}
