//! Launches of the same spec that come at about the same time become one call, for providers that take several at once.
//!
//! Each caller gets the outcome of its own items. The call belongs to all that wait for it: who gives up takes nothing from the others, and it
//! is dropped once nobody waits any more, as each of their calls would have been.

use super::rate::{CallClass, Pace};
use crate::{
    Capabilities, Collected, Hint, LaunchItem, LaunchOutcome, LaunchSpec, Observed, Provider, ProviderError,
    ResolveRequest, Resolved, ServiceLog, Shelves, Streams, Tag, Turned,
};
use async_trait::async_trait;
use futures::future::join_all;
use rouse_model::Timestamp;
use rouse_model::worker::ProviderRef;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How long the first one waits for others.
const WINDOW: Duration = Duration::from_millis(50);
/// How long it goes on waiting where the account's rate would not let it through yet.
const HELD: Duration = Duration::from_secs(5);

/// A provider whose launches are gathered.
#[derive(Debug)]
pub struct Batched {
    gatherer: Arc<Gatherer>,
}

#[derive(Debug)]
struct Gatherer {
    inner: Arc<dyn Provider>,
    pace: Arc<Pace>,
    /// Those that take more, each of another spec or in the place of one that is full.
    open: Mutex<Vec<Batch>>,
}

#[derive(Debug)]
struct Batch {
    spec: Arc<LaunchSpec>,
    items: Vec<Waiting>,
    full: Arc<Notify>,
}

#[derive(Debug)]
struct Waiting {
    item: LaunchItem,
    tell: oneshot::Sender<LaunchOutcome>,
}

impl Batched {
    #[must_use]
    pub fn new(inner: Arc<dyn Provider>, pace: Arc<Pace>) -> Self {
        Self { gatherer: Arc::new(Gatherer { inner, pace, open: Mutex::default() }) }
    }

    fn inner(&self) -> &dyn Provider {
        &*self.gatherer.inner
    }
}

impl Gatherer {
    fn open(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.open.lock().expect("nothing panics while it is held")
    }

    /// Where its outcome will be told.
    fn join(
        self: &Arc<Self>,
        spec: &LaunchSpec,
        item: &LaunchItem,
        most: usize,
    ) -> oneshot::Receiver<LaunchOutcome> {
        let (tell, told) = oneshot::channel();
        let waiting = Waiting { item: item.clone(), tell };
        let mut open = self.open();
        // Asked for twice at once it is asked for by two calls, as ever.
        let has = |batch: &Batch| batch.items.iter().any(|other| other.item.tag.token == item.tag.token);
        let takes = |batch: &Batch| batch.items.len() < most && *batch.spec == *spec && !has(batch);
        let found = open.iter_mut().find(|batch| takes(batch));
        if let Some(batch) = found {
            batch.items.push(waiting);
            if batch.items.len() == most {
                batch.full.notify_one();
            }
            return told;
        }
        let (spec, full) = (Arc::new(spec.clone()), Arc::new(Notify::new()));
        open.push(Batch { spec: Arc::clone(&spec), items: vec![waiting], full: Arc::clone(&full) });
        drop(open);
        tokio::spawn(Arc::clone(self).gather(spec, full));
        told
    }

    fn close(&self, full: &Arc<Notify>) -> Option<Batch> {
        let mut open = self.open();
        let at = open.iter().position(|batch| Arc::ptr_eq(&batch.full, full))?;
        Some(open.swap_remove(at))
    }

    /// Waits for more, then launches what has come for those who still want it.
    async fn gather(self: Arc<Self>, spec: Arc<LaunchSpec>, full: Arc<Notify>) {
        let waits = async {
            tokio::time::sleep(WINDOW).await;
            // Others may as well join until it would go. Its turn comes in the line of all calls.
            let _ = tokio::time::timeout(HELD, self.pace.lane(CallClass::Writes).free()).await;
        };
        tokio::select! {
            () = full.notified() => {}
            () = waits => {}
        }
        let Some(batch) = self.close(&full) else { return };
        let wanted = batch.items.into_iter().filter(|waiting| !waiting.tell.is_closed());
        let (items, mut tell): (Vec<_>, Vec<_>) = wanted.map(|Waiting { item, tell }| (item, tell)).unzip();
        if items.is_empty() {
            return;
        }
        let outcomes = tokio::select! {
            outcomes = self.inner.launch(&spec, &items) => outcomes,
            _ = join_all(tell.iter_mut().map(oneshot::Sender::closed)) => return,
        };
        // Who has gone finds it by its token.
        tell.into_iter().zip(outcomes).for_each(|(tell, outcome)| _ = tell.send(outcome));
    }
}

#[async_trait]
impl Provider for Batched {
    fn capabilities(&self) -> Capabilities {
        self.inner().capabilities()
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        self.inner().resolve(request).await
    }

    async fn link_dir(&self, tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        self.inner().link_dir(tag).await
    }

    /// At once where nothing is gained by waiting.
    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        let most = self.inner().capabilities().largest_batch;
        if items.len() >= most {
            return self.inner().launch(spec, items).await;
        }
        let told: Vec<_> = items.iter().map(|item| self.gatherer.join(spec, item, most)).collect();
        let broke_off = |_| LaunchOutcome::Unknown { reason: "the call broke off".into() };
        join_all(told).await.into_iter().map(|told| told.unwrap_or_else(broke_off)).collect()
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        self.inner().list().await
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        self.inner().inspect(at).await
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        self.inner().terminate(at).await
    }

    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        self.inner().park(at).await
    }

    async fn resume(&self, at: &ProviderRef, item: &LaunchItem) -> Result<Turned, ProviderError> {
        self.inner().resume(at, item).await
    }

    async fn next_hint(&self) -> Hint {
        self.inner().next_hint().await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        self.inner().console_tail(at, max_bytes).await
    }

    async fn service_logs(
        &self,
        at: &ProviderRef,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<Vec<ServiceLog>, ProviderError> {
        self.inner().service_logs(at, since, max_bytes).await
    }

    fn collects(&self) -> bool {
        self.inner().collects()
    }

    async fn collect(&self, wanted: &HashSet<String>) -> Result<Vec<Collected>, ProviderError> {
        self.inner().collect(wanted).await
    }

    fn shelves(&self) -> Option<&dyn Shelves> {
        self.inner().shelves()
    }

    fn streams(&self) -> Option<&dyn Streams> {
        self.inner().streams()
    }
}
