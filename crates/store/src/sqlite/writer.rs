//! The thread that writes: it folds what waits into one transaction, and answers once that is durable.

use crate::batch::{Batch, event_values};
use crate::dialect::{INSERT_EVENT, RESERVE};
use crate::record::Sql;
use crate::value::Value;
use crate::{CommitError, DatabaseError, Identity};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How many waiting jobs one transaction takes.
const FOLD: usize = 256;
/// Between looks whether the master rests, and how many transactions it may write meanwhile if it does.
const LOOK: Duration = Duration::from_secs(10);
const FEW: u32 = 50;

pub(super) type Reply<T> = oneshot::Sender<Result<T, CommitError>>;

#[derive(Debug)]
pub(super) enum Job {
    Commit(Batch, Reply<()>),
    Reserve(&'static str, i64, Reply<i64>),
}

impl Job {
    fn name(&self) -> &'static str {
        match self {
            Self::Commit(batch, _) => batch.name,
            Self::Reserve(..) => "ids.reserve",
        }
    }

    /// Nobody minds whether the asker has gone meanwhile.
    fn answer(self, outcome: Result<i64, CommitError>) {
        match self {
            Self::Commit(_, reply) => drop(reply.send(outcome.map(|_| ()))),
            Self::Reserve(_, _, reply) => drop(reply.send(outcome)),
        }
    }
}

/// Why a transaction was rolled back.
enum Failure {
    /// The job at this place cannot be done.
    Job(usize, CommitError),
    /// No job could be: the file is locked, full, away.
    Database(rusqlite::Error),
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) fence: Arc<Mutex<Option<Identity>>>,
}

impl Writer {
    pub(super) fn new(connection: Connection, fence: Arc<Mutex<Option<Identity>>>) -> Self {
        Self { connection, fence }
    }

    pub(super) fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut since = Instant::now();
        let mut written = 0;
        while let Some(first) = queue.blocking_recv() {
            let mut fold = vec![first];
            while fold.len() < FOLD
                && let Ok(job) = queue.try_recv()
            {
                fold.push(job);
            }
            self.write(fold);
            written += 1;
            if since.elapsed() > LOOK {
                if written <= FEW {
                    self.rest();
                }
                (since, written) = (Instant::now(), 0);
            }
        }
    }

    /// A master at rest writes only that it is there: the pages that its last rush has left in memory are for nothing.
    fn rest(&self) {
        if let Err(error) = self.connection.execute_batch("PRAGMA shrink_memory") {
            tracing::debug!(%error, "the database's pages stay in memory");
        }
    }

    /// All in one transaction where all hold. One that does not is run by itself, between those before and those after it, so that it costs
    /// the others nothing but time.
    pub(super) fn write(&self, fold: Vec<Job>) {
        let mut parts = vec![fold];
        while let Some(mut part) = parts.pop() {
            match self.transaction(&part) {
                Ok(values) => part.into_iter().zip(values).for_each(|(job, value)| job.answer(Ok(value))),
                Err(Failure::Database(error)) => {
                    let error: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
                    parts.push(part);
                    for job in parts.drain(..).rev().flatten() {
                        let batch = job.name();
                        let source = DatabaseError::Away(Arc::clone(&error));
                        job.answer(Err(CommitError::Unavailable { batch, source }));
                    }
                }
                Err(Failure::Job(_, error)) if part.len() == 1 => {
                    if let Some(job) = part.pop() {
                        job.answer(Err(error));
                    }
                }
                Err(Failure::Job(at, _)) => {
                    let after = part.split_off(at + 1);
                    let broken = part.split_off(at);
                    parts.extend([after, broken, part].into_iter().filter(|p| !p.is_empty()));
                }
            }
        }
    }

    fn transaction(&self, jobs: &[Job]) -> Result<Vec<i64>, Failure> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(Failure::Database)?;
        let outcome = self.run_all(jobs).and_then(|values| {
            self.connection.execute_batch("COMMIT").map_err(Failure::Database)?;
            Ok(values)
        });
        if outcome.is_err()
            && !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
        outcome
    }

    fn run_all(&self, jobs: &[Job]) -> Result<Vec<i64>, Failure> {
        let mut checked = false;
        let mut values = Vec::with_capacity(jobs.len());
        for (at, job) in jobs.iter().enumerate() {
            values.push(match job {
                Job::Commit(batch, _) => {
                    if !checked {
                        self.check_fence(batch.name).map_err(|e| Failure::of(at, e))?;
                        checked = true;
                    }
                    self.apply(batch).map_err(|e| Failure::of(at, e))?;
                    0
                }
                Job::Reserve(kind, count, _) => {
                    self.reserve(kind, *count).map_err(|e| Failure::of(at, unavailable(job.name())(e)))?
                }
            });
        }
        Ok(values)
    }

    fn check_fence(&self, batch: &'static str) -> Result<(), CommitError> {
        let Some(identity) = *self.fence.lock().expect("nothing panics while it is held") else {
            return Ok(());
        };
        let term: Option<i64> = self
            .connection
            .prepare_cached("SELECT term FROM masters WHERE id = ?1")
            .and_then(|mut s| s.query_row([identity.master.0], |row| row.get(0)))
            .map_or_else(
                |e| if e == rusqlite::Error::QueryReturnedNoRows { Ok(None) } else { Err(e) },
                |t| Ok(Some(t)),
            )
            .map_err(unavailable(batch))?;
        if term == Some(identity.term) { Ok(()) } else { Err(CommitError::Fenced { batch }) }
    }

    fn apply(&self, batch: &Batch) -> Result<(), CommitError> {
        let name = batch.name;
        for op in &batch.ops {
            let statement = op.statement();
            let touched = self.execute(name, statement.table, statement.sql, &statement.params)?;
            if statement.one_row && touched != 1 {
                return Err(CommitError::Conflict { batch: name, table: statement.table });
            }
        }
        for event in &batch.events {
            self.execute(name, "events", &INSERT_EVENT, &event_values(event))?;
        }
        Ok(())
    }

    fn execute(
        &self,
        batch: &'static str,
        table: &'static str,
        sql: &Sql,
        params: &[Value],
    ) -> Result<usize, CommitError> {
        let run = || {
            let mut statement = self.connection.prepare_cached(&sql.question)?;
            statement.execute(rusqlite::params_from_iter(params))
        };
        run().map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => {
                CommitError::Constraint { batch, table, message: error.to_string() }
            }
            _ => unavailable(batch)(error),
        })
    }

    fn reserve(&self, kind: &str, count: i64) -> rusqlite::Result<i64> {
        let mut statement = self.connection.prepare_cached(&RESERVE.question)?;
        let next: i64 = statement.query_row(rusqlite::params![kind, count], |row| row.get(0))?;
        Ok(next - count)
    }
}

fn unavailable(batch: &'static str) -> impl Fn(rusqlite::Error) -> CommitError {
    move |error| CommitError::Unavailable { batch, source: error.into() }
}

impl Failure {
    /// Whose fault it is: the job's at this place, or the database's.
    fn of(at: usize, error: CommitError) -> Self {
        match error {
            CommitError::Unavailable { source: DatabaseError::Sqlite(error), .. }
                if is_of_database(&error) =>
            {
                Self::Database(error)
            }
            error => Self::Job(at, error),
        }
    }
}

/// What any other job would meet as well.
pub(crate) fn is_of_database(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
        NotADatabase, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseCorrupt
                | DatabaseLocked
                | DiskFull
                | FileLockingProtocolFailed
                | NotADatabase
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null(_) => ValueRef::Null,
            Self::I64(v) => ValueRef::Integer(*v),
            Self::Text(v) => ValueRef::Text(v.as_bytes()),
            Self::Bytes(v) => ValueRef::Blob(v),
        }))
    }
}
