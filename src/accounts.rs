//! Provider accounts, connected once for each set of options. Config names them, the fleet launches on them, the agent link asks them for folders.
//!
//! An account whose options change stays reachable under its old ones, for the workers that were launched with those.

use crate::config::{Config, ProviderConfig};
use crate::metrics::Metrics;
use rouse_contract::layers::{
    self, CallEnd, CallKind, CallRecord, CallSink, Chance, Deadlines, Pace, Rates, Setup,
};
use rouse_contract::{Installation, Provider, ProviderError, ProviderKind};
use rouse_model::failure::FailureClass;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// An account whose list is older does not answer.
const SILENCE: Duration = Duration::from_secs(15);

/// Connected accounts by name and options.
#[derive(Debug)]
pub struct Accounts {
    kinds: Vec<Arc<dyn ProviderKind>>,
    installation: Installation,
    connected: Mutex<HashMap<(String, String), Connected>>,
    /// By account, whatever its options are: its owner counts its calls together.
    paces: Mutex<HashMap<String, Arc<Pace>>>,
    chance: Chance,
    under_way: TaskTracker,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Connected {
    provider: Arc<dyn Provider>,
    pulse: Arc<Pulse>,
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
        Self {
            kinds,
            installation,
            connected: Mutex::default(),
            paces: Mutex::default(),
            chance: Chance::none(),
            under_way: TaskTracker::new(),
            metrics: Arc::default(),
        }
    }

    /// Has all calls counted there.
    #[must_use]
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// Spreads what is tried again: elsewhere nobody tries at the same time, or all is to happen again as it did.
    #[must_use]
    pub fn by_chance(self) -> Self {
        Self { chance: Chance::new(rand::random::<f64>), ..self }
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
        let key = key(name, account);
        let mut connected = self.connected.lock().expect("nothing panics while it is held");
        if let Some(Connected { provider, .. }) = connected.get(&key) {
            return Ok(Account { name: name.to_owned(), provider: Arc::clone(provider) });
        }
        let kind = self.kind(&account.kind).ok_or_else(unknown)?;
        let installation = Installation { state: self.folder(name)?, ..self.installation.clone() };
        let provider = kind.connect(name, &account.options, &installation)?;
        let pulse = Arc::new(Pulse { beat: Mutex::default(), metrics: Arc::clone(&self.metrics) });
        let setup = Setup {
            deadlines: Deadlines::default(),
            pace: self.pace(name, account.rate),
            chance: self.chance.clone(),
            sink: Arc::clone(&pulse) as _,
        };
        let provider = layers::around(provider, name, setup);
        connected.insert(key, Connected { provider: Arc::clone(&provider), pulse });
        Ok(Account { name: name.to_owned(), provider })
    }

    fn pace(&self, name: &str, rates: Rates) -> Arc<Pace> {
        let mut paces = self.paces.lock().expect("nothing panics while it is held");
        Arc::clone(paces.entry(name.to_owned()).or_insert_with(|| Arc::new(Pace::new(rates))))
    }

    /// Asks accounts as fast as the configuration that holds now says, by whichever one they were connected.
    pub fn keep_rates(&self, config: &Config) {
        for (name, account) in &config.providers {
            self.pace(name.as_str(), account.rate).set(account.rate);
        }
    }

    /// Whether an account of a configuration was asked what it has, and has not said so lately.
    #[must_use]
    pub fn is_away(&self, config: &Config, name: &str) -> bool {
        let account = config.providers.iter().find(|(known, _)| known.as_str() == name);
        let Some(key) = account.map(|(_, account)| key(name, account)) else { return false };
        let connected = self.connected.lock().expect("nothing panics while it is held");
        connected.get(&key).is_some_and(|connected| connected.pulse.is_lost())
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
            .map(|((name, _), c)| Account { name: name.clone(), provider: Arc::clone(&c.provider) })
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

/// One connection: its account's name and options.
fn key(name: &str, account: &ProviderConfig) -> (String, String) {
    (name.to_owned(), format!("{}{}", account.kind, account.options))
}

/// Takes the records of an account's calls: for the metrics, and for whether it answers, which its list tells, since whoever looks after it asks for
/// that every few seconds.
#[derive(Debug)]
struct Pulse {
    beat: Mutex<Beat>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Beat {
    /// Its last good answer; before that, when it was connected.
    heard: Instant,
    failed: bool,
}

impl Default for Beat {
    fn default() -> Self {
        Self { heard: Instant::now(), failed: false }
    }
}

impl Pulse {
    fn is_lost(&self) -> bool {
        let beat = self.beat.lock().expect("nothing panics while it is held");
        beat.failed || beat.heard.elapsed() > SILENCE
    }

    fn beat(&self, good: bool) {
        let mut beat = self.beat.lock().expect("nothing panics while it is held");
        beat.failed = !good;
        if good {
            beat.heard = Instant::now();
        }
    }
}

impl CallSink for Pulse {
    fn record(&self, account: &str, call: CallRecord) {
        if call.kind == CallKind::List && call.end != CallEnd::Dropped {
            self.beat(call.end == CallEnd::Done);
        }
        self.metrics.called(account, &call);
        if let CallEnd::Failed(class) = call.end {
            tracing::debug!(account, call = call.kind.as_str(), class = class.as_str(), took = ?call.took, "a provider's call failed");
        }
    }
}
