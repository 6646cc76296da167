//! The task that writes: it folds what waits into one transaction on a connection of its own, and answers once that is durable.

use super::bind;
use super::joined::{self, Shapes};
use crate::batch::{Batch, Op, Statement, event_values};
use crate::dialect::{BEGIN, BEGIN_ALONE, INSERT_EVENTS};
use crate::value::Value;
use crate::{CommitError, DatabaseError, Identity};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many waiting batches one transaction takes.
const FOLD: usize = 256;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a transaction may take, its waits for other masters' locks included, before its connection is taken for dead.
const TRANSACTION: Duration = Duration::from_secs(60);
/// How often a transaction is tried that another's locks stood against; from the second time on no other master writes meanwhile.
const TRIES: usize = 4;
/// How often, and how long apart, the server is asked what became of a commit that it never answered.
const ASK: (usize, Duration) = (60, Duration::from_millis(500));
/// How many statements the server keeps prepared; batches are of fewer shapes.
const STATEMENTS: usize = 400;

pub(super) type Waiting = (Batch, oneshot::Sender<Result<(), CommitError>>);

/// Why a transaction did not become true.
enum Failure {
    /// The batch at this place cannot be done.
    Batch(usize, CommitError),
    /// Two masters locked rows in another order, and this one was sent back.
    Passing(sqlx::Error),
    /// No batch could be: the server is away.
    Database(sqlx::Error),
}

pub(super) struct Writer {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    fence: Arc<Mutex<Option<Identity>>>,
    /// The transaction whose commit was sent and not answered yet.
    in_doubt: Option<String>,
    /// `None` while each operation is a statement of its own.
    shapes: Option<Shapes>,
}

impl Writer {
    pub(super) fn new(options: PgConnectOptions, fence: Arc<Mutex<Option<Identity>>>) -> Self {
        let options = options.statement_cache_capacity(STATEMENTS);
        Self { options, connection: None, fence, in_doubt: None, shapes: Some(Shapes::default()) }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let mut fold = Vec::new();
        while queue.recv_many(&mut fold, FOLD).await > 0 {
            self.write(std::mem::take(&mut fold)).await;
        }
    }

    /// All in one transaction where all hold. One that does not is run by itself, between those before and those after it, so that it costs
    /// the others nothing but time.
    async fn write(&mut self, fold: Vec<Waiting>) {
        let mut parts = vec![fold];
        while let Some(mut part) = parts.pop() {
            match self.patiently(&part).await {
                Ok(()) => part.into_iter().for_each(|(_, reply)| drop(reply.send(Ok(())))),
                Err(Failure::Database(error) | Failure::Passing(error)) => {
                    let error: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
                    parts.push(part);
                    for (batch, reply) in parts.drain(..).rev().flatten() {
                        let source = DatabaseError::Away(Arc::clone(&error));
                        let _ = reply.send(Err(CommitError::Unavailable { batch: batch.name, source }));
                    }
                }
                Err(Failure::Batch(_, error)) if part.len() == 1 => {
                    let error = self.exactly(&part, error).await;
                    if let Some((_, reply)) = part.pop() {
                        let _ = reply.send(error);
                    }
                }
                Err(Failure::Batch(at, _)) => {
                    let after = part.split_off(at + 1);
                    let broken = part.split_off(at);
                    parts.extend([after, broken, part].into_iter().filter(|p| !p.is_empty()));
                }
            }
        }
    }

    /// Which rule a batch has broken first, where its operations were done together: it is tried once more, one operation after the other.
    async fn exactly(&mut self, part: &[Waiting], error: CommitError) -> Result<(), CommitError> {
        if !error.is_duplicate() {
            return Err(error);
        }
        let shapes = self.shapes.take();
        let done = self.patiently(part).await;
        self.shapes = shapes;
        match done {
            Ok(()) => Ok(()),
            Err(Failure::Batch(_, error)) => Err(error),
            Err(Failure::Database(source) | Failure::Passing(source)) => {
                let batch = part.first().map_or("", |(batch, _)| batch.name);
                Err(CommitError::Unavailable { batch, source: source.into() })
            }
        }
    }

    /// Again where that may help: on a new connection where the old one had died unseen, and after a deadlock.
    async fn patiently(&mut self, part: &[Waiting]) -> Result<(), Failure> {
        let mut tried = 1;
        loop {
            let fresh = self.connection.is_none();
            let begin = if tried == 1 { BEGIN } else { BEGIN_ALONE };
            let done = self.bounded(begin, part).await;
            match done {
                Err(Failure::Passing(_)) if tried < TRIES => tried += 1,
                Err(Failure::Database(error)) => {
                    // Whatever it still held is let go with it.
                    self.connection = None;
                    match self.in_doubt.take() {
                        Some(transaction) => return self.settle(&transaction, error).await,
                        None if fresh => return Err(Failure::Database(error)),
                        None => {}
                    }
                }
                done => return done,
            }
        }
    }

    async fn bounded(&mut self, begin: &'static str, part: &[Waiting]) -> Result<(), Failure> {
        match tokio::time::timeout(TRANSACTION, self.transaction(begin, part)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Database(silent("answered a transaction"))),
        }
    }

    async fn transaction(&mut self, begin: &'static str, part: &[Waiting]) -> Result<(), Failure> {
        let identity = *self.fence.lock().expect("nothing panics while it is held");
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.options).await.map_err(Failure::Database)?),
        };
        let mut tx = connection.begin_with(begin).await.map_err(|e| Failure::of(0, "begin", e))?;
        match run_all(&mut tx, identity, part, &mut self.shapes).await {
            Ok(transaction) => {
                self.in_doubt = Some(transaction);
                let done = tx.commit().await;
                match done {
                    Err(error) if is_of_database(&error) => Err(Failure::Database(error)),
                    done => {
                        self.in_doubt = None;
                        done.map_err(|e| Failure::of(0, "commit", e))
                    }
                }
            }
            Err(failure) => {
                // At once and not with the next transaction: locks are held until then.
                if let Err(error) = tx.rollback().await {
                    return Err(Failure::Database(error));
                }
                Err(failure)
            }
        }
    }

    /// The connection broke under COMMIT, and only the server knows whether it was heard.
    async fn settle(&mut self, transaction: &str, error: sqlx::Error) -> Result<(), Failure> {
        for _ in 0..ASK.0 {
            match self.state_of(transaction).await.as_deref() {
                Ok("committed") => return Ok(()),
                Ok("aborted") => return Err(Failure::Database(error)),
                Ok(_) => {}
                Err(_) => self.connection = None,
            }
            tokio::time::sleep(ASK.1).await;
        }
        tracing::error!(%error, transaction, "the database never said what became of a commit");
        Err(Failure::Database(error))
    }

    async fn state_of(&mut self, transaction: &str) -> Result<String, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.options).await?),
        };
        let state: Option<String> = sqlx::query_scalar("SELECT pg_xact_status(CAST($1 AS xid8))")
            .bind(transaction)
            .fetch_one(connection)
            .await?;
        Ok(state.unwrap_or_default())
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    tokio::time::timeout(CONNECT, PgConnection::connect_with(options))
        .await
        .unwrap_or_else(|_| Err(silent("let anybody in")))
}

pub(super) fn silent(what: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("the server has not {what} in time"),
    ))
}

/// Everything but the commit; answers the transaction's number, by which the server knows it.
async fn run_all(
    tx: &mut PgConnection,
    identity: Option<Identity>,
    part: &[Waiting],
    shapes: &mut Option<Shapes>,
) -> Result<String, Failure> {
    let name = part.first().map_or("", |(batch, _)| batch.name);
    let transaction = check_fence(tx, identity, name).await?;
    for (at, (batch, _)) in part.iter().enumerate() {
        let groups = match shapes {
            Some(_) => joined::groups(&batch.ops),
            None => batch.ops.chunks(1).collect(),
        };
        for group in groups {
            let statements: Vec<Statement<'_>> = group.iter().map(Op::statement).collect();
            let touched = match (&statements[..], &mut *shapes) {
                (several @ [_, _, ..], Some(shapes)) => {
                    execute_joined(tx, (at, batch.name), several, shapes).await?
                }
                (one, _) => execute_each(tx, (at, batch.name), one).await?,
            };
            let lost = |(statement, touched): &(&Statement<'_>, u64)| statement.one_row && *touched != 1;
            if let Some((statement, _)) = statements.iter().zip(touched).find(lost) {
                let lost = CommitError::Conflict { batch: batch.name, table: statement.table };
                return Err(Failure::Batch(at, lost));
            }
        }
    }
    insert_events(tx, part, name).await?;
    Ok(transaction)
}

/// All at once: a round trip less for each. They break no rule of the schema, so nothing needs to be known of whose they are.
async fn insert_events(tx: &mut PgConnection, part: &[Waiting], name: &'static str) -> Result<(), Failure> {
    let mut texts: [Vec<String>; 4] = Default::default();
    let mut numbers: [Vec<i64>; 2] = Default::default();
    for event in part.iter().flat_map(|(batch, _)| &batch.events) {
        let (mut text, mut number) = (0, 0);
        for value in event_values(event) {
            match value {
                Value::Text(value) => {
                    texts[text].push(value);
                    text += 1;
                }
                Value::I64(value) => {
                    numbers[number].push(value);
                    number += 1;
                }
                Value::Null(_) | Value::Bytes(_) => unreachable!("an event's cells are texts and numbers"),
            }
        }
    }
    if texts[0].is_empty() {
        return Ok(());
    }
    let ([kind, subject, project, payload], [version, at]) = (texts, numbers);
    let insert = sqlx::query(INSERT_EVENTS).bind(kind).bind(version).bind(subject);
    let insert = insert.bind(project).bind(at).bind(payload);
    insert.execute(tx).await.map(|_| ()).map_err(|e| Failure::of(0, name, e))
}

/// The row stays locked until commit: a master that fences us waits for us, or we for it.
async fn check_fence(
    tx: &mut PgConnection,
    identity: Option<Identity>,
    batch: &'static str,
) -> Result<String, Failure> {
    let Some(identity) = identity else {
        return sqlx::query_scalar("SELECT CAST(pg_current_xact_id() AS TEXT)")
            .fetch_one(tx)
            .await
            .map_err(|e| Failure::of(0, batch, e));
    };
    let row: Option<(i64, String)> = sqlx::query_as(
        "SELECT term, CAST(pg_current_xact_id() AS TEXT) FROM masters WHERE id = $1 FOR SHARE",
    )
    .bind(identity.master.0)
    .fetch_optional(tx)
    .await
    .map_err(|e| Failure::of(0, batch, e))?;
    match row {
        Some((term, transaction)) if term == identity.term => Ok(transaction),
        _ => Err(Failure::Batch(0, CommitError::Fenced { batch })),
    }
}

/// How many rows each has touched.
async fn execute_each(
    tx: &mut PgConnection,
    (at, batch): (usize, &'static str),
    statements: &[Statement<'_>],
) -> Result<Vec<u64>, Failure> {
    let mut touched = Vec::with_capacity(statements.len());
    for statement in statements {
        let query = statement.params.iter().cloned().fold(sqlx::query(statement.sql.dollar.as_str()), bind);
        let done = query.execute(&mut *tx).await;
        touched.push(done.map_err(|e| refused(e, (at, batch), statement.table))?.rows_affected());
    }
    Ok(touched)
}

/// The same on one way to the server and back.
async fn execute_joined(
    tx: &mut PgConnection,
    (at, batch): (usize, &'static str),
    statements: &[Statement<'_>],
    shapes: &mut Shapes,
) -> Result<Vec<u64>, Failure> {
    let sql = shapes.join(statements);
    let params = statements.iter().flat_map(|statement| statement.params.iter().cloned());
    let query = params.fold(sqlx::query(AssertSqlSafe(&*sql)), bind);
    let row = query.fetch_one(tx).await.map_err(|e| refused(e, (at, batch), statements[0].table))?;
    let count = |n| row.try_get::<i64, _>(n).map(i64::unsigned_abs);
    let counts = (0..statements.len()).map(count).collect::<Result<_, _>>();
    counts.map_err(|e| Failure::of(at, batch, e))
}

fn refused(error: sqlx::Error, (at, batch): (usize, &'static str), table: &'static str) -> Failure {
    match error.as_database_error() {
        Some(db) if db.code().is_some_and(|c| c.starts_with("23")) => {
            let message = db.message().to_owned();
            Failure::Batch(at, CommitError::Constraint { batch, table, message })
        }
        _ => Failure::of(at, batch, error),
    }
}

impl Failure {
    fn of(at: usize, batch: &'static str, error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned());
        match code.as_deref() {
            Some("40001" | "40P01") => Self::Passing(error),
            _ if is_of_database(&error) => Self::Database(error),
            _ => Self::Batch(at, CommitError::Unavailable { batch, source: error.into() }),
        }
    }
}

/// What any other batch would meet as well: no connection, no rights, no room, a server that stops or stands by.
pub(crate) fn is_of_database(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(db) => db.code().is_none_or(|code| {
            ["08", "25", "28", "42501", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class))
        }),
        None => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        ),
    }
}
