//! Sealing, trouble with the object store, and what is left behind.

use super::*;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use tokio::sync::watch;

/// A real store behind a gate: while it is shut, puts wait or fail.
#[derive(Debug)]
struct Gated {
    inner: Arc<dyn ObjectStore>,
    gate: watch::Sender<Gate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Waits,
    Fails,
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gated {}", self.inner)
    }
}

type Answer<T> = object_store::Result<T>;

#[async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Answer<PutResult> {
        let mut gate = self.gate.subscribe();
        let state = *gate.wait_for(|g| *g != Gate::Waits).await.unwrap();
        if state == Gate::Fails {
            return Err(object_store::Error::Generic { store: "gated", source: "no space left".into() });
        }
        self.inner.put_opts(at, payload, options).await
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> Answer<GetResult> {
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(&self, all: BoxStream<'static, Answer<Path>>) -> BoxStream<'static, Answer<Path>> {
        self.inner.delete_stream(all)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Answer<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn gated(limits: Limits) -> (Bench, Arc<Gated>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Location::Sqlite(dir.path().join("db"))).await.unwrap();
    let inner = objects::directory(&dir.path().join("objects")).unwrap();
    let objects = Arc::new(Gated { inner, gate: watch::Sender::new(Gate::Open) });
    let bench = Bench::on(dir, store, Arc::<Gated>::clone(&objects), limits);
    (bench, objects)
}

#[tokio::test]
async fn an_agent_that_is_faster_than_the_disk_waits() {
    let limits = Limits { waiting_bytes: 200_000, waiting_bytes_in_all: 300_000, ..small() };
    let (bench, objects) = gated(limits).await;
    objects.gate.send_replace(Gate::Waits);
    let text = some_text(1_000_000);
    let log = bench.begin(1, no_masks()).await;
    let other = bench.begin(2, no_masks()).await;
    let (both, sent) = (bench.logs.clone(), text.clone());
    let writer = tokio::spawn(async move {
        for (n, piece) in sent.chunks(10_000).enumerate() {
            for log in [log, other] {
                both.accept(log, CLOCK, frame(log, Channel::Out, n as u64 * 10_000, piece)).await.unwrap();
            }
        }
    });
    // It comes to stand at the bound of both together.
    let received =
        || async { bench.logs.received(log).await.unwrap() + bench.logs.received(other).await.unwrap() };
    let mut seen = 0;
    while received().await != seen || seen == 0 {
        seen = received().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!((200_000..=300_000).contains(&seen), "{seen}");
    assert!(!writer.is_finished());
    objects.gate.send_replace(Gate::Open);
    writer.await.unwrap();
    for log in [log, other] {
        bench.seal(log, 1_000_000).await;
        assert_eq!(bench.raw(log).await, text);
    }
}

#[tokio::test]
async fn a_store_that_fails_is_tried_again_and_costs_nothing_but_time() {
    let (bench, objects) = gated(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let text = some_text(200_000);
    objects.gate.send_replace(Gate::Fails);
    send_all(&bench, log, &text, 0).await;
    let refused = bench.logs.seal(log, 200_000, None).await;
    assert!(matches!(refused, Err(LogError::Objects(_))));
    assert_eq!(bench.row(log).await.bytes, 0);
    objects.gate.send_replace(Gate::Open);
    bench.seal(log, 200_000).await;
    assert_eq!(bench.raw(log).await, text);
}

#[tokio::test]
async fn a_refused_batch_is_made_again() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let text = some_text(50_000);
    send_all(&bench, log, &text, 0).await;
    let mut refused = bench.logs.seal(log, 50_000, None).await.unwrap();
    let mut stranger = row(9);
    refused.update(&mut stranger);
    assert!(bench.store.commit(refused).await.unwrap_err().is_conflict());
    assert_eq!(bench.raw(log).await, text, "readers still have it");
    bench.seal(log, 50_000).await;
    let again = bench.logs.seal(log, 50_000, None).await.unwrap();
    assert!(again.is_empty(), "it is sealed");
    assert_eq!(bench.raw(log).await, text);
    assert_eq!(bench.keys().await.len(), bench.store.segments(log).await.unwrap().len());
}

#[tokio::test]
async fn bytes_that_never_came_are_noted() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    bench.send(log, Channel::Out, 0, b"all there is").await;
    let batch = bench.logs.seal(log, 20, Some("the agent was lost".into())).await.unwrap();
    bench.store.commit(batch).await.unwrap();
    let row = bench.row(log).await;
    assert_eq!(row.note.as_deref(), Some("the agent was lost; the last 8 bytes did not arrive"));
    assert_eq!(row.bytes, 12);
}

#[tokio::test]
async fn sealing_waits_for_bytes_that_are_on_their_way() {
    let bench = Bench::new(Limits { seal_wait: Duration::from_secs(60), ..small() }).await;
    let log = bench.begin(1, no_masks()).await;
    bench.send(log, Channel::Out, 0, b"first ").await;
    let logs = bench.logs.clone();
    let sealed = tokio::spawn(async move { logs.seal(log, 12, None).await });
    tokio::task::yield_now().await;
    bench.send(log, Channel::Out, 6, b"second").await;
    bench.store.commit(sealed.await.unwrap().unwrap()).await.unwrap();
    assert_eq!(bench.raw(log).await, b"first second");
    assert_eq!(bench.row(log).await.note, None);
}

#[tokio::test]
async fn a_log_that_no_master_has_open_can_be_sealed_as_it_is() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let text = some_text(100_000);
    send_all(&bench, log, &text, 0).await;
    bench.until_durable(log, 100_000).await;
    let bench = bench.restarted(small());
    let have = bench.logs.received(log).await.unwrap();
    bench.seal(log, have).await;
    assert_eq!(bench.raw(log).await, text);
    assert!(bench.row(log).await.sealed);
}

#[tokio::test]
async fn orphans_go_and_what_is_named_or_open_stays() {
    let bench = Bench::new(small()).await;
    let sealed = bench.begin(1001, no_masks()).await;
    let text = some_text(100_000);
    send_all(&bench, sealed, &text, 0).await;
    bench.until_durable(sealed, 100_000).await;
    bench.seal(sealed, 100_000).await;
    let open = bench.begin(1002, no_masks()).await;
    for key in ["logs/e1/1/1001.5-9", "logs/e1/1/1002.0-70000", "logs/e1/77/77000.0-9", "artifacts/e1/1"] {
        bench.objects.put(&Path::from(key), "left".into()).await.unwrap();
    }
    assert_eq!(bench.logs.collect_orphans(Timestamp(0)).await.unwrap(), 0, "all are young");
    assert_eq!(bench.logs.collect_orphans(Timestamp(i64::MAX)).await.unwrap(), 2);
    let keys = bench.keys().await;
    assert!(
        keys.iter().any(|k| k.contains("1002.0-70000")) && keys.iter().any(|k| k.starts_with("artifacts"))
    );
    assert_eq!(bench.raw(sealed).await, text);
    bench.seal(open, 0).await;
    assert_eq!(bench.logs.collect_orphans(Timestamp(i64::MAX)).await.unwrap(), 1);
}
