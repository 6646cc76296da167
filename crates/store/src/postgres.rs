//! PostgreSQL. One task owns the writing connection and runs folded transactions, another numbers the events that they left; reads go
//! through a pool.

mod joined;
mod sequencer;
mod writer;

use crate::batch::Batch;
use crate::dialect::{POSTGRES, RESERVE};
use crate::value::{Type, Value};
use crate::{
    Answer, Backend, CommitError, Committed, DatabaseError, Identity, OpenError, Row, migrate,
    writer_has_ended,
};
use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow, Postgres as Db};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column as _, Row as _, TypeInfo as _, ValueRef as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

pub(crate) use writer::is_of_database;

/// How long a read waits for a connection, be it that all are taken or that the server is away.
const ACQUIRE: Duration = Duration::from_secs(10);
/// A master that is frozen within a transaction holds what others wait for, its own row among it: the server ends the session before a lease is over.
const FROZEN: &str = "8s";
/// How long a read may take, once it has a connection, before that is taken for dead.
const READ: Duration = Duration::from_secs(60);
/// Taken while migrating, so that two masters that start at once do not both do it.
const MIGRATION_LOCK: i64 = 0x0072_6f75_7365;

#[derive(Debug)]
pub(crate) struct Postgres {
    jobs: mpsc::Sender<writer::Waiting>,
    /// Wakes the sequencer.
    unnumbered: mpsc::Sender<()>,
    pool: PgPool,
    identity: Arc<Mutex<Option<Identity>>>,
}

impl Postgres {
    pub(crate) async fn open(url: &str, committed: Committed) -> Result<Self, OpenError> {
        let failed = |e: sqlx::Error| OpenError::Open { location: without_password(url), source: e.into() };
        let options: PgConnectOptions = url.parse().map_err(failed)?;
        let options = options.options([("idle_in_transaction_session_timeout", FROZEN)]);
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(ACQUIRE)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        bring_up_to_date(&pool).await?;
        let (jobs, queue) = mpsc::channel(1024);
        let identity = Arc::new(Mutex::new(None));
        // Both end by themselves when the last handle on the store is dropped.
        tokio::spawn(writer::Writer::new(options, Arc::clone(&identity)).run(queue));
        let (unnumbered, woken) = mpsc::channel(1);
        tokio::spawn(sequencer::run(pool.clone(), woken, committed));
        Ok(Self { jobs, unnumbered, pool, identity })
    }
}

fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://…{}", &url[..scheme], &url[at..]),
        _ => url.to_owned(),
    }
}

async fn bring_up_to_date(pool: &PgPool) -> Result<(), OpenError> {
    let failed =
        |number: i64| move |source: sqlx::Error| OpenError::Migrate { number, source: source.into() };
    let mut tx = pool.begin().await.map_err(failed(0))?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut *tx)
        .await
        .map_err(failed(0))?;
    let known = i64::try_from(migrate::MIGRATIONS.len()).unwrap_or(i64::MAX);
    let has_meta: bool = sqlx::query_scalar("SELECT to_regclass('meta') IS NOT NULL")
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(0))?;
    let found: i64 = if has_meta {
        sqlx::query_scalar("SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'schema'")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed(0))?
    } else {
        0
    };
    if found > known {
        return Err(OpenError::TooNew { found, known });
    }
    for number in found + 1..=known {
        for statement in migrate::statements(usize::try_from(number).unwrap_or(0), &POSTGRES) {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await.map_err(failed(number))?;
        }
    }
    tx.commit().await.map_err(failed(known))
}

#[async_trait]
impl Backend for Postgres {
    async fn submit(&self, batch: Batch) -> Result<Answer, CommitError> {
        let name = batch.name;
        let (reply, answer) = oneshot::channel();
        self.jobs.send((batch, reply)).await.map_err(|_| writer_has_ended(name))?;
        Ok(answer)
    }

    fn announce(&self) {
        // Full means that it is about to look anyway.
        let _ = self.unnumbered.try_send(());
    }

    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let query = params.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
        let mut connection = self.pool.acquire().await?;
        let Ok(rows) = tokio::time::timeout(READ, query.fetch_all(&mut *connection)).await else {
            // Whoever came next would wait for the same answer.
            drop(connection.detach());
            return Err(writer::silent("answered a read").into());
        };
        rows?.iter().map(cells).collect()
    }

    async fn reserve(&self, kind: &'static str, count: i64) -> Result<i64, CommitError> {
        let next: i64 = sqlx::query_scalar(RESERVE.dollar.as_str())
            .bind(kind)
            .bind(count)
            .fetch_one(&self.pool)
            .await
            .map_err(|e| CommitError::Unavailable { batch: "ids.reserve", source: e.into() })?;
        Ok(next - count)
    }

    fn fence(&self, identity: Identity) {
        *self.identity.lock().expect("nothing panics while it is held") = Some(identity);
    }
}

fn bind(query: Query<'_, Db, PgArguments>, value: Value) -> Query<'_, Db, PgArguments> {
    match value {
        Value::Null(Type::I64) => query.bind(None::<i64>),
        Value::Null(Type::Text) => query.bind(None::<String>),
        Value::Null(Type::Bytes) => query.bind(None::<Vec<u8>>),
        Value::I64(v) => query.bind(v),
        Value::Text(v) => query.bind(v),
        Value::Bytes(v) => query.bind(v),
    }
}

fn cells(row: &PgRow) -> Result<Row, DatabaseError> {
    (0..row.columns().len())
        .map(|n| {
            let raw = row.try_get_raw(n)?;
            let type_name = raw.type_info().name().to_owned();
            let null = raw.is_null();
            Ok(match type_name.as_str() {
                "INT8" if null => Value::Null(Type::I64),
                "BYTEA" if null => Value::Null(Type::Bytes),
                _ if null => Value::Null(Type::Text),
                "INT8" => Value::I64(row.try_get(n)?),
                "INT4" => Value::I64(row.try_get::<i32, _>(n)?.into()),
                "BOOL" => Value::I64(row.try_get::<bool, _>(n)?.into()),
                "TEXT" | "VARCHAR" => Value::Text(row.try_get(n)?),
                "BYTEA" => Value::Bytes(row.try_get(n)?),
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
