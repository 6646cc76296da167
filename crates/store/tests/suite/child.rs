//! Masters as processes that die: this test binary again, told by its environment what to be.

use rouse_model::buildset::{Buildset, Request};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::{BuildsetId, RequestId, Timestamp};
use rouse_store::testing::{SOON, follow, samples};
use rouse_store::{Batch, CommitError, Location, Store};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Holds the location of the database in a child.
const AT: &str = "ROUSE_STORE_CHILD";
/// What the child says of each batch that was acknowledged.
const ACK: &str = "acknowledged ";

/// The location, where this process is the child of the test of this name.
pub fn is_child() -> Option<Location> {
    std::env::var(AT).ok().map(|at| Location::parse(&at))
}

/// The same test in a process of its own.
pub fn command(test: &str, at: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test knows its binary"));
    command.args(["--exact", test, "--nocapture"]).env(AT, at).stdin(Stdio::null());
    if let Location::Sqlite(file) = Location::parse(at)
        && let Some(folder) = file.parent()
    {
        // What it makes before it dies goes with its parent's.
        command.env("TMPDIR", folder);
    }
    command
}

/// One buildset with its request and an event: whole, or not at all.
fn wish(id: i64) -> Batch {
    let mut batch = Batch::new("suite.wish");
    batch.insert(&Buildset { origin: format!("wish/{id}"), ..samples::buildset(id) });
    batch.insert(&samples::request(id));
    batch.event(NewEvent {
        kind: EventKind::BuildsetMade,
        version: 1,
        subject: format!("buildset/{id}"),
        project: "default".into(),
        at: Timestamp(1),
        payload: serde_json::json!(id),
    });
    batch
}

async fn is_there(store: &Store, id: i64) -> (bool, bool) {
    let buildset = store.buildset(BuildsetId(id)).await.unwrap();
    let request: Option<Request> = store.request(RequestId(id)).await.unwrap();
    (buildset.is_some(), request.is_some())
}

/// Dies before, and after, the commit of its third wish; whoever comes then tries all of them again.
pub async fn dies_at_a_commit(test: &str, at: &str) {
    if let Some(location) = is_child() {
        let store = Store::open(&location).await.unwrap();
        for id in 1..=4 {
            store.commit(wish(id)).await.unwrap();
        }
        unreachable!("it dies at the third");
    }
    for moment in ["before", "after"] {
        let at = format!("{at}{moment}");
        let mut child =
            command(test, &at).env("ROUSE_FAILPOINT", format!("suite.wish:{moment}:3")).spawn().unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
        assert!(status.signal().is_some(), "it ended by itself: {status}");
        let store = Store::open(&Location::parse(&at)).await.unwrap();
        let third = moment == "after";
        for (id, there) in [(1, true), (2, true), (3, third), (4, false)] {
            assert_eq!(is_there(&store, id).await, (there, there), "{id}, {moment}");
        }
        for id in 1..=4 {
            let (was_there, _) = is_there(&store, id).await;
            match store.commit(wish(id)).await {
                Ok(()) => assert!(!was_there, "{id}, {moment}"),
                Err(error) => assert!(was_there && error.is_duplicate(), "{id}, {moment}: {error:?}"),
            }
            assert_eq!(is_there(&store, id).await, (true, true));
            let found = store.buildset_by_origin(&format!("wish/{id}")).await.unwrap();
            assert_eq!(found.map(|b| b.id), Some(BuildsetId(id)));
        }
        let seen: Vec<_> = follow(&store, 0, 4).await.into_iter().map(|e| e.body.payload).collect();
        assert_eq!(seen, [1, 2, 3, 4], "{moment}");
    }
}

/// Killed in the middle of everything: what it has said to be true is, and nothing is half true.
pub async fn is_killed_while_it_writes(test: &str, at: &str) {
    if let Some(location) = is_child() {
        return write_without_end(Store::open(&location).await.unwrap()).await;
    }
    let mut acknowledged = BTreeSet::new();
    for enough in [1, 40, 150] {
        let mut child = command(test, at).stdout(Stdio::piped()).spawn().unwrap();
        let more = tokio::task::spawn_blocking(move || kill_after(&mut child, enough)).await.unwrap();
        assert!(more.len() >= enough, "{} acknowledged", more.len());
        for id in more {
            assert!(acknowledged.insert(id), "{id} was given before");
        }
        let store = Store::open(&Location::parse(at)).await.unwrap();
        let mut there = BTreeSet::new();
        for id in 1..=*acknowledged.last().unwrap() + 2000 {
            let (buildset, request) = is_there(&store, id).await;
            assert_eq!(buildset, request, "{id} is half there");
            assert!(buildset || !acknowledged.contains(&id), "{id} was acknowledged and is lost");
            if buildset {
                there.insert(id);
            } else if id > acknowledged.last().unwrap() + 64 {
                break;
            }
        }
        let seen = follow(&store, 0, there.len()).await;
        let seen: BTreeSet<i64> = seen.iter().map(|e| e.body.payload.as_i64().unwrap()).collect();
        assert_eq!(seen, there, "one event for each");
    }
}

async fn write_without_end(store: Store) {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    let id: BuildsetId = store.next_id().await.unwrap();
                    match store.commit(wish(id.0)).await {
                        Ok(()) => println!("\n{ACK}{id}"),
                        Err(CommitError::Unavailable { .. }) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn kill_after(child: &mut Child, enough: usize) -> Vec<i64> {
    let (start, mut ids) = (Instant::now(), Vec::new());
    let output = BufReader::new(child.stdout.take().unwrap());
    for line in output.lines() {
        let line = line.unwrap();
        ids.extend(line.strip_prefix(ACK).and_then(|id| id.parse::<i64>().ok()));
        if ids.len() == enough {
            child.kill().unwrap();
        }
        assert!(start.elapsed() < SOON, "{} of {enough} acknowledged", ids.len());
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
    ids
}
