//! PostgreSQL. One task owns a writing connection and runs folded transactions; reads go through a pool.

use crate::batch::{Batch, event_values};
use crate::dialect::{INSERT_EVENT, POSTGRES, RESERVE, STAMP};
use crate::value::{Type, Value};
use crate::{Backend, CommitError, DatabaseError, Identity, OpenError, Row, migrate};
use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgPool, PgPoolOptions, PgRow, Postgres as Db};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column as _, PgConnection, Row as _, TypeInfo as _, ValueRef as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const FOLD: usize = 256;
/// Taken while migrating, so that two masters that start at once do not both do it.
const MIGRATION_LOCK: i64 = 0x0072_6f75_7365;

type Waiting = (Batch, oneshot::Sender<Result<(), CommitError>>);

#[derive(Debug)]
pub(crate) struct Postgres {
    jobs: mpsc::Sender<Waiting>,
    pool: PgPool,
    identity: Arc<Mutex<Option<Identity>>>,
}

impl Postgres {
    pub(crate) async fn open(url: &str) -> Result<Self, OpenError> {
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(30))
            .connect(url)
            .await
            .map_err(|e| OpenError::Open { location: without_password(url), source: e.into() })?;
        bring_up_to_date(&pool).await?;
        let (jobs, queue) = mpsc::channel(1024);
        let identity = Arc::new(Mutex::new(None));
        // Ends by itself when the last handle on the store is dropped.
        tokio::spawn(Writer { pool: pool.clone(), fence: Arc::clone(&identity) }.run(queue));
        Ok(Self { jobs, pool, identity })
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
    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let name = batch.name;
        let gone = || CommitError::Unavailable {
            batch: name,
            source: DatabaseError::Other("the store's writer has ended".into()),
        };
        let (reply, answer) = oneshot::channel();
        self.jobs.send((batch, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let query = params.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter().map(cells).collect()
    }

    async fn reserve(&self, kind: &'static str, count: i64) -> Result<i64, CommitError> {
        let next: i64 = sqlx::query_scalar(RESERVE)
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

    async fn stamp(&self) -> Result<(), DatabaseError> {
        let mut tx = self.pool.begin().await?;
        for statement in STAMP {
            sqlx::query(*statement).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
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

struct Writer {
    pool: PgPool,
    fence: Arc<Mutex<Option<Identity>>>,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Waiting>) {
        let mut fold = Vec::new();
        while queue.recv_many(&mut fold, FOLD).await > 0 {
            self.write(std::mem::take(&mut fold)).await;
        }
    }

    async fn write(&self, fold: Vec<Waiting>) {
        if fold.len() > 1 {
            let batches: Vec<&Batch> = fold.iter().map(|(b, _)| b).collect();
            if self.transaction(&batches).await.is_ok() {
                for (_, reply) in fold {
                    let _ = reply.send(Ok(()));
                }
                return;
            }
        }
        for (batch, reply) in fold {
            let outcome = self.alone(&batch).await;
            let _ = reply.send(outcome);
        }
    }

    /// Two masters may lock rows in another order; the one that PostgreSQL sends back tries again.
    async fn alone(&self, batch: &Batch) -> Result<(), CommitError> {
        for _ in 0..5 {
            match self.transaction(&[batch]).await {
                Err(CommitError::Unavailable { source: DatabaseError::Sqlx(error), .. })
                    if is_passing(&error) => {}
                done => return done,
            }
        }
        self.transaction(&[batch]).await
    }

    async fn transaction(&self, batches: &[&Batch]) -> Result<(), CommitError> {
        let name = batches.first().map_or("", |b| b.name);
        let unavailable = |e: sqlx::Error| CommitError::Unavailable { batch: name, source: e.into() };
        let mut tx = self.pool.begin().await.map_err(unavailable)?;
        self.check_fence(&mut tx, name).await?;
        for batch in batches {
            apply(&mut tx, batch).await?;
        }
        tx.commit().await.map_err(unavailable)
    }

    async fn check_fence(&self, tx: &mut PgConnection, batch: &'static str) -> Result<(), CommitError> {
        let identity = *self.fence.lock().expect("nothing panics while it is held");
        let Some(identity) = identity else { return Ok(()) };
        // The row stays locked until commit: a master that fences us waits for us, or we for it.
        let term: Option<i64> = sqlx::query_scalar("SELECT term FROM masters WHERE id = $1 FOR SHARE")
            .bind(identity.master.0)
            .fetch_optional(tx)
            .await
            .map_err(|e| CommitError::Unavailable { batch, source: e.into() })?;
        if term == Some(identity.term) { Ok(()) } else { Err(CommitError::Fenced { batch }) }
    }
}

fn is_passing(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| matches!(&*code, "40001" | "40P01"))
}

async fn apply(tx: &mut PgConnection, batch: &Batch) -> Result<(), CommitError> {
    let name = batch.name;
    for op in &batch.ops {
        let statement = op.statement();
        let touched = execute(tx, name, statement.table, statement.sql, &statement.params).await?;
        if statement.one_row && touched != 1 {
            return Err(CommitError::Conflict { batch: name, table: statement.table });
        }
    }
    for event in &batch.events {
        execute(tx, name, "events", INSERT_EVENT, &event_values(event)).await?;
    }
    Ok(())
}

async fn execute(
    tx: &mut PgConnection,
    batch: &'static str,
    table: &'static str,
    sql: &str,
    params: &[Value],
) -> Result<u64, CommitError> {
    let query = params.iter().cloned().fold(sqlx::query(AssertSqlSafe(sql)), bind);
    match query.execute(tx).await {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => Err(match error.as_database_error() {
            Some(db)
                if db.is_unique_violation()
                    || db.is_check_violation()
                    || db.code().is_some_and(|c| c.starts_with("23")) =>
            {
                CommitError::Constraint { batch, table, message: db.message().to_owned() }
            }
            _ => CommitError::Unavailable { batch, source: error.into() },
        }),
    }
}
