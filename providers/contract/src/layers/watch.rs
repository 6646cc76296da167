//! A record of every call: a tracing span while it runs, and a line to a sink (the metrics) when it has ended.

use crate::{
    Capabilities, Collected, Hint, LaunchItem, LaunchOutcome, LaunchSpec, Observed, Provider, ProviderError,
    ResolveRequest, Resolved, ServiceLog, Shelves, Streams, Tag, Turned,
};
use async_trait::async_trait;
use rouse_model::Timestamp;
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    Resolve,
    LinkDir,
    Launch,
    List,
    Inspect,
    Terminate,
    Park,
    Resume,
    Console,
    Collect,
}

impl CallKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::LinkDir => "link_dir",
            Self::Launch => "launch",
            Self::List => "list",
            Self::Inspect => "inspect",
            Self::Terminate => "terminate",
            Self::Park => "park",
            Self::Resume => "resume",
            Self::Console => "console",
            Self::Collect => "collect",
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEnd {
    Done,
    /// A launch: of so many items so many were accepted.
    Launched {
        asked: usize,
        accepted: usize,
    },
    Failed(FailureClass),
    /// The caller stopped waiting.
    Dropped,
}

/// One call that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    pub kind: CallKind,
    pub took: Duration,
    pub end: CallEnd,
}

/// Takes the records of calls. Must be quick: it runs within the call.
pub trait CallSink: fmt::Debug + Send + Sync {
    fn record(&self, account: &str, call: CallRecord);
}

/// A provider whose calls are all recorded.
#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn Provider>,
    account: String,
    sink: Arc<dyn CallSink>,
}

/// Writes the record when it goes, also where the call was dropped half way.
struct Running<'a> {
    by: &'a Watched,
    kind: CallKind,
    since: Instant,
    end: CallEnd,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let took = self.since.elapsed();
        tracing::debug!(
            call = self.kind.as_str(),
            account = %self.by.account,
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            end = ?self.end,
            "provider call"
        );
        let end = std::mem::replace(&mut self.end, CallEnd::Dropped);
        self.by.sink.record(&self.by.account, CallRecord { kind: self.kind, took, end });
    }
}

impl Watched {
    #[must_use]
    pub fn new(inner: Arc<dyn Provider>, account: &str, sink: Arc<dyn CallSink>) -> Self {
        Self { inner, account: account.to_owned(), sink }
    }

    fn running(&self, kind: CallKind) -> Running<'_> {
        Running { by: self, kind, since: Instant::now(), end: CallEnd::Dropped }
    }

    async fn watch<T>(
        &self,
        kind: CallKind,
        at: &str,
        call: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        let span = tracing::info_span!("provider_call", account = %self.account, call = kind.as_str(), %at);
        let mut running = self.running(kind);
        let answer = call.instrument(span).await;
        running.end = answer.as_ref().map_or_else(|e| CallEnd::Failed(e.class), |_| CallEnd::Done);
        answer
    }
}

#[async_trait]
impl Provider for Watched {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        self.watch(CallKind::Resolve, &request.images.join(", "), self.inner.resolve(request)).await
    }

    async fn link_dir(&self, tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        self.watch(CallKind::LinkDir, &tag.name, self.inner.link_dir(tag)).await
    }

    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        let span = tracing::info_span!(
            "provider_call", account = %self.account, call = "launch", pool = %spec.pool, items = items.len()
        );
        let mut running = self.running(CallKind::Launch);
        let outcomes = self.inner.launch(spec, items).instrument(span).await;
        let accepted = outcomes.iter().filter(|o| matches!(o, LaunchOutcome::Accepted { .. })).count();
        running.end = CallEnd::Launched { asked: items.len(), accepted };
        outcomes
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        self.watch(CallKind::List, "", self.inner.list()).await
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        self.watch(CallKind::Inspect, &at.0, self.inner.inspect(at)).await
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        self.watch(CallKind::Terminate, &at.0, self.inner.terminate(at)).await
    }

    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        self.watch(CallKind::Park, &at.0, self.inner.park(at)).await
    }

    async fn resume(&self, at: &ProviderRef, item: &LaunchItem) -> Result<Turned, ProviderError> {
        self.watch(CallKind::Resume, &at.0, self.inner.resume(at, item)).await
    }

    async fn next_hint(&self) -> Hint {
        self.inner.next_hint().await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        self.watch(CallKind::Console, &at.0, self.inner.console_tail(at, max_bytes)).await
    }

    fn collects(&self) -> bool {
        self.inner.collects()
    }

    async fn collect(&self, wanted: &HashSet<String>) -> Result<Vec<Collected>, ProviderError> {
        self.watch(CallKind::Collect, "", self.inner.collect(wanted)).await
    }

    async fn service_logs(
        &self,
        at: &ProviderRef,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<Vec<ServiceLog>, ProviderError> {
        self.watch(CallKind::Console, &at.0, self.inner.service_logs(at, since, max_bytes)).await
    }

    fn shelves(&self) -> Option<&dyn Shelves> {
        self.inner.shelves()
    }

    fn streams(&self) -> Option<&dyn Streams> {
        self.inner.streams()
    }
}
