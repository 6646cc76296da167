//! Each call waits for its turn by its account's rates, and its answer is heard by them.
//!
//! Launches are turned away with a throttled outcome, and other calls with an error of that class, where the turn does not come within half of
//! the call's deadline: the other half is the back end's. What an image means is not asked at the account's expense (a registry answers, which
//! has a breaker of its own), and a link folder, a collection of images and hints are matters of one host: those go at once.

use super::Deadlines;
use super::rate::{CallClass, Pace};
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

/// A provider that is asked no faster than its account wants.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn Provider>,
    pace: Arc<Pace>,
    deadlines: Deadlines,
}

impl Limited {
    #[must_use]
    pub fn new(inner: Arc<dyn Provider>, pace: Arc<Pace>, deadlines: Deadlines) -> Self {
        Self { inner, pace, deadlines }
    }

    async fn in_turn<T>(
        &self,
        class: CallClass,
        deadline: Duration,
        doing: impl FnOnce() -> String,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let lane = self.pace.lane(class);
        let began = lane.turn(1, deadline / 2).await.map_err(|wait| {
            let message = "the account is asked too much already";
            ProviderError::new(FailureClass::Throttle, doing(), message).retry_after(wait)
        })?;
        let answer = call.await;
        match &answer {
            Ok(_) => lane.good(began),
            Err(error) if error.class == FailureClass::Throttle => lane.throttled(began, error.retry_after),
            Err(_) => {}
        }
        answer
    }

    /// As many calls of the back end as a launch is.
    fn calls(&self, items: &[LaunchItem]) -> u32 {
        let each = self.inner.capabilities().largest_batch.max(1);
        u32::try_from(items.len().div_ceil(each)).unwrap_or(u32::MAX)
    }
}

/// The longest pause that the outcomes ask for.
fn pause_of(outcomes: &[LaunchOutcome]) -> Option<Duration> {
    let asked = outcomes.iter().filter_map(|outcome| match outcome {
        LaunchOutcome::Throttled { retry_after } => Some(*retry_after),
        _ => None,
    });
    asked.max()
}

/// Whether the account did what it was asked to.
fn is_good(outcome: &LaunchOutcome) -> bool {
    matches!(outcome, LaunchOutcome::Accepted { .. } | LaunchOutcome::Pending | LaunchOutcome::Died { .. })
}

#[async_trait]
impl Provider for Limited {
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
        let lane = self.pace.lane(CallClass::Writes);
        let began = match lane.turn(self.calls(items), self.deadlines.launch / 2).await {
            Ok(began) => began,
            Err(retry_after) => return vec![LaunchOutcome::Throttled { retry_after }; items.len()],
        };
        let outcomes = self.inner.launch(spec, items).await;
        if let Some(pause) = pause_of(&outcomes) {
            lane.throttled(began, Some(pause));
        } else if outcomes.iter().any(is_good) {
            lane.good(began);
        }
        outcomes
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        let doing = || "list instances".to_owned();
        self.in_turn(CallClass::Reads, self.deadlines.list, doing, self.inner.list()).await
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        let doing = || format!("inspect {}", at.0);
        self.in_turn(CallClass::Reads, self.deadlines.inspect, doing, self.inner.inspect(at)).await
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        let doing = || format!("terminate {}", at.0);
        self.in_turn(CallClass::Writes, self.deadlines.terminate, doing, self.inner.terminate(at)).await
    }

    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        let doing = || format!("park {}", at.0);
        self.in_turn(CallClass::Writes, self.deadlines.park, doing, self.inner.park(at)).await
    }

    async fn resume(&self, at: &ProviderRef, item: &LaunchItem) -> Result<Turned, ProviderError> {
        let doing = || format!("resume {}", at.0);
        self.in_turn(CallClass::Writes, self.deadlines.resume, doing, self.inner.resume(at, item)).await
    }

    async fn next_hint(&self) -> Hint {
        self.inner.next_hint().await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        let doing = || format!("read the console of {}", at.0);
        let call = self.inner.console_tail(at, max_bytes);
        self.in_turn(CallClass::Reads, self.deadlines.console, doing, call).await
    }

    async fn service_logs(
        &self,
        at: &ProviderRef,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<Vec<ServiceLog>, ProviderError> {
        let doing = || format!("read the services' logs of {}", at.0);
        let call = self.inner.service_logs(at, since, max_bytes);
        self.in_turn(CallClass::Reads, self.deadlines.console, doing, call).await
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
