//! Provider accounts, connected once for each set of options. Config names them, the fleet launches on them, the agent link asks them for folders.
//!
//! An account whose options change stays reachable under its old ones, for the workers that were launched with those.

use crate::config::Config;
use rouse_contract::layers::{self, CallEnd, CallRecord, CallSink, Deadlines};
use rouse_contract::{Installation, Provider, ProviderError, ProviderKind};
use rouse_model::failure::FailureClass;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio_util::task::TaskTracker;

/// Connected accounts by name and options.
#[derive(Debug)]
pub struct Accounts {
    kinds: Vec<Arc<dyn ProviderKind>>,
    installation: Installation,
    connected: Mutex<HashMap<(String, String), Arc<dyn Provider>>>,
    under_way: TaskTracker,
}

/// One account, with its name.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    pub provider: Arc<dyn Provider>,
}

impl Accounts {
    /// `installation.state` is the folder below which each account gets its own.
    #[must_use]
    pub fn new(kinds: Vec<Arc<dyn ProviderKind>>, installation: Installation) -> Self {
        Self { kinds, installation, connected: Mutex::default(), under_way: TaskTracker::new() }
    }

    #[must_use]
    pub fn kinds(&self) -> &[Arc<dyn ProviderKind>] {
        &self.kinds
    }

    #[must_use]
    pub fn kind(&self, name: &str) -> Option<&Arc<dyn ProviderKind>> {
        self.kinds.iter().find(|k| k.name() == name)
    }

    /// An account of a configuration.
    ///
    /// # Errors
    /// Where the configuration has no such account, or its options cannot work on this host.
    pub fn get(&self, config: &Config, name: &str) -> Result<Account, ProviderError> {
        let unknown = || {
            ProviderError::new(
                FailureClass::Master,
                format!("find provider `{name}`"),
                "it is not configured",
            )
        };
        let (_, account) = config.providers.iter().find(|(n, _)| n.as_str() == name).ok_or_else(unknown)?;
        let key = (name.to_owned(), format!("{}{}", account.kind, account.options));
        let mut connected = self.connected.lock().expect("nothing panics while it is held");
        if let Some(provider) = connected.get(&key) {
            return Ok(Account { name: name.to_owned(), provider: Arc::clone(provider) });
        }
        let kind = self.kind(&account.kind).ok_or_else(unknown)?;
        let installation = Installation { state: self.folder(name)?, ..self.installation.clone() };
        let provider = kind.connect(name, &account.options, &installation)?;
        let provider = layers::around(provider, name, Deadlines::default(), Arc::new(LogFailures));
        connected.insert(key, Arc::clone(&provider));
        Ok(Account { name: name.to_owned(), provider })
    }

    /// Runs a call to its end, also where whoever waits for it is stopped: a call that is let go of half way may still have an effect
    /// later, when nobody looks any more. `None` where it panicked, or was not begun since [`Self::at_rest`] was called.
    pub async fn to_its_end<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let counted = self.under_way.token();
        if self.under_way.is_closed() {
            return None;
        }
        crate::supervisor::spawn("provider-call", async move {
            let _counted = counted;
            // Where nobody waits any more the answer is of no use.
            let _ = tell.send(call.await);
        });
        told.await.ok()
    }

    /// Lets no further call begin, and waits until none is under way.
    pub async fn at_rest(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// All accounts that are connected now, each once.
    #[must_use]
    pub fn all(&self) -> Vec<Account> {
        let connected = self.connected.lock().expect("nothing panics while it is held");
        connected
            .iter()
            .map(|((name, _), p)| Account { name: name.clone(), provider: Arc::clone(p) })
            .collect()
    }

    fn folder(&self, name: &str) -> Result<PathBuf, ProviderError> {
        let folder = self.installation.state.join(name);
        std::fs::create_dir_all(&folder).map_err(|e| {
            let doing = format!("make the folder {}", folder.display());
            ProviderError::new(FailureClass::Master, doing, e.to_string()).caused_by(e)
        })?;
        Ok(folder)
    }
}

/// Until there are metrics: calls that failed leave a line.
#[derive(Debug)]
struct LogFailures;

impl CallSink for LogFailures {
    fn record(&self, account: &str, call: CallRecord) {
        if let CallEnd::Failed(class) = call.end {
            tracing::debug!(account, call = call.kind.as_str(), class = class.as_str(), took = ?call.took, "a provider's call failed");
        }
    }
}
