//! SQLite: the suite, and what its file may meet.

use super::child;
use async_trait::async_trait;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rouse_store::testing::{Subject, plans, samples};
use rouse_store::value::Value;
use rouse_store::{Batch, CommitError, Location, OpenError, Store};
use rusqlite::Connection;
use std::time::{Duration, Instant};

rouse_store::conformance!(fresh);

struct Sqlite {
    folder: tempfile::TempDir,
}

impl Sqlite {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("rouse.db")
    }
}

#[async_trait]
impl Subject for Sqlite {
    async fn open(&self) -> Store {
        Store::open(&Location::Sqlite(self.path())).await.unwrap()
    }
}

async fn fresh() -> Option<Sqlite> {
    Some(Sqlite::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_dies_at_a_commit_leaves_all_or_nothing() {
    let subject = Sqlite::new();
    let at = subject.path().display().to_string();
    child::dies_at_a_commit("sqlite::a_master_that_dies_at_a_commit_leaves_all_or_nothing", &at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_has_lost_nothing_it_acknowledged() {
    let subject = Sqlite::new();
    let at = subject.path().display().to_string();
    child::is_killed_while_it_writes("sqlite::a_master_that_is_killed_has_lost_nothing_it_acknowledged", &at)
        .await;
}

#[tokio::test]
async fn the_file_has_a_write_ahead_log() {
    let subject = Sqlite::new();
    let store = subject.open().await;
    let reader = Connection::open(subject.path()).unwrap();
    let mode: String = reader.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    drop(store);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let subject = Sqlite::new();
    drop(subject.open().await);
    let other = Connection::open(subject.path()).unwrap();
    other.execute("UPDATE meta SET value = '999' WHERE key = 'schema'", []).unwrap();
    let error = Store::open(&Location::Sqlite(subject.path())).await.unwrap_err();
    assert!(matches!(error, OpenError::TooNew { found: 999, known } if known >= 1), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("schema 999") && text.contains("newer"), "{text}");
    let tables: i64 = other
        .query_row("SELECT count(*) FROM sqlite_master WHERE type = 'table'", [], |row| row.get(0))
        .unwrap();
    assert!(tables > 10, "nothing was touched");
}

#[tokio::test]
async fn what_cannot_be_a_database_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "no database at all, but long enough to be looked at\n".repeat(40)).unwrap();
    for path in [text, folder.path().join("nowhere/rouse.db"), folder.path().to_owned()] {
        let error = Store::open(&Location::Sqlite(path.clone())).await.unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

/// Somebody else's transaction stands in the way for longer than the store waits: all who wait hear it after one wait, reads go on, and
/// the store goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_else_holds_is_unavailable_until_he_lets_go() {
    let subject = Sqlite::new();
    let store = subject.open().await;
    let other = Connection::open(subject.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let insert = |id: i64| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut batch = Batch::new("suite.held");
            batch.insert(&samples::buildset(id));
            store.commit(batch).await
        })
    };
    let waiting: Vec<_> = (1..=20).map(insert).collect();
    assert_eq!(store.queue_length().await.unwrap(), 0, "reads do not wait");
    for task in waiting {
        let error = task.await.unwrap().unwrap_err();
        assert!(matches!(error, CommitError::Unavailable { batch: "suite.held", .. }), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("locked"), "{cause}");
    }
    // One wait for the first to come, one for those that came meanwhile; not one for each.
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    other.execute_batch("ROLLBACK").unwrap();
    insert(1).await.unwrap().unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let soon = insert(2);
    tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(300));
        other.execute_batch("COMMIT").unwrap();
    })
    .await
    .unwrap();
    soon.await.unwrap().unwrap();
}

/// A full disk, as a limit on the size of files in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_grow_is_unavailable_until_it_can() {
    let test = "sqlite::a_file_that_cannot_grow_is_unavailable_until_it_can";
    let Some(location) = child::is_child() else {
        let subject = Sqlite::new();
        let at = subject.path().display().to_string();
        let child = child::command(test, &at);
        // Without the handler the kernel would end it; sh hands an ignored signal on.
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(child.get_program())
            .args(child.get_args());
        shell.envs(child.get_envs().filter_map(|(k, v)| v.map(|v| (k, v))));
        let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let store = subject.open().await;
        for (id, there) in [(1, true), (2, false), (3, true)] {
            assert_eq!(store.buildset(rouse_model::BuildsetId(id)).await.unwrap().is_some(), there, "{id}");
        }
        return;
    };
    let store = Store::open(&location).await.unwrap();
    let insert = async |id: i64| {
        let mut batch = Batch::new("suite.full");
        batch.insert(&samples::buildset(id));
        store.commit(batch).await
    };
    insert(1).await.unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 0, hard).unwrap();
    for _ in 0..3 {
        let error = insert(2).await.unwrap_err();
        assert!(matches!(error, CommitError::Unavailable { .. }), "{error:?}");
    }
    assert!(store.buildset(rouse_model::BuildsetId(1)).await.unwrap().is_some(), "reads go on");
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
    insert(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_found_by_an_index() {
    let subject = Sqlite::new();
    plans::fill(&subject).await;
    let asked = plans::of_work(&subject).await.unwrap();
    let connection = Connection::open(subject.path()).unwrap();
    let mut faults = Vec::new();
    for (sql, params) in asked {
        // SQLite counts `$n` by first appearance.
        let sql = sql.replace('$', "?");
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let params = params.iter().map(|value| match value {
            Value::I64(n) => rusqlite::types::Value::from(*n),
            Value::Text(text) => text.clone().into(),
            Value::Bytes(_) | Value::Null(_) => rusqlite::types::Value::Null,
        });
        let plan: Vec<String> = statement
            .query_map(rusqlite::params_from_iter(params), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let scans = plan.iter().any(|line| {
            // The newest row is the end of the table's own tree.
            let newest = sql.ends_with("ORDER BY id DESC LIMIT 1")
                || sql.contains("MAX(seq)")
                || sql.contains("MIN(seq)");
            line.starts_with("SCAN") && !line.contains("USING") && !newest
        });
        if scans {
            faults.push(format!("{sql}\n{plan:#?}"));
        }
        if sql.contains("ORDER BY priority") {
            assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{sql}\n{plan:#?}");
            assert!(plan.iter().any(|line| line.contains("requests_queued")), "{sql}\n{plan:#?}");
        }
    }
    assert!(faults.is_empty(), "whole tables are read:\n{}", faults.join("\n"));
}
