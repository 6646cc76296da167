//! PostgreSQL: the suite, and what its connections may meet.

use super::child;
use super::proxy::Proxy;
use async_trait::async_trait;
use rouse_model::build::BuildProperty;
use rouse_model::property::Property;
use rouse_model::{BuildId, BuildsetId};
use rouse_store::testing::{SOON, Subject, follow, plans, samples};
use rouse_store::value::Value;
use rouse_store::{Batch, CommitError, Location, OpenError, Store};
use rouse_testkit::back_ends;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Barrier;

rouse_store::conformance!(fresh);

/// A database of its own on the shared server.
struct Postgres {
    server: String,
    name: String,
}

impl Postgres {
    /// Made for a language, since text must be ordered alike whatever the database was made for.
    async fn new() -> Option<Self> {
        let server = back_ends::postgres_url()?;
        let name = format!("rouse_suite_{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&server).await.unwrap();
        let sql = format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        Some(Self { server, name })
    }

    fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// The same database over a wire that can be cut.
    async fn behind_a_proxy(&self) -> (Proxy, String) {
        let url = self.url();
        let (_, rest) = url.rsplit_once('@').unwrap();
        let (address, _) = rest.split_once('/').unwrap();
        let target = tokio::net::lookup_host(address).await.unwrap().next().unwrap();
        let proxy = Proxy::to(target).await;
        let through = url.replace(address, &proxy.address.to_string());
        (proxy, through)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let server = self.server.clone();
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut connection = PgConnection::connect(&server).await?;
                sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("{} could not be dropped: {error}", self.name);
        }
    }
}

#[async_trait]
impl Subject for Postgres {
    async fn open(&self) -> Store {
        Store::open(&Location::Postgres(self.url())).await.unwrap()
    }
}

async fn fresh() -> Option<Postgres> {
    Postgres::new().await
}

fn buildset(id: i64) -> Batch {
    let mut batch = Batch::new("suite.buildset");
    batch.insert(&samples::buildset(id));
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_dies_at_a_commit_leaves_all_or_nothing() {
    let test = "postgres::a_master_that_dies_at_a_commit_leaves_all_or_nothing";
    if child::is_child().is_some() {
        return child::dies_at_a_commit(test, "").await;
    }
    // The suite appends the moment to the name.
    let Some(base) = Postgres::new().await else { return };
    for moment in ["before", "after"] {
        let mut server = PgConnection::connect(&base.server).await.unwrap();
        let sql = format!("CREATE DATABASE {}{moment}", base.name);
        sqlx::query(AssertSqlSafe(sql)).execute(&mut server).await.unwrap();
    }
    let extra: Vec<_> = ["before", "after"]
        .map(|moment| Postgres { server: base.server.clone(), name: format!("{}{moment}", base.name) })
        .into();
    child::dies_at_a_commit(test, &base.url()).await;
    drop(extra);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_has_lost_nothing_it_acknowledged() {
    let test = "postgres::a_master_that_is_killed_has_lost_nothing_it_acknowledged";
    if child::is_child().is_some() {
        return child::is_killed_while_it_writes(test, "").await;
    }
    let Some(subject) = Postgres::new().await else { return };
    child::is_killed_while_it_writes(test, &subject.url()).await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let Some(subject) = Postgres::new().await else { return };
    drop(subject.open().await);
    let mut other = subject.connect().await;
    sqlx::query("UPDATE meta SET value = '999' WHERE key = 'schema'").execute(&mut other).await.unwrap();
    let error = Store::open(&Location::Postgres(subject.url())).await.unwrap_err();
    assert!(matches!(error, OpenError::TooNew { found: 999, known } if known >= 1), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("schema 999") && text.contains("newer"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_away_is_said_without_the_password() {
    let url = "postgres://somebody:hunter2@127.0.0.1:1/rouse";
    let error = Store::open(&Location::Postgres(url.into())).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1/rouse") && !text.contains("hunter2"), "{text}");
}

const LATE: &str = "INSERT INTO events (kind, version, subject, project, at, payload) \
                    VALUES ('build_phase', 1, 'build/late', '', 1, '\"late\"')";

/// A transaction has written its event first and commits last: whoever follows the log meanwhile must not pass it by.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_is_not_skipped() {
    let Some(subject) = Postgres::new().await else { return };
    let store = subject.open().await;
    let mut slow = subject.connect().await;
    let mut late = slow.begin().await.unwrap();
    sqlx::query(LATE).execute(&mut *late).await.unwrap();
    for id in 1..=30 {
        let mut batch = buildset(id);
        batch.event(event(id));
        store.commit(batch).await.unwrap();
    }
    let before = follow(&store, 0, 30).await;
    assert!(before.iter().all(|e| e.body.subject != "build/late"));
    late.commit().await.unwrap();
    let mut batch = buildset(31);
    batch.event(event(31));
    store.commit(batch).await.unwrap();
    let after = follow(&store, before[29].seq, 2).await;
    let mut subjects: Vec<_> = after.iter().map(|e| e.body.subject.as_str()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["build/late", "buildset/31"]);
    let all = follow(&store, 0, 32).await;
    assert!(all.windows(2).all(|w| w[0].seq + 1 == w[1].seq), "no gap that somebody could wait for");
}

fn event(id: i64) -> rouse_model::event::NewEvent {
    rouse_model::event::NewEvent {
        kind: rouse_model::event::EventKind::BuildsetMade,
        version: 1,
        subject: format!("buildset/{id}"),
        project: String::new(),
        at: rouse_model::Timestamp(1),
        payload: serde_json::json!(id),
    }
}

/// Its master died between the commit and the number; nobody else commits anything.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_dead_master_get_their_numbers() {
    let Some(subject) = Postgres::new().await else { return };
    let store = subject.open().await;
    let mut committed = store.committed();
    let mut dead = subject.connect().await;
    sqlx::query(LATE).execute(&mut dead).await.unwrap();
    dead.close().await.unwrap();
    tokio::time::timeout(SOON, committed.changed()).await.unwrap().unwrap();
    assert_eq!(follow(&store, 0, 1).await[0].body.subject, "build/late");
    // And more than one pass takes.
    let many = "INSERT INTO events (kind, version, subject, project, at, payload) \
                SELECT 'build_phase', 1, 'build/' || n, '', 1, '0' FROM generate_series(1, 12000) n";
    sqlx::query(many).execute(&mut subject.connect().await).await.unwrap();
    let start = Instant::now();
    while store.newest_event().await.unwrap() < 12_001 {
        assert!(start.elapsed() < SOON, "numbered up to {}", store.newest_event().await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let page = store.events_after(0, 10_000).await.unwrap();
    assert_eq!(page.len(), 10_000);
    assert!(page.windows(2).all(|w| w[0].seq + 1 == w[1].seq));
}

/// Each batch touches two rows, half of them in the other order: PostgreSQL sends one back, and nobody hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocks_between_masters_pass() {
    let Some(subject) = Postgres::new().await else { return };
    let stores = [subject.open().await, subject.open().await];
    let start = Arc::new(Barrier::new(8));
    let tasks: Vec<_> = (0..8)
        .map(|n: usize| {
            let (store, start) = (stores[n % 2].clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                for round in 0..8 {
                    let mut batch = Batch::new("suite.crossed");
                    let mut names = ["a", "b", "c", "d"];
                    if n.is_multiple_of(2) {
                        names.reverse();
                    }
                    for name in names {
                        let value = serde_json::json!(round);
                        let property = Property { value, source: n.to_string(), tainted: false };
                        batch.upsert(&BuildProperty { build: BuildId(1), name: name.into(), property });
                    }
                    store.commit(batch).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let properties = stores[0].build_properties(BuildId(1)).await.unwrap();
    assert_eq!(properties.0.len(), 4);
    let mut sources: Vec<_> = properties.0.values().map(|p| p.source.clone()).collect();
    sources.dedup();
    assert_eq!(sources.len(), 1, "one batch wrote all four last: {sources:?}");
}

/// The server is away, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_unavailable_until_it_is_back() {
    let Some(subject) = Postgres::new().await else { return };
    let (mut proxy, url) = subject.behind_a_proxy().await;
    let store = Store::open(&Location::Postgres(url)).await.unwrap();
    store.commit(buildset(1)).await.unwrap();
    proxy.close().await;
    let begun = Instant::now();
    let waiting: Vec<_> = (2..10)
        .map(|id| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(buildset(id)).await })
        })
        .collect();
    for task in waiting {
        let error = task.await.unwrap().unwrap_err();
        assert!(matches!(error, CommitError::Unavailable { batch: "suite.buildset", .. }), "{error:?}");
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    proxy.reopen().await;
    let mut batch = buildset(2);
    batch.event(event(2));
    store.commit(batch).await.unwrap();
    assert_eq!(follow(&store, 0, 1).await[0].body.payload, 2);
    assert_eq!(store.buildset(BuildsetId(3)).await.unwrap(), None);
    // A connection that breaks between two commits costs nothing where the server lets it in again.
    proxy.close().await;
    proxy.reopen().await;
    store.commit(buildset(3)).await.unwrap();
}

/// The wire breaks while the server commits: it was true, so it is said to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    let Some(subject) = Postgres::new().await else { return };
    let (proxy, url) = subject.behind_a_proxy().await;
    let store = Store::open(&Location::Postgres(url)).await.unwrap();
    let master = store.enter("one", "machine", rouse_model::Timestamp(1)).await.unwrap();
    for id in 1..=3 {
        proxy.swallow_next_answer();
        let mut batch = buildset(id);
        // Done twice it would be two.
        batch.event(event(id));
        store.commit(batch).await.unwrap();
        assert!(proxy.has_swallowed());
    }
    // The numbering may have been what was cut; it goes on by itself.
    let seen: Vec<_> = follow(&store, 0, 4).await.into_iter().map(|e| e.body.subject).collect();
    assert_eq!(
        seen,
        [format!("master/{}", master.id), "buildset/1".into(), "buildset/2".into(), "buildset/3".into()]
    );
    let error = store.commit(buildset(2)).await.unwrap_err();
    assert!(error.is_duplicate(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_found_by_an_index() {
    let Some(subject) = Postgres::new().await else { return };
    plans::fill(&subject).await;
    let asked = plans::of_work(&subject).await.unwrap();
    let mut connection = subject.connect().await;
    // A table of a page or two is read whole for good reason; only where nothing else would do is it a fault.
    for setting in ["ANALYZE", "SET enable_seqscan = off", "SET enable_bitmapscan = off"] {
        sqlx::query(setting).execute(&mut connection).await.unwrap();
    }
    for (sql, params) in asked {
        let query =
            params.into_iter().fold(sqlx::query(AssertSqlSafe(format!("EXPLAIN {sql}"))), |query, value| {
                match value {
                    Value::I64(n) => query.bind(n),
                    Value::Text(text) => query.bind(text),
                    Value::Bytes(bytes) => query.bind(bytes),
                    Value::Null(_) => query.bind(None::<i64>),
                }
            });
        let rows = query.fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{sql}\n{plan:#?}");
        if sql.contains("ORDER BY priority") {
            assert!(plan.iter().all(|line| !line.contains("Sort")), "{sql}\n{plan:#?}");
            assert!(plan.iter().any(|line| line.contains("requests_queued")), "{sql}\n{plan:#?}");
        }
    }
}
