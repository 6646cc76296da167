//! The contract, kept by a cloud in memory: each call takes its time, and has what the script says done to it.

use crate::cloud::{Cloud, Fault, Wish, on};
use crate::options::{AccountOptions, PoolOptions};
use async_trait::async_trait;
use futures::future::join_all;
use rouse_contract::kind::read_options;
use rouse_contract::{
    Capabilities, Hint, LaunchItem, LaunchOutcome, LaunchSpec, Observed, ObservedState, Provider,
    ProviderError, ResolveRequest, Resolved, Tag, Turned,
};
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

const PAUSE: Duration = Duration::from_secs(5);

/// One account on a cloud.
#[derive(Debug)]
pub(crate) struct Fake {
    cloud: Arc<Cloud>,
    options: AccountOptions,
    installation: String,
    told: Mutex<HashSet<ProviderRef>>,
    /// Whether who asks has died.
    dead: Option<watch::Receiver<bool>>,
}

impl Fake {
    pub(crate) fn new(
        cloud: Arc<Cloud>,
        options: AccountOptions,
        installation: String,
        dead: Option<watch::Receiver<bool>>,
    ) -> Self {
        Self { cloud, options, installation, told: Mutex::default(), dead }
    }

    /// What a master has asked for that has died meanwhile does not come to the cloud, but for a launch that is late.
    async fn while_alive(&self) {
        if self.dead.as_ref().is_some_and(|dead| *dead.borrow()) {
            std::future::pending::<()>().await;
        }
    }

    async fn travel(&self) {
        tokio::time::sleep(self.options.latency.map_or(Duration::ZERO, |span| span.0)).await;
    }

    /// One call other than a launch, which is refused where there were too many.
    async fn ask<T>(
        &self,
        call: &'static str,
        fault: Option<Fault>,
        doing: &str,
        deed: impl FnOnce(&Cloud) -> T + Send,
    ) -> Result<T, ProviderError> {
        let fault = if self.cloud.admits(call, self.options.rate) { fault } else { Some(Fault::Throttled) };
        self.call(fault, doing, deed).await
    }

    /// One call, with what goes wrong with it.
    async fn call<T>(
        &self,
        fault: Option<Fault>,
        doing: &str,
        deed: impl FnOnce(&Cloud) -> T + Send,
    ) -> Result<T, ProviderError> {
        match fault {
            Some(Fault::Unheard) => std::future::pending().await,
            Some(Fault::Throttled) => {
                self.travel().await;
                let error = ProviderError::new(FailureClass::Throttle, doing, "too many calls");
                return Err(error.retry_after(PAUSE));
            }
            Some(Fault::Late(by)) => tokio::time::sleep(by).await,
            _ => {}
        }
        self.travel().await;
        self.while_alive().await;
        let answer = deed(&self.cloud);
        match fault {
            Some(Fault::Unanswered) => std::future::pending().await,
            Some(Fault::Broken) => {
                Err(ProviderError::new(FailureClass::Offering, doing, "the connection broke"))
            }
            _ => Ok(answer),
        }
    }

    /// By one call of the cloud.
    async fn launch_some(
        &self,
        options: &PoolOptions,
        image: &str,
        items: &[LaunchItem],
    ) -> Vec<LaunchOutcome> {
        if !self.cloud.admits(on::LAUNCH, self.options.rate) {
            self.travel().await;
            return vec![LaunchOutcome::Throttled { retry_after: PAUSE }; items.len()];
        }
        join_all(items.iter().map(|item| self.launch_one(options, image, item))).await
    }

    async fn launch_one(&self, options: &PoolOptions, image: &str, item: &LaunchItem) -> LaunchOutcome {
        if !options.sells(item.offering.as_deref()) {
            let reason = format!("the pool does not offer {:?}", item.offering);
            return LaunchOutcome::Invalid { class: FailureClass::Master, reason };
        }
        let offering = item.offering.clone().unwrap_or_else(|| "fake".into());
        let fault = self.cloud.fault(on::LAUNCH);
        let refused = match fault {
            Some(Fault::NoCapacity) => Some(LaunchOutcome::NoCapacity { offering: offering.clone() }),
            Some(Fault::Quota) => {
                Some(LaunchOutcome::Quota { scope: "instances".into(), retry_after: PAUSE })
            }
            Some(Fault::NoImage) => Some(LaunchOutcome::NoImage {
                image: image.to_owned(),
                reason: "the image is not there".into(),
                retry_after: PAUSE,
            }),
            _ => None,
        };
        if let Some(refused) = refused {
            self.travel().await;
            return refused;
        }
        let wish = Wish::of(item, options.boot(), options.resume());
        if let Some(Fault::Late(by)) = fault {
            // On its way, whatever becomes of the caller.
            self.cloud.launch_later(wish.clone(), by);
        }
        let capacity = self.options.capacity;
        match self.call(fault, "launch", move |cloud| cloud.launch(wish, capacity)).await {
            Ok(None) => LaunchOutcome::NoCapacity { offering },
            Ok(Some((Observed { at, state: ObservedState::Ended { detail: reason, by }, .. }, console))) => {
                LaunchOutcome::Died { at, reason, by, console: Some(console) }
            }
            Ok(Some((Observed { at, .. }, _))) => LaunchOutcome::Accepted { at },
            Err(error) if error.class == FailureClass::Throttle => {
                LaunchOutcome::Throttled { retry_after: PAUSE }
            }
            Err(error) => LaunchOutcome::Unknown { reason: error.to_string() },
        }
    }

    /// One that ended and was not told of, or how long there is none.
    fn next_end(&self) -> Result<ProviderRef, Option<Duration>> {
        let (over, next) = self.cloud.ends(&self.installation);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        over.into_iter().find(|at| told.insert(at.clone())).ok_or(next)
    }
}

fn lag_of(fault: Option<Fault>) -> Duration {
    if let Some(Fault::Lags(by)) = fault { by } else { Duration::ZERO }
}

fn turned(is_there: bool) -> Turned {
    if is_there { Turned::Done } else { Turned::Absent }
}

#[async_trait]
impl Provider for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            images: true,
            host_bound: false,
            console: true,
            shares_host_network: false,
            largest_batch: self.options.batch(),
            park: true,
        }
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        let images = request.images.clone();
        let found = |cloud: &Cloud| images.iter().find(|name| cloud.has_image(name)).cloned();
        let doing = format!("resolve image {}", request.images.join(", "));
        let found = self.call(self.cloud.fault(on::RESOLVE), &doing, found).await?;
        let image =
            found.ok_or_else(|| ProviderError::new(FailureClass::Image, &doing, "there is no such image"))?;
        let id = format!("id of {image}");
        Ok(Resolved { image, id })
    }

    async fn link_dir(&self, _tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        Ok(None)
    }

    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        self.while_alive().await;
        match read_options::<PoolOptions>(&spec.options) {
            Ok(options) => {
                let image = spec.image.as_ref().map_or("", |image| &image.id);
                let some = |items| self.launch_some(&options, image, items);
                let calls = items.chunks(self.options.batch()).map(some);
                join_all(calls).await.concat()
            }
            Err(fault) => {
                let (class, reason) = (FailureClass::User, fault.message);
                vec![LaunchOutcome::Invalid { class, reason }; items.len()]
            }
        }
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        let fault = self.cloud.fault(on::LIST);
        self.ask(on::LIST, fault, "list instances", |cloud| cloud.list(&self.installation, lag_of(fault)))
            .await
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        let fault = self.cloud.fault(on::INSPECT);
        let look = |cloud: &Cloud| cloud.list(&self.installation, lag_of(fault));
        let all = self.ask(on::INSPECT, fault, &format!("inspect {}", at.0), look).await?;
        Ok(all.into_iter().find(|seen| seen.at == *at))
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        let remove = |cloud: &Cloud| cloud.remove(&self.installation, at);
        let fault = self.cloud.fault(on::TERMINATE);
        self.ask(on::TERMINATE, fault, &format!("terminate {}", at.0), remove).await
    }

    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        let park = |cloud: &Cloud| cloud.park(&self.installation, at);
        let fault = self.cloud.fault(on::PARK);
        Ok(turned(self.ask(on::PARK, fault, &format!("park {}", at.0), park).await?))
    }

    async fn resume(&self, at: &ProviderRef, item: &LaunchItem) -> Result<Turned, ProviderError> {
        let resume = |cloud: &Cloud| cloud.resume(&self.installation, at, &item.join);
        let fault = self.cloud.fault(on::RESUME);
        Ok(turned(self.ask(on::RESUME, fault, &format!("resume {}", at.0), resume).await?))
    }

    async fn next_hint(&self) -> Hint {
        loop {
            let changed = self.cloud.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.next_end() {
                Ok(_) if self.cloud.fault(on::HINT).is_some() => {}
                Ok(at) => return Hint::Instance(at),
                Err(Some(next)) => {
                    // Whichever comes first: both are looked at again.
                    let _ = tokio::time::timeout(next, changed).await;
                }
                Err(None) => changed.await,
            }
        }
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        let console = self.cloud.console(&self.installation, at);
        Ok(console.map(|text| text[text.len().saturating_sub(max_bytes)..].to_owned()))
    }
}
