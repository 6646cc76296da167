//! A deadline on every call, so that a daemon that hangs never blocks the master.

use crate::{
    Capabilities, Collected, Hint, LaunchItem, LaunchOutcome, LaunchSpec, Observed, Provider, ProviderError,
    ResolveRequest, Resolved, ServiceLog, Shelves, Streams, Tag, Turned,
};
use async_trait::async_trait;
use rouse_model::Timestamp;
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::collections::HashSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long each call may take before it counts as failed. What it does then is unknown, and is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Long: an image may have to be pulled.
    pub resolve: Duration,
    pub link_dir: Duration,
    /// For a whole batch.
    pub launch: Duration,
    pub list: Duration,
    pub inspect: Duration,
    /// Long: a container's disk may be large.
    pub terminate: Duration,
    /// What runs in it may take its time to end.
    pub park: Duration,
    pub resume: Duration,
    pub console: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(1800),
            link_dir: Duration::from_secs(15),
            launch: Duration::from_secs(120),
            list: Duration::from_secs(60),
            inspect: Duration::from_secs(15),
            terminate: Duration::from_secs(120),
            park: Duration::from_secs(120),
            resume: Duration::from_secs(120),
            console: Duration::from_secs(15),
        }
    }
}

/// A provider whose calls all come back.
#[derive(Debug)]
pub struct Deadlined {
    inner: Arc<dyn Provider>,
    deadlines: Deadlines,
}

impl Deadlined {
    #[must_use]
    pub fn new(inner: Arc<dyn Provider>, deadlines: Deadlines) -> Self {
        Self { inner, deadlines }
    }
}

async fn within<T>(
    limit: Duration,
    doing: impl FnOnce() -> String,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(ProviderError::new(FailureClass::Offering, doing(), no_answer(limit))),
    }
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {}", crate::units::Span(limit))
}

#[async_trait]
impl Provider for Deadlined {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        let doing = || format!("resolve image {}", request.images.join(", "));
        within(self.deadlines.resolve, doing, self.inner.resolve(request)).await
    }

    async fn link_dir(&self, tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        let doing = || format!("make the link folder of {}", tag.name);
        within(self.deadlines.link_dir, doing, self.inner.link_dir(tag)).await
    }

    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        let call = self.inner.launch(spec, items);
        tokio::time::timeout(self.deadlines.launch, call).await.unwrap_or_else(|_| {
            let reason = no_answer(self.deadlines.launch);
            vec![LaunchOutcome::Unknown { reason }; items.len()]
        })
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        within(self.deadlines.list, || "list instances".into(), self.inner.list()).await
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        within(self.deadlines.inspect, || format!("inspect {}", at.0), self.inner.inspect(at)).await
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        within(self.deadlines.terminate, || format!("terminate {}", at.0), self.inner.terminate(at)).await
    }

    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        within(self.deadlines.park, || format!("park {}", at.0), self.inner.park(at)).await
    }

    async fn resume(&self, at: &ProviderRef, item: &LaunchItem) -> Result<Turned, ProviderError> {
        let call = self.inner.resume(at, item);
        within(self.deadlines.resume, || format!("resume {}", at.0), call).await
    }

    /// Without a deadline: there may be nothing to hint at for days.
    async fn next_hint(&self) -> Hint {
        self.inner.next_hint().await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        let call = self.inner.console_tail(at, max_bytes);
        within(self.deadlines.console, || format!("read the console of {}", at.0), call).await
    }

    fn collects(&self) -> bool {
        self.inner.collects()
    }

    async fn collect(&self, wanted: &HashSet<String>) -> Result<Vec<Collected>, ProviderError> {
        within(self.deadlines.terminate, || "collect images".into(), self.inner.collect(wanted)).await
    }

    async fn service_logs(
        &self,
        at: &ProviderRef,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<Vec<ServiceLog>, ProviderError> {
        let call = self.inner.service_logs(at, since, max_bytes);
        within(self.deadlines.console, || format!("read the services' logs of {}", at.0), call).await
    }

    fn shelves(&self) -> Option<&dyn Shelves> {
        self.inner.shelves()
    }

    fn streams(&self) -> Option<&dyn Streams> {
        self.inner.streams()
    }
}
