//! Calls that go wrong on purpose, between the layers and a provider: whatever the real back end does well, a network may lose.

use super::CallKind;
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
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused, to be made so much later.
    Throttled(Duration),
    /// It never arrives, and nobody answers.
    Unheard,
    /// It is done, and nobody answers.
    Unanswered,
    /// It is done, and the answer says that the connection broke.
    Broken,
    /// It arrives so much later.
    Late(Duration),
    /// Of a launch only so many items are made; there is no room for the others. Other calls are not struck.
    Partial(usize),
    /// A list is the one that was answered before. Other calls are not struck.
    Stale,
}

type Script = Box<dyn Fn(CallKind) -> Option<Fault> + Send + Sync>;

/// A provider some of whose calls go wrong.
pub struct Faulty {
    inner: Arc<dyn Provider>,
    script: Script,
    /// What was listed last.
    listed: Mutex<Vec<Observed>>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.inner)
    }
}

impl Faulty {
    /// `script` is asked at each call what goes wrong with it.
    pub fn new(
        inner: Arc<dyn Provider>,
        script: impl Fn(CallKind) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, script: Box::new(script), listed: Mutex::default() }
    }

    async fn struck<T>(
        &self,
        kind: CallKind,
        call: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        self.strike((self.script)(kind), kind, call).await
    }

    async fn strike<T>(
        &self,
        fault: Option<Fault>,
        kind: CallKind,
        call: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        match fault {
            None | Some(Fault::Partial(_) | Fault::Stale) => call.await,
            Some(Fault::Throttled(wait)) => {
                Err(ProviderError::new(FailureClass::Throttle, kind.as_str(), "too many calls")
                    .retry_after(wait))
            }
            Some(Fault::Unheard) => std::future::pending().await,
            Some(Fault::Unanswered) => {
                let _ = call.await;
                std::future::pending().await
            }
            Some(Fault::Broken) => {
                let _ = call.await;
                Err(ProviderError::new(FailureClass::Offering, kind.as_str(), "the connection broke"))
            }
            Some(Fault::Late(by)) => {
                tokio::time::sleep(by).await;
                call.await
            }
        }
    }
}

#[async_trait]
impl Provider for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        self.struck(CallKind::Resolve, self.inner.resolve(request)).await
    }

    async fn link_dir(&self, tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        self.struck(CallKind::LinkDir, self.inner.link_dir(tag)).await
    }

    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        let broke = LaunchOutcome::Unknown { reason: "the connection broke".into() };
        match (self.script)(CallKind::Launch) {
            None | Some(Fault::Stale) => self.inner.launch(spec, items).await,
            Some(Fault::Throttled(retry_after)) => {
                vec![LaunchOutcome::Throttled { retry_after }; items.len()]
            }
            Some(Fault::Unheard) => std::future::pending().await,
            Some(Fault::Unanswered) => {
                self.inner.launch(spec, items).await;
                std::future::pending().await
            }
            Some(Fault::Broken) => {
                self.inner.launch(spec, items).await;
                vec![broke; items.len()]
            }
            Some(Fault::Late(by)) => {
                tokio::time::sleep(by).await;
                self.inner.launch(spec, items).await
            }
            Some(Fault::Partial(made)) => {
                let mut outcomes = self.inner.launch(spec, &items[..made.min(items.len())]).await;
                outcomes.resize(items.len(), LaunchOutcome::NoCapacity { offering: "machines".into() });
                outcomes
            }
        }
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        let fault = (self.script)(CallKind::List);
        if fault == Some(Fault::Stale) {
            return Ok(self.listed.lock().expect("nothing panics while it is held").clone());
        }
        let listed = self.strike(fault, CallKind::List, self.inner.list()).await?;
        self.listed.lock().expect("nothing panics while it is held").clone_from(&listed);
        Ok(listed)
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        self.struck(CallKind::Inspect, self.inner.inspect(at)).await
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        self.struck(CallKind::Terminate, self.inner.terminate(at)).await
    }

    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        self.struck(CallKind::Park, self.inner.park(at)).await
    }

    async fn resume(&self, at: &ProviderRef, item: &LaunchItem) -> Result<Turned, ProviderError> {
        self.struck(CallKind::Resume, self.inner.resume(at, item)).await
    }

    async fn next_hint(&self) -> Hint {
        self.inner.next_hint().await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        self.struck(CallKind::Console, self.inner.console_tail(at, max_bytes)).await
    }

    async fn service_logs(
        &self,
        at: &ProviderRef,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<Vec<ServiceLog>, ProviderError> {
        self.struck(CallKind::Console, self.inner.service_logs(at, since, max_bytes)).await
    }

    fn collects(&self) -> bool {
        self.inner.collects()
    }

    async fn collect(&self, wanted: &HashSet<String>) -> Result<Vec<Collected>, ProviderError> {
        self.struck(CallKind::Collect, self.inner.collect(wanted)).await
    }

    fn shelves(&self) -> Option<&dyn Shelves> {
        self.inner.shelves()
    }

    fn streams(&self) -> Option<&dyn Streams> {
        self.inner.streams()
    }
}
