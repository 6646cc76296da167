//! The service on a real SQLite file and a real directory.

use super::*;
use crate::objects;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use rouse_agent_protocol::{Channel, StreamFrame, StreamId};
use rouse_model::{BuildId, StepId, Timestamp};
use rouse_store::{Batch, Location};
use sha2::{Digest, Sha256};
use tokio_util::sync::{CancellationToken, DropGuard};

mod holding;
mod packed;
mod reading;

pub(super) struct Bench {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub logs: Logs,
    pub objects: Arc<dyn ObjectStore>,
    _stop: DropGuard,
}

pub(super) fn small() -> Limits {
    Limits {
        segment_bytes: 64 << 10,
        segment_age: Duration::from_millis(5),
        inline_bytes: 4 << 10,
        seal_wait: Duration::from_millis(50),
        compacted_bytes: 256 << 10,
        ..Limits::default()
    }
}

impl Bench {
    pub(super) async fn new(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Sqlite(dir.path().join("db"))).await.unwrap();
        let objects = objects::directory(&dir.path().join("objects")).unwrap();
        Self::on(dir, store, objects, limits)
    }

    pub(super) fn on(
        dir: tempfile::TempDir,
        store: Store,
        objects: Arc<dyn ObjectStore>,
        limits: Limits,
    ) -> Self {
        let logs = Logs::new(store.clone(), Arc::clone(&objects), limits);
        let stop = CancellationToken::new();
        let (running, token) = (logs.clone(), stop.clone());
        tokio::spawn(async move { running.run(token).await });
        Self { dir, store, logs, objects, _stop: stop.drop_guard() }
    }

    /// Another master on what this one has left.
    pub(super) fn restarted(self, limits: Limits) -> Self {
        let Self { dir, store, objects, .. } = self;
        Self::on(dir, store, objects, limits)
    }

    pub(super) async fn insert(&self, id: i64) -> Log {
        let row = row(id);
        let mut batch = Batch::new("test.log");
        batch.insert(&row);
        self.store.commit(batch).await.unwrap();
        row
    }

    pub(super) async fn begin(&self, id: i64, masks: Masks) -> LogId {
        let row = self.insert(id).await;
        self.logs.open_new(&row, masks);
        row.id
    }

    pub(super) async fn send(&self, log: LogId, channel: Channel, offset: u64, bytes: &[u8]) {
        self.logs.accept(log, CLOCK, frame(log, channel, offset, bytes)).await.unwrap();
    }

    pub(super) async fn seal(&self, log: LogId, end: u64) {
        let batch = self.logs.seal(log, end, None).await.unwrap();
        self.store.commit(batch).await.unwrap();
    }

    pub(super) async fn row(&self, log: LogId) -> Log {
        self.store.log(log).await.unwrap().unwrap()
    }

    pub(super) async fn raw(&self, log: LogId) -> Vec<u8> {
        self.logs.raw(log, 0, false).try_collect::<Vec<Bytes>>().await.unwrap().concat()
    }

    pub(super) async fn keys(&self) -> Vec<String> {
        self.objects.list(None).map_ok(|o| o.location.to_string()).try_collect().await.unwrap()
    }

    pub(super) async fn until_durable(&self, log: LogId, to: u64) {
        let progress = Progress::default();
        self.logs.watch(log, &progress);
        while self.logs.durable(log).await.unwrap() < to {
            progress.next().await;
        }
    }

    pub(super) async fn until_few_segments(&self, log: LogId, most: usize) {
        while self.store.segments(log).await.unwrap().len() > most {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(super) const CLOCK: AgentClock = AgentClock { offset_us: 1_000_000 };

pub(super) fn row(id: i64) -> Log {
    Log {
        id: LogId(id),
        build: BuildId(1),
        step: StepId(1),
        name: "stdio".into(),
        bytes: 0,
        lines: 0,
        sealed: false,
        inline: None,
        note: None,
        created: Timestamp(0),
        generation: 0,
    }
}

pub(super) fn frame(log: LogId, channel: Channel, offset: u64, bytes: &[u8]) -> StreamFrame {
    let bytes = Bytes::copy_from_slice(bytes);
    StreamFrame { stream: StreamId(log.0), channel, offset, at_us: offset, bytes }
}

pub(super) fn no_masks() -> Masks {
    Masks::default()
}

/// Text that does not repeat, in lines of some 60 characters with colours.
pub(super) fn some_text(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 100);
    let mut n = 0u64;
    while text.len() < bytes {
        let digest = hex::encode(Sha256::digest(n.to_be_bytes()));
        text.extend_from_slice(format!("\x1b[3{}m{n} {}\n", n % 8, &digest[..50]).as_bytes());
        n += 1;
    }
    text.truncate(bytes);
    text
}

pub(super) async fn send_all(bench: &Bench, log: LogId, text: &[u8], from: usize) {
    for (n, piece) in text[from..].chunks(10_000).enumerate() {
        bench.send(log, Channel::Out, (from + n * 10_000) as u64, piece).await;
    }
}

#[tokio::test]
async fn a_small_log_is_its_row_and_nothing_else() {
    let bench = Bench::new(Limits::default()).await;
    let log = bench.begin(1, no_masks()).await;
    let commits = *bench.store.committed().borrow();
    bench.send(log, Channel::Out, 0, b"one\ntw").await;
    bench.send(log, Channel::Err, 6, b"oops\n").await;
    bench.send(log, Channel::Out, 11, b"o\nend").await;
    bench.seal(log, 16).await;
    assert_eq!(
        *bench.store.committed().borrow(),
        commits,
        "only the driver's batch, which has no event here"
    );
    let row = bench.row(log).await;
    assert!(row.sealed && row.inline.is_some());
    assert_eq!((row.bytes, row.lines, row.note, row.generation), (16, 4, None, 1));
    assert_eq!(bench.keys().await, Vec::<String>::new());
    assert_eq!(bench.raw(log).await, b"one\ntwoops\no\nend");
    let page = bench.logs.lines(log, 0, 100).await.unwrap();
    let texts: Vec<String> = page.lines.iter().map(Line::text).collect();
    assert_eq!(texts, ["one", "oops", "two", "end"]);
    assert_eq!(page.lines[1].at, Timestamp(1_000_006));
    assert!(page.end && page.next == 4);
    assert_eq!(
        serde_json::to_value(&page.lines[1]).unwrap(),
        serde_json::json!({"n": 1, "at": 1_000_006, "channel": "err", "text": "oops"})
    );
    assert!(matches!(
        bench.logs.accept(log, CLOCK, frame(log, Channel::Out, 16, b"x")).await,
        Err(AcceptError::Closed { .. })
    ));
    assert_eq!(bench.logs.resume(log, &Progress::default()).await.unwrap(), None);
    assert!(bench.logs.known(log).is_none(), "nothing of it stays in memory");
}

#[tokio::test]
async fn a_slow_small_log_is_durable_in_its_row_and_grows_out_of_it() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let text = some_text(9_000);
    bench.send(log, Channel::Out, 0, &text[..1000]).await;
    bench.until_durable(log, 1000).await;
    assert!(bench.row(log).await.inline.is_some());
    assert!(bench.keys().await.is_empty());
    bench.send(log, Channel::Out, 1000, &text[1000..9_000]).await;
    bench.until_durable(log, 9_000).await;
    assert_eq!(bench.keys().await.len(), 1);
    assert!(bench.row(log).await.inline.is_none());
    assert_eq!(bench.raw(log).await, text);
    bench.seal(log, 9_000).await;
    assert_eq!(bench.raw(log).await, text);
}

#[tokio::test]
async fn a_large_log_is_read_as_it_was_sent_before_and_after_compaction() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let mut text = some_text(3_000_000);
    text[2_999_999] = b'\n';
    send_all(&bench, log, &text, 0).await;
    assert_eq!(bench.logs.status(log).await.unwrap().bytes, text.len() as u64);
    let before = bench.logs.lines(log, 20_000, 50).await.unwrap();
    bench.seal(log, text.len() as u64).await;
    bench.until_few_segments(log, 16).await;
    let segments = bench.store.segments(log).await.unwrap();
    assert_eq!(segments.iter().map(|s| s.bytes).sum::<i64>(), 3_000_000);
    assert_eq!(segments.iter().map(|s| s.lines).sum::<i64>(), bench.row(log).await.lines);
    assert_eq!(bench.raw(log).await, text);
    assert_eq!(bench.logs.lines(log, 20_000, 50).await.unwrap(), before);
    while bench.keys().await.len() > segments.len() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn after_a_restart_output_goes_on_where_it_was_durable() {
    let mut bench = Bench::new(small()).await;
    let masks = || Masks::new(["hunter2 is a long secret"]);
    let log = bench.begin(1, masks()).await;
    let mut text = some_text(400_000);
    // Secrets everywhere, so that some lie across every seam.
    for at in (0..text.len() - 100).step_by(97) {
        text[at..at + 24].copy_from_slice(b"hunter2 is a long secret");
    }
    let mut sent = 0;
    for stop in [90_000, 200_011, 310_007] {
        send_all(&bench, log, &text[..stop], sent).await;
        bench.until_durable(log, sent as u64 + 50_000).await;
        bench = bench.restarted(small());
        let progress = Progress::default();
        let durable = bench.logs.resume(log, &progress).await.unwrap().unwrap();
        assert!(durable <= stop as u64);
        bench.logs.open(log, masks());
        // The agent sends again from there; some of it overlaps.
        sent = usize::try_from(durable).unwrap();
        bench
            .send(log, Channel::Out, sent.saturating_sub(7) as u64, &text[sent.saturating_sub(7)..sent + 3])
            .await;
        let gap = bench.logs.accept(log, CLOCK, frame(log, Channel::Out, durable + 4, b"x")).await;
        assert!(matches!(gap, Err(AcceptError::Gap { expected, .. }) if expected == durable + 3));
    }
    send_all(&bench, log, &text, sent).await;
    bench.seal(log, text.len() as u64).await;
    let raw = bench.raw(log).await;
    assert_eq!(raw.len(), text.len());
    assert_eq!(String::from_utf8_lossy(&raw), masks().mask_text(&String::from_utf8_lossy(&text)));
}

#[tokio::test]
async fn output_waits_until_its_build_has_opened_the_log() {
    let bench = Bench::new(small()).await;
    let row = bench.insert(1).await;
    let (logs, log) = (bench.logs.clone(), row.id);
    let accepted =
        tokio::spawn(
            async move { logs.accept(log, CLOCK, frame(log, Channel::Out, 0, b"a secret\n")).await },
        );
    while bench.logs.known(log).is_none() {
        tokio::task::yield_now().await;
    }
    bench.logs.open(log, Masks::new(["secret"]));
    accepted.await.unwrap().unwrap();
    bench.seal(log, 9).await;
    assert_eq!(bench.raw(log).await, b"a ******\n");
    let unknown = LogId(99);
    let refused = bench.logs.accept(unknown, CLOCK, frame(unknown, Channel::Out, 0, b"x")).await;
    assert!(matches!(refused, Err(AcceptError::Closed { .. })));
}

#[tokio::test]
async fn what_is_held_back_is_not_durable_until_the_end() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, Masks::new(["secret"])).await;
    bench.send(log, Channel::Out, 0, b"a\nsec").await;
    bench.until_durable(log, 2).await;
    assert_eq!(bench.logs.durable(log).await.unwrap(), 2);
    assert_eq!(bench.raw(log).await, b"a\n");
    bench.seal(log, 5).await;
    assert_eq!(bench.raw(log).await, b"a\nsec");
}

#[tokio::test]
async fn a_log_beyond_its_cap_is_cut_and_the_agent_goes_on() {
    let limits = || Limits { log_bytes: 100_000, ..small() };
    let bench = Bench::new(limits()).await;
    let log = bench.begin(1, no_masks()).await;
    let text = some_text(300_000);
    send_all(&bench, log, &text[..200_000], 0).await;
    bench.until_durable(log, 200_000).await;
    let bench = bench.restarted(limits());
    assert_eq!(bench.logs.resume(log, &Progress::default()).await.unwrap(), Some(100_000));
    bench.logs.open(log, no_masks());
    send_all(&bench, log, &text, 200_000).await;
    bench.seal(log, 300_000).await;
    let row = bench.row(log).await;
    assert_eq!(row.note.as_deref(), Some("truncated: 200000 bytes beyond the first 100000 were not kept"));
    assert_eq!(bench.raw(log).await, text[..100_000]);
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_is_kept_exactly() {
    let bench = Bench::new(Limits::default()).await;
    let log = bench.begin(1, no_masks()).await;
    let piece = vec![b'x'; 250_000];
    let mut hash = Sha256::new();
    for n in 0..400 {
        bench.send(log, Channel::Out, n * 250_000, &piece).await;
        hash.update(&piece);
    }
    bench.seal(log, 100_000_000).await;
    let mut stored = Sha256::new();
    let mut bytes = bench.logs.raw(log, 0, false);
    while let Some(piece) = bytes.next().await {
        stored.update(piece.unwrap());
    }
    assert_eq!(hash.finalize(), stored.finalize());
    let last = bench.logs.lines(log, -1, 10).await.unwrap();
    assert_eq!(last.lines.len(), 1);
    assert!(last.lines[0].bytes.len() <= super::lines::MAX_LINE);
}
