//! What is put around every provider, so that no provider writes it again. From the outside to the inside:
//!
//! 1. [`Watched`]: a record of each call, as its caller saw it;
//! 2. [`Deadlined`]: each call comes back in its time, whatever keeps it: the back end, its turn, or that it is tried again;
//! 3. [`Retried`]: looks and ends that failed for a moment are tried again;
//! 4. [`Batched`]: launches of one spec become one call, where the provider takes several;
//! 5. [`Limited`]: each call of the back end waits for its turn, by rates that give way where the account has enough.
//!
//! In tests a sixth one makes faults: `Faulty`, around the provider itself.
//!
//! A layer is a provider over a provider. Layers own no state of the provider's and never answer for it: a call that was cut off says so,
//! and what it did is found again by token or tag.

mod batch;
mod deadline;
#[cfg(feature = "testing")]
mod fault;
mod limit;
mod rate;
mod retry;
mod watch;

pub use batch::Batched;
pub use deadline::{Deadlined, Deadlines};
#[cfg(feature = "testing")]
pub use fault::{Fault, Faulty};
pub use limit::Limited;
pub use rate::{CallClass, Pace, Rates};
pub use retry::{Chance, Retried};
pub use watch::{CallEnd, CallKind, CallRecord, CallSink, Watched};

use crate::Provider;
use std::sync::Arc;

/// What the layers of one account are made with.
#[derive(Debug, Clone)]
pub struct Setup {
    pub deadlines: Deadlines,
    /// Of the account, whichever of its connections is asked.
    pub pace: Arc<Pace>,
    pub chance: Chance,
    pub sink: Arc<dyn CallSink>,
}

/// All layers in their order.
#[must_use]
pub fn around(provider: Arc<dyn Provider>, account: &str, setup: Setup) -> Arc<dyn Provider> {
    let Setup { deadlines, pace, chance, sink } = setup;
    let limited = Limited::new(provider, Arc::clone(&pace), deadlines);
    let batched = Batched::new(Arc::new(limited), pace);
    let retried = Retried::new(Arc::new(batched), deadlines, chance);
    Arc::new(Watched::new(Arc::new(Deadlined::new(Arc::new(retried), deadlines)), account, sink))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Capabilities, Hint, LaunchItem, LaunchOutcome, LaunchSpec, Observed, ProviderError, ResolveRequest,
        Resolved, Tag,
    };
    use rouse_model::failure::FailureClass;
    use rouse_model::worker::{LaunchToken, ProviderRef};
    use rouse_model::{Timestamp, Trust, WorkerId};
    use std::path::PathBuf;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    /// A back end that takes calls and never answers, but for its list.
    #[derive(Debug)]
    struct Hanging;

    #[async_trait::async_trait]
    impl Provider for Hanging {
        fn capabilities(&self) -> Capabilities {
            Capabilities {
                images: true,
                host_bound: false,
                console: false,
                shares_host_network: false,
                largest_batch: 1,
                park: false,
            }
        }
        async fn resolve(&self, _: &ResolveRequest) -> Result<Resolved, ProviderError> {
            std::future::pending().await
        }
        async fn link_dir(&self, _: &Tag) -> Result<Option<PathBuf>, ProviderError> {
            std::future::pending().await
        }
        async fn launch(&self, _: &LaunchSpec, _: &[LaunchItem]) -> Vec<LaunchOutcome> {
            std::future::pending().await
        }
        async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
            Err(ProviderError::new(FailureClass::Auth, "list", "forbidden"))
        }
        async fn inspect(&self, _: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
            std::future::pending().await
        }
        async fn terminate(&self, _: &ProviderRef) -> Result<(), ProviderError> {
            std::future::pending().await
        }
        async fn next_hint(&self) -> Hint {
            Hint::Everything
        }
        async fn console_tail(&self, _: &ProviderRef, _: usize) -> Result<Option<String>, ProviderError> {
            std::future::pending().await
        }
    }

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<CallRecord>>);

    impl CallSink for Kept {
        fn record(&self, account: &str, call: CallRecord) {
            assert_eq!(account, "here");
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        }
    }

    fn tag() -> Tag {
        Tag {
            installation: "i".into(),
            store_epoch: 1,
            pool: "p".into(),
            worker: WorkerId(1),
            name: "p-1".into(),
            token: LaunchToken("t".into()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_comes_back_and_is_recorded() {
        let sink = Arc::new(Kept::default());
        let setup = Setup {
            deadlines: Deadlines::default(),
            pace: Arc::new(Pace::new(Rates::default())),
            chance: Chance::none(),
            sink: Arc::clone(&sink) as _,
        };
        let provider = around(Arc::new(Hanging), "here", setup);
        let (at, limits) = (ProviderRef("x".into()), Deadlines::default());
        let request = ResolveRequest {
            images: vec!["a:1".into()],
            options: serde_json::Value::Null,
            secrets: crate::Keyring::default(),
            tree: None,
        };
        let spec = LaunchSpec {
            pool: "p".into(),
            project: "d".into(),
            trust: Trust::Trusted,
            image: None,
            options: serde_json::Value::Null,
            env: [].into(),
            secrets: crate::Keyring::default(),
            shelves: Vec::new(),
            beside: [].into(),
            tree: None,
        };
        let item = LaunchItem {
            tag: tag(),
            join: vec![],
            needs_network: false,
            offering: None,
            expires: Timestamp(0),
        };
        let late = provider.resolve(&request).await.expect_err("late");
        assert_eq!(
            (late.class, late.to_string().as_str()),
            (FailureClass::Offering, "resolve image a:1: no answer within 30m")
        );
        assert!(provider.link_dir(&tag()).await.is_err());
        let outcomes = provider.launch(&spec, &[item.clone(), item]).await;
        let unknown = LaunchOutcome::Unknown { reason: "no answer within 2m".into() };
        assert_eq!(outcomes, [unknown.clone(), unknown]);
        assert!(provider.list().await.is_err());
        assert!(provider.inspect(&at).await.is_err());
        assert!(provider.terminate(&at).await.is_err());
        assert!(provider.console_tail(&at, 1).await.is_err());
        assert_eq!(provider.next_hint().await, Hint::Everything);
        // One that the caller gave up.
        let given_up = tokio::time::timeout(Duration::from_secs(1), provider.terminate(&at)).await;
        assert!(given_up.is_err());
        let kept = sink.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = CallEnd::Failed(FailureClass::Offering);
        let expected = [
            (CallKind::Resolve, limits.resolve, failed.clone()),
            (CallKind::LinkDir, limits.link_dir, failed.clone()),
            (CallKind::Launch, limits.launch, CallEnd::Launched { asked: 2, accepted: 0 }),
            (CallKind::List, Duration::ZERO, CallEnd::Failed(FailureClass::Auth)),
            (CallKind::Inspect, limits.inspect, failed.clone()),
            (CallKind::Terminate, limits.terminate, failed.clone()),
            (CallKind::Console, limits.console, failed),
            (CallKind::Terminate, Duration::from_secs(1), CallEnd::Dropped),
        ];
        assert_eq!(kept.len(), expected.len(), "{kept:#?}");
        for (record, (kind, took, end)) in kept.iter().zip(expected) {
            assert_eq!((record.kind, &record.end), (kind, &end));
            assert_eq!(record.took.as_secs(), took.as_secs(), "{kind:?}");
        }
    }
}
