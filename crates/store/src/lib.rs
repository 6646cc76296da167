//! Everything a master knows, in a database. Reads are grouped by aggregate in [`reads`]; the one way to write is [`Store::commit`] with a
//! [`Batch`]: compare-and-set rows plus events, all or nothing, acknowledged once durable.
//!
//! Two databases carry it: SQLite (embedded; one writer thread folds waiting batches into one transaction) and PostgreSQL. One set of
//! SQL serves both; what differs is in [`dialect`]. This crate knows no loop, no provider and no configuration.

pub mod backup;
pub mod batch;
mod dialect;
mod failpoint;
mod migrate;
mod postgres;
pub mod reads;
pub mod record;
pub mod retention;
mod roles;
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
mod trouble;
pub mod value;

pub use batch::{Batch, Op};
pub use reads::Page;
pub use record::Record;
pub use roles::{HoldError, Identity, Observer, RoleHeld};
pub use trouble::{Trouble, Why};

use crate::value::{Malformed, Value};
use async_trait::async_trait;
use rouse_model::TypedId;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Where the state lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    Sqlite(PathBuf),
    /// A `postgres://` URL.
    Postgres(String),
}

impl Location {
    /// A `postgres://` or `postgresql://` URL, or else a file's path, with or without `sqlite://`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Self::Postgres(text.to_owned())
        } else {
            Self::Sqlite(PathBuf::from(text.strip_prefix("sqlite://").unwrap_or(text)))
        }
    }
}

/// Why a batch did not become true. Nothing of it did.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A row was not as expected: somebody else was faster. Read again.
    #[error("commit {batch}: a row of {table} was changed by somebody else")]
    Conflict { batch: &'static str, table: &'static str },
    /// A unique key exists already, or another rule of the schema was broken.
    #[error("commit {batch}: {message}")]
    Constraint { batch: &'static str, table: &'static str, message: String },
    /// Another master has taken over; this one must stop.
    #[error("commit {batch}: this master was fenced by another one")]
    Fenced { batch: &'static str },
    /// The database cannot be written now.
    #[error("commit {batch}: the database cannot be written")]
    Unavailable {
        batch: &'static str,
        #[source]
        source: DatabaseError,
    },
}

impl CommitError {
    /// The caller lost a race and should read again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// A row with this key was there already.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Constraint { .. })
    }
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("read the database")]
    Database(#[from] DatabaseError),
    #[error("understand what the database holds")]
    Malformed(#[from] Malformed),
}

impl ReadError {
    /// The database is away, and may be back at the next try.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Database(error) if trouble::is_away(error))
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("open the database {location}")]
    Open {
        location: String,
        #[source]
        source: DatabaseError,
    },
    #[error("bring the database's schema up to date (migration {number})")]
    Migrate {
        number: i64,
        #[source]
        source: DatabaseError,
    },
    #[error(
        "the database has schema {found}, newer than the {known} that this version knows; use the newer version"
    )]
    TooNew { found: i64, known: i64 },
    #[error("read the database's own facts")]
    Read(#[from] ReadError),
    #[error("enter this master into the database")]
    Commit(#[from] CommitError),
}

/// What a driver of a database says.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("sqlite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    /// It failed for all that waited at once.
    #[error("{0}")]
    Away(Arc<dyn std::error::Error + Send + Sync>),
    #[error("{0}")]
    Other(String),
}

pub(crate) type Row = Vec<Value>;
/// What the writer will say of a batch.
pub(crate) type Answer = oneshot::Receiver<Result<(), CommitError>>;

/// What a database must do for the store.
#[async_trait]
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// Takes its place among those that wait to be written; batches become true in the order in which they came, or not at all.
    async fn submit(&self, batch: Batch) -> Result<Answer, CommitError>;
    /// A batch with events has become true.
    fn announce(&self);
    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError>;
    /// The same for a few rows that an index leads to, where a database has a shorter way to them.
    async fn few(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        self.query(sql, params).await
    }
    /// Takes `count` ids of a kind; answers the first.
    async fn reserve(&self, kind: &'static str, count: i64) -> Result<i64, CommitError>;
    /// From now on each write is checked against this master's term.
    fn fence(&self, identity: Identity);
}

/// Moves whenever there are new events to read.
pub(crate) type Committed = Arc<watch::Sender<u64>>;

/// A handle on the state; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// Who is told how long commits take.
#[derive(Default)]
struct CommitWatch(OnceLock<Box<dyn Fn(Duration) + Send + Sync>>);

impl fmt::Debug for CommitWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CommitWatch").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Inner {
    backend: Box<dyn Backend>,
    blocks: Mutex<HashMap<&'static str, Range<i64>>>,
    block_lock: tokio::sync::Mutex<()>,
    committed: Committed,
    failpoint: failpoint::Failpoint,
    condition: Arc<trouble::Condition>,
    watch: CommitWatch,
    file: Option<PathBuf>,
    facts: Facts,
    /// Event numbers that a backup's return left out: above the first, up to the second.
    lost: Vec<(i64, i64)>,
}

/// What identifies an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Random; made with the database.
    pub installation: String,
    /// Rises when a backup is restored.
    pub store_epoch: i64,
}

/// A batch on its way to the disk.
#[derive(Debug)]
pub struct Submitted {
    store: Store,
    name: &'static str,
    has_events: bool,
    after: Vec<batch::After>,
    answer: Answer,
    waiting: trouble::Waiting,
    since: Instant,
}

impl Submitted {
    /// The second half of [`Store::commit`].
    ///
    /// # Errors
    /// See [`CommitError`]; in each case nothing of the batch is there.
    pub async fn committed(self) -> Result<(), CommitError> {
        let done = self.answer.await.unwrap_or_else(|_| Err(writer_has_ended(self.name)));
        self.waiting.end(&done);
        done?;
        if let Some(watch) = self.store.inner.watch.0.get() {
            watch(self.since.elapsed());
        }
        if self.has_events {
            self.store.inner.backend.announce();
        }
        self.store.inner.failpoint.after(self.name);
        for then in self.after {
            (then.0)();
        }
        Ok(())
    }
}

pub(crate) fn writer_has_ended(batch: &'static str) -> CommitError {
    CommitError::Unavailable { batch, source: DatabaseError::Other("the store's writer has ended".into()) }
}

impl Store {
    /// Opens the database, makes it where it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// Where it cannot be opened, or is of a newer version.
    pub async fn open(location: &Location) -> Result<Self, OpenError> {
        let committed: Committed = Arc::new(watch::Sender::new(0));
        let backend: Box<dyn Backend> = match location {
            Location::Sqlite(path) => Box::new(sqlite::Sqlite::open(path, Arc::clone(&committed)).await?),
            Location::Postgres(url) => Box::new(postgres::Postgres::open(url, Arc::clone(&committed)).await?),
        };
        let file = match location {
            Location::Sqlite(path) => Some(path.clone()),
            Location::Postgres(_) => None,
        };
        Self::over(backend, committed, file).await
    }

    async fn over(
        backend: Box<dyn Backend>,
        committed: Committed,
        file: Option<PathBuf>,
    ) -> Result<Self, OpenError> {
        let facts = read_facts(&*backend).await?;
        let lost = read_lost(&*backend).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                backend,
                blocks: Mutex::default(),
                block_lock: tokio::sync::Mutex::default(),
                committed,
                failpoint: failpoint::Failpoint::from_environment(),
                condition: Arc::default(),
                watch: CommitWatch::default(),
                file,
                facts,
                lost,
            }),
        })
    }

    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// Whether an event's number was given out between a backup and its return, and so means nothing any more.
    #[must_use]
    pub fn is_of_a_lost_time(&self, event: i64) -> bool {
        self.inner.lost.iter().any(|(above, to)| (above + 1..=*to).contains(&event))
    }

    /// The database's own file, where it is one of this machine.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.inner.file.as_deref()
    }

    /// Makes a batch true, durably, or leaves everything as it was.
    ///
    /// # Errors
    /// See [`CommitError`]; in each case nothing of the batch is there.
    pub async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        self.submit(batch).await?.committed().await
    }

    /// The first half of [`Store::commit`]: the batch has its place in the order of all. One that is submitted later, and expects what this one
    /// writes, need not wait until it is durable: it becomes true after this one, and not without it.
    ///
    /// # Errors
    /// Where the writer has ended.
    pub async fn submit(&self, mut batch: Batch) -> Result<Submitted, CommitError> {
        let (name, has_events) = (batch.name, !batch.events.is_empty());
        let after = std::mem::take(&mut batch.after);
        self.inner.failpoint.before(name);
        let waiting = self.inner.condition.begin();
        let since = Instant::now();
        match self.inner.backend.submit(batch).await {
            Ok(answer) => {
                Ok(Submitted { store: self.clone(), name, has_events, after, answer, waiting, since })
            }
            Err(error) => {
                let done = Err(error);
                waiting.end(&done);
                done
            }
        }
    }

    /// Has each batch that became true told of, with how long that took. Must be quick; the first one that asks is told.
    pub fn watch_commits(&self, watch: impl Fn(Duration) + Send + Sync + 'static) {
        let _ = self.inner.watch.0.set(Box::new(watch));
    }

    /// Why nothing can be written now, where that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.inner.condition.now()
    }

    /// A deed beside the database that a commit precedes or follows, with the hooks around it that commits have: tests kill a master there, too.
    pub async fn deed<T>(&self, name: &'static str, deed: impl Future<Output = T>) -> T {
        self.inner.failpoint.before(name);
        let answer = deed.await;
        self.inner.failpoint.after(name);
        answer
    }

    /// Changes whenever events that this process committed can be read, some milliseconds after the commit where somebody has to number them.
    /// Other masters' commits are found by looking.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.inner.committed.subscribe()
    }

    /// A fresh id, never used before by any master.
    ///
    /// # Errors
    /// Where a new block could not be reserved.
    pub async fn next_id<I: TypedId>(&self) -> Result<I, CommitError> {
        loop {
            if let Some(id) = self.take_id(I::KIND) {
                return Ok(I::from(id));
            }
            let _one_at_a_time = self.inner.block_lock.lock().await;
            if self
                .inner
                .blocks
                .lock()
                .expect("no panic while a block is held")
                .get(I::KIND)
                .is_none_or(Range::is_empty)
            {
                let count = block_size(I::KIND);
                let first = self.inner.backend.reserve(I::KIND, count).await?;
                self.inner
                    .blocks
                    .lock()
                    .expect("no panic while a block is held")
                    .insert(I::KIND, first..first + count);
            }
        }
    }

    fn take_id(&self, kind: &'static str) -> Option<i64> {
        self.inner.blocks.lock().expect("no panic while a block is held").get_mut(kind)?.next()
    }

    pub(crate) async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, ReadError> {
        Ok(self.inner.backend.query(sql, params).await?)
    }

    pub(crate) fn fence(&self, identity: Identity) {
        self.inner.backend.fence(identity);
    }

    /// All rows of a type that meet a condition: `WHERE` and what follows it, with `$1` and so on for the parameters.
    pub(crate) async fn select<R: Record>(
        &self,
        tail: &str,
        params: Vec<Value>,
    ) -> Result<Vec<R>, ReadError> {
        records(self.query(&all_of::<R>(tail), params).await?)
    }

    /// The same for rows of which there are mostly few, and an index that leads to them.
    pub(crate) async fn select_few<R: Record>(
        &self,
        tail: &str,
        params: Vec<Value>,
    ) -> Result<Vec<R>, ReadError> {
        records(self.inner.backend.few(&all_of::<R>(tail), params).await.map_err(ReadError::from)?)
    }

    /// The rows whose column has one of these values.
    pub(crate) async fn select_in<R: Record>(
        &self,
        column: &str,
        among: impl IntoIterator<Item = i64>,
    ) -> Result<Vec<R>, ReadError> {
        let params: Vec<Value> = among.into_iter().map(Value::I64).collect();
        if params.is_empty() {
            return Ok(Vec::new());
        }
        let marks = (1..=params.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        self.select(&format!("WHERE {column} IN ({marks})"), params).await
    }

    pub(crate) async fn select_one<R: Record>(
        &self,
        tail: &str,
        params: Vec<Value>,
    ) -> Result<Option<R>, ReadError> {
        Ok(self.select_few(tail, params).await?.pop())
    }
}

fn all_of<R: Record>(tail: &str) -> String {
    let table = R::table();
    format!("SELECT {} FROM {} {tail}", table.list, table.name)
}

fn records<R: Record>(rows: Vec<Row>) -> Result<Vec<R>, ReadError> {
    rows.into_iter().map(|row| R::from_values(row).map_err(ReadError::from)).collect()
}

/// Few of what a person counts, many of what nobody sees.
fn block_size(kind: &str) -> i64 {
    match kind {
        "request" | "build" | "buildset" | "worker" | "change_set" | "change" => 16,
        "step" | "command" | "log" | "decision" => 256,
        _ => 1,
    }
}

async fn read_lost(backend: &dyn Backend) -> Result<Vec<(i64, i64)>, ReadError> {
    let rows = backend.query("SELECT value FROM meta WHERE key = 'lost_events'", vec![]).await?;
    let Some(Value::Text(text)) = rows.into_iter().flatten().next() else { return Ok(Vec::new()) };
    let unknown = |_| Malformed { table: "meta", column: "value", found: text.clone() };
    Ok(serde_json::from_str(&text).map_err(unknown)?)
}

async fn read_facts(backend: &dyn Backend) -> Result<Facts, OpenError> {
    let read = async |key: &str| -> Result<String, ReadError> {
        let rows = backend.query("SELECT value FROM meta WHERE key = $1", vec![key.into()]).await?;
        match rows.into_iter().next().and_then(|mut row| row.pop()) {
            Some(Value::Text(text)) => Ok(text),
            other => {
                Err(Malformed { table: "meta", column: "value", found: format!("{other:?} for {key}") }
                    .into())
            }
        }
    };
    let epoch = read("store_epoch").await?;
    let store_epoch = epoch.parse().map_err(|_| {
        OpenError::Read(
            Malformed { table: "meta", column: "value", found: format!("{epoch} for store_epoch") }.into(),
        )
    })?;
    Ok(Facts { installation: read("installation").await?, store_epoch })
}
