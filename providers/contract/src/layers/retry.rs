//! Looks and ends that failed for a moment are tried again, a few times: a connection that broke, an account that had enough just then.
//!
//! Launches are not: whoever asked for one asks again by its token, and knows by then whether it is still wanted. What stays away for
//! longer is not waited for here either, since whoever asked has something else to do meanwhile.

use super::Deadlines;
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

/// In all.
const TRIES: u32 = 3;
/// Before the second one, and twice as long before each other; half or half more of it, as chance has it.
const PAUSE: Duration = Duration::from_millis(250);

/// Where chance comes from: from 0 to 1, without 1.
#[derive(Clone)]
pub struct Chance(Arc<dyn Fn() -> f64 + Send + Sync>);

impl Chance {
    pub fn new(draw: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    /// Always the same, for what is to happen again as it did.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|| 0.5)
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance")
    }
}

/// A provider that is asked again.
#[derive(Debug)]
pub struct Retried {
    inner: Arc<dyn Provider>,
    deadlines: Deadlines,
    chance: Chance,
}

/// Whether the same call may go well in a moment.
fn is_passing(error: &ProviderError) -> bool {
    matches!(error.class, FailureClass::Throttle | FailureClass::Offering)
}

impl Retried {
    #[must_use]
    pub fn new(inner: Arc<dyn Provider>, deadlines: Deadlines, chance: Chance) -> Self {
        Self { inner, deadlines, chance }
    }

    /// The last error is the answer. None is begun in the second half of a deadline: cut off, it could say less.
    async fn again<T, C: Future<Output = Result<T, ProviderError>>>(
        &self,
        deadline: Duration,
        call: impl Fn() -> C,
    ) -> Result<T, ProviderError> {
        let until = Instant::now() + deadline / 2;
        for past in 0..TRIES - 1 {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = PAUSE.mul_f64(f64::from(1 << past) * (0.5 + (self.chance.0)()));
            let pause = error.retry_after.unwrap_or_default().max(pause);
            if !is_passing(&error) || Instant::now() + pause > until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
        call().await
    }
}

#[async_trait]
impl Provider for Retried {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        self.inner.resolve(request).await
    }

    async fn link_dir(&self, tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        self.inner.link_dir(tag).await
    }

    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        self.inner.launch(spec, items).await
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        self.again(self.deadlines.list, || self.inner.list()).await
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        self.again(self.deadlines.inspect, || self.inner.inspect(at)).await
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        self.again(self.deadlines.terminate, || self.inner.terminate(at)).await
    }

    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        self.again(self.deadlines.park, || self.inner.park(at)).await
    }

    async fn resume(&self, at: &ProviderRef, item: &LaunchItem) -> Result<Turned, ProviderError> {
        self.again(self.deadlines.resume, || self.inner.resume(at, item)).await
    }

    async fn next_hint(&self) -> Hint {
        self.inner.next_hint().await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        self.again(self.deadlines.console, || self.inner.console_tail(at, max_bytes)).await
    }

    async fn service_logs(
        &self,
        at: &ProviderRef,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<Vec<ServiceLog>, ProviderError> {
        self.again(self.deadlines.console, || self.inner.service_logs(at, since, max_bytes)).await
    }

    fn collects(&self) -> bool {
        self.inner.collects()
    }

    async fn collect(&self, wanted: &HashSet<String>) -> Result<Vec<Collected>, ProviderError> {
        self.inner.collect(wanted).await
    }

    fn shelves(&self) -> Option<&dyn Shelves> {
        self.inner.shelves()
    }

    fn streams(&self) -> Option<&dyn Streams> {
        self.inner.streams()
    }
}
