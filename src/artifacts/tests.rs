//! The service on a real SQLite file and a real directory.

use super::*;
use crate::ctx::SystemClock;
use futures::stream;
use rouse_model::build::{Build, Step};
use rouse_model::{BuildId, BuildsetId, ConfigRevisionId, MasterId, RequestId, Timestamp, Trust};
use rouse_store::Location;
use sha2::{Digest, Sha256};

struct Bench {
    artifacts: Artifacts,
    folder: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Sqlite(dir.path().join("db"))).await.unwrap();
        let mut batch = Batch::new("test.build");
        batch.insert(&build()).insert(&step());
        store.commit(batch).await.unwrap();
        let folder = dir.path().join("objects");
        let objects = crate::objects::directory(&folder).unwrap();
        Self { artifacts: Artifacts::new(store, objects, Arc::new(SystemClock)), folder, _dir: dir }
    }

    async fn content(&self, artifact: &Artifact) -> Vec<u8> {
        let mut all = Vec::new();
        let mut body = self.artifacts.open(artifact.id, 0).await.unwrap().unwrap();
        while let Some(piece) = futures::StreamExt::next(&mut body).await {
            all.extend_from_slice(&piece.unwrap());
        }
        all
    }

    /// Files in the object store, half-written ones included.
    fn files(&self) -> usize {
        fn count(folder: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
        }
        count(&self.folder)
    }
}

fn step() -> Step {
    Step {
        id: StepId(2),
        build: BuildId(1),
        seq: 0,
        name: "keep".into(),
        result: None,
        class: None,
        summary: String::new(),
        started: Timestamp(0),
        finished: None,
        memory: String::new(),
        generation: 0,
    }
}

fn build() -> Build {
    Build {
        id: BuildId(1),
        request: RequestId(1),
        buildset: BuildsetId(1),
        builder: "unit".into(),
        project: "default".into(),
        attempt: 1,
        worker: None,
        slot: 0,
        master: MasterId(1),
        config: ConfigRevisionId(1),
        plan: String::new(),
        trust: Trust::Trusted,
        summary: String::new(),
        cancel: None,
        result: None,
        class: None,
        requested: Timestamp(0),
        provisioned_from: Timestamp(0),
        matched: Timestamp(0),
        running_from: None,
        waiting_from: None,
        finishing_from: None,
        finished: None,
        generation: 0,
    }
}

fn incoming(bytes: &[u8], from: u64) -> Incoming {
    Incoming {
        build: BuildId(1),
        step: StepId(2),
        set: "debs".into(),
        path: "dist/a.deb".into(),
        sha256: Some(hex::encode(Sha256::digest(bytes))),
        from,
    }
}

/// The bytes in pieces, and then the sender is gone.
fn broken(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, String>> + Send + use<> {
    let mut pieces: Vec<_> = bytes.chunks(100_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    pieces.push(Err("connection reset".into()));
    stream::iter(pieces)
}

fn whole(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, String>> + Send + use<> {
    let pieces: Vec<_> = bytes.chunks(100_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    stream::iter(pieces)
}

fn content() -> Vec<u8> {
    (0..12_000_000u32).map(|n| (n % 251) as u8).collect()
}

#[test]
fn paths_stay_within() {
    for good in ["a", "a/b.deb", "..a/b", "a b"] {
        assert!(check_path(good).is_ok(), "{good}");
    }
    for bad in ["", "/a", "../a", "a/../b", "a//b", "./a", "a\nb", &"x".repeat(MAX_PATH_BYTES + 1)] {
        assert!(check_path(bad).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_it_broke() {
    let bench = Bench::new().await;
    let bytes = content();
    let artifacts = &bench.artifacts;
    assert_eq!(artifacts.received(&incoming(&bytes, 0)), None);
    let error = artifacts.receive(incoming(&bytes, 0), broken(&bytes[..7_300_000])).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Broken(_)), "{error}");
    assert_eq!(artifacts.received(&incoming(&bytes, 0)), Some(7_300_000));
    // It breaks once more, at once: what is there stays.
    let error = artifacts.receive(incoming(&bytes, 7_300_000), broken(&[])).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Broken(_)), "{error}");
    let kept = artifacts.receive(incoming(&bytes, 7_300_000), whole(&bytes[7_300_000..])).await.unwrap();
    assert_eq!(
        (kept.bytes, kept.sha256.as_str()),
        (12_000_000, hex::encode(Sha256::digest(&bytes)).as_str())
    );
    assert!(bench.content(&kept).await == bytes);
    assert_eq!(artifacts.received(&incoming(&bytes, 0)), None);
    assert_eq!(bench.files(), 1);
}

#[tokio::test]
async fn only_the_same_file_goes_on_and_only_from_its_end() {
    let bench = Bench::new().await;
    let bytes = content();
    let artifacts = &bench.artifacts;
    let begin = async || artifacts.receive(incoming(&bytes, 0), broken(&bytes[..300_000])).await.unwrap_err();
    begin().await;
    let error = artifacts.receive(incoming(&bytes, 200_000), whole(&bytes[200_000..])).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Broken(_)), "{error}");
    begin().await;
    // The file was changed on the worker meanwhile.
    assert_eq!(artifacts.received(&incoming(b"other", 0)), None);
    let error = artifacts.receive(incoming(b"other", 300_000), whole(b"")).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Broken(_)), "{error}");
    // From the beginning always works, and what was there before is gone.
    begin().await;
    let kept = artifacts.receive(incoming(&bytes, 0), whole(&bytes)).await.unwrap();
    assert!(bench.content(&kept).await == bytes);
    assert_eq!(bench.files(), 1);
}

#[tokio::test]
async fn a_damaged_file_is_not_kept() {
    let bench = Bench::new().await;
    let error = bench.artifacts.receive(incoming(b"said", 0), whole(b"sent")).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(bench.files(), 0);
    assert_eq!(bench.artifacts.received(&incoming(b"said", 0)), None);
}

#[tokio::test]
async fn properties_are_small_and_a_step_that_is_over_takes_no_more() {
    let bench = Bench::new().await;
    let hidden = |bytes: &[u8]| Incoming { set: ".properties".into(), ..incoming(bytes, 0) };
    let large = vec![b'x'; usize::try_from(MAX_PROPERTIES_BYTES).unwrap() + 1];
    let error = bench.artifacts.receive(hidden(&large), whole(&large)).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Refused(_)) && error.to_string().contains("more than"), "{error}");
    let kept = bench.artifacts.receive(hidden(b"a=1"), whole(b"a=1")).await.unwrap();
    assert_eq!(kept.bytes, 3);
    let other = Incoming { step: StepId(3), ..incoming(b"x", 0) };
    let error = bench.artifacts.receive(other, whole(b"x")).await.unwrap_err();
    assert!(error.to_string().contains("step 3 does not run"), "{error}");
    let mut over = bench.artifacts.store.step(StepId(2)).await.unwrap().unwrap();
    over.finished = Some(Timestamp(1));
    let mut batch = Batch::new("test.end");
    batch.update(&mut over);
    bench.artifacts.store.commit(batch).await.unwrap();
    let error = bench.artifacts.receive(incoming(b"x", 0), whole(b"x")).await.unwrap_err();
    assert!(error.to_string().contains("step 2 does not run"), "{error}");
    assert_eq!(bench.files(), 1);
}
