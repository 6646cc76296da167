//! SQLite: WAL, synchronous FULL always. One thread owns the writing connection and runs whole folded transactions; reads go through a
//! small pool of read-only connections.

use crate::batch::Batch;
use crate::dialect::{INSERT_EVENT, RESERVE, SQLITE};
use crate::value::{Type, Value};
use crate::{Backend, CommitError, DatabaseError, Identity, OpenError, Row, migrate};
use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column as _, Row as _, TypeInfo as _, ValueRef as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many waiting batches one transaction takes.
const FOLD: usize = 256;
/// How long another process (a backup) may hold the database.
const BUSY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Sqlite {
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
    identity: Arc<Mutex<Option<Identity>>>,
}

#[derive(Debug)]
enum Job {
    Commit(Batch, oneshot::Sender<Result<(), CommitError>>),
    Reserve(&'static str, i64, oneshot::Sender<Result<i64, CommitError>>),
}

impl Sqlite {
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let at = path.display().to_string();
        let opened = |source: DatabaseError| OpenError::Open { location: at.clone(), source };
        let file = path.to_owned();
        let connection = tokio::task::spawn_blocking(move || open_writer(&file))
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
            .spawn(move || Writer { connection, fence }.run(queue))
            .map_err(|e| opened(DatabaseError::Other(e.to_string())))?;
        Ok(Self { jobs, readers, identity })
    }

    async fn ask<T>(
        &self,
        batch: &'static str,
        job: impl FnOnce(oneshot::Sender<Result<T, CommitError>>) -> Job,
    ) -> Result<T, CommitError> {
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
        self.ask(batch.name, |reply| Job::Commit(batch, reply)).await
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

    async fn stamp(&self) -> Result<(), DatabaseError> {
        Ok(())
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

fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let opened = |source: rusqlite::Error| OpenError::Open {
        location: path.display().to_string(),
        source: source.into(),
    };
    let connection = Connection::open(path).map_err(opened)?;
    connection.busy_timeout(BUSY).map_err(opened)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(opened)?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY").map_err(opened)?;
    connection.set_prepared_statement_cache_capacity(256);
    bring_up_to_date(&connection)?;
    Ok(connection)
}

fn bring_up_to_date(connection: &Connection) -> Result<(), OpenError> {
    let failed = |number: usize| {
        move |source: rusqlite::Error| OpenError::Migrate {
            number: i64::try_from(number).unwrap_or(0),
            source: source.into(),
        }
    };
    // Taken before looking, so that two masters that start at once do not both migrate.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(failed(0))?;
    let known = migrate::MIGRATIONS.len();
    let has_meta: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'meta'", [], |row| row.get(0))
        .map_err(failed(0))?;
    let found: usize = if has_meta == 0 {
        0
    } else {
        connection
            .query_row("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'schema'", [], |row| {
                row.get::<_, i64>(0)
            })
            .map(|n| usize::try_from(n).unwrap_or(0))
            .map_err(failed(0))?
    };
    if found > known {
        let as_number = |n: usize| i64::try_from(n).unwrap_or(0);
        return Err(OpenError::TooNew { found: as_number(found), known: as_number(known) });
    }
    for number in found + 1..=known {
        for statement in migrate::statements(number, &SQLITE) {
            connection.execute_batch(&statement).map_err(failed(number))?;
        }
    }
    connection.execute_batch("COMMIT").map_err(failed(known))
}

struct Writer {
    connection: Connection,
    fence: Arc<Mutex<Option<Identity>>>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut fold = Vec::new();
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Commit(batch, reply) => fold.push((batch, reply)),
                    Job::Reserve(kind, count, reply) => {
                        // Nobody minds whether he has gone meanwhile.
                        let _ = reply.send(self.reserve(kind, count));
                    }
                }
                next = if fold.len() < FOLD { queue.try_recv().ok() } else { None };
            }
            self.write(fold);
        }
    }

    /// All in one transaction where all hold; else each by itself, so that one broken batch costs the others nothing but time.
    fn write(&mut self, fold: Vec<(Batch, oneshot::Sender<Result<(), CommitError>>)>) {
        if fold.len() > 1 {
            let names = fold.iter().map(|(b, _)| b);
            if self.transaction(names).is_ok() {
                for (_, reply) in fold {
                    let _ = reply.send(Ok(()));
                }
                return;
            }
        }
        for (batch, reply) in fold {
            let outcome = self.transaction(std::iter::once(&batch));
            let _ = reply.send(outcome);
        }
    }

    fn transaction<'a>(&mut self, batches: impl Iterator<Item = &'a Batch>) -> Result<(), CommitError> {
        let mut name = "";
        let unavailable = |batch: &'static str| {
            move |e: rusqlite::Error| CommitError::Unavailable { batch, source: e.into() }
        };
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(unavailable("begin"))?;
        let outcome = (|| {
            let mut checked = false;
            for batch in batches {
                name = batch.name;
                if !checked {
                    self.check_fence(batch.name)?;
                    checked = true;
                }
                self.apply(batch)?;
            }
            self.connection.execute_batch("COMMIT").map_err(unavailable(name))
        })();
        if outcome.is_err()
            && !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
        outcome
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
            .map_err(|e| CommitError::Unavailable { batch, source: e.into() })?;
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
            self.execute(name, "events", INSERT_EVENT, &crate::batch::event_values(event))?;
        }
        Ok(())
    }

    fn execute(
        &self,
        batch: &'static str,
        table: &'static str,
        sql: &str,
        params: &[Value],
    ) -> Result<usize, CommitError> {
        // SQLite counts `$n` by first appearance; `?n` is the number that is meant.
        let run = || {
            let mut statement = self.connection.prepare_cached(&sql.replace('$', "?"))?;
            statement.execute(rusqlite::params_from_iter(params))
        };
        run().map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => {
                CommitError::Constraint { batch, table, message: error.to_string() }
            }
            _ => CommitError::Unavailable { batch, source: error.into() },
        })
    }

    fn reserve(&self, kind: &str, count: i64) -> Result<i64, CommitError> {
        let batch = "ids.reserve";
        let next: i64 = self
            .connection
            .prepare_cached(&RESERVE.replace('$', "?"))
            .and_then(|mut s| s.query_row(rusqlite::params![kind, count], |row| row.get(0)))
            .map_err(|e| CommitError::Unavailable { batch, source: e.into() })?;
        Ok(next - count)
    }
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
