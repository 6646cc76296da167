//! The contract between the fleet and whatever makes instances.
//!
//! A [`Provider`] is one account or endpoint: its list, its rate limit and its health belong to it; pools are shapes on it, and several pools
//! share its capacity. It makes and destroys instances and says what is there. It never decides how many, never stores, never retries, and
//! knows nothing of builds, requests or the store.
//!
//! Everything is level-based and carries tokens: whoever asks twice with one token gets one instance, and whoever lost an answer finds
//! the instance again by its tag.

//!
//! [`Provider`] is the contract, [`kind`] is what a provider tells the configuration, [`offer`] is what a pool may be launched as, [`units`] are the written units that options use,
//! [`secret`] reveals what options only name, [`layers`] put deadlines, retries, batches, rates and a record around every call, [`shelf`] is for files that the master keeps on a host, [`stream`] for agents that cannot come by themselves, [`tree`] for images that are made of a project's own files, [`folder`] finds a short folder on this host that a worker can reach, and
//! `conformance` (feature `testing`) is the suite that every provider passes against its real back end.

use async_trait::async_trait;
use rouse_model::failure::FailureClass;
use rouse_model::worker::{LaunchToken, ProviderRef};
use rouse_model::{Timestamp, Trust, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "testing")]
pub mod conformance;
pub mod folder;
pub mod kind;
pub mod layers;
pub mod offer;
pub mod secret;
pub mod shelf;
pub mod stream;
pub mod tree;
pub mod units;

pub use kind::{Leaf, OptionFault, ProviderKind};
pub use offer::{Offer, Offering};
pub use secret::{Keyring, Reveal, Revealed};
pub use shelf::{Shelf, Shelves};
pub use stream::{Duplex, Streams};
pub use tree::{Tree, TreeWish};

/// One account or endpoint that makes and destroys instances.
///
/// All calls may run at the same time and may be cancelled at any await; what a cancelled call did is found again by token or tag.
/// Calls have no deadline of their own and are tried once: layers add the rest.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    fn capabilities(&self) -> Capabilities;

    /// Turns an image as the user wrote it into the id that it means now; the spec's digest is over the answer.
    /// For a provider without images the answer is a constant.
    ///
    /// # Errors
    /// [`ProviderError`] of class `Image` where it does not exist or cannot be had; with `retry_after` where time may mend it.
    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, ProviderError>;

    /// The folder on this host through which one worker reaches the master; `None` where the two share no host. Made here, so that its owner
    /// and mode fit the worker, and asked for before each launch and again after a restart of the master: same tag, same folder.
    ///
    /// The master writes `join.json` (0644) and binds `sock` (made 0666: who may reach it is decided by the folder) into it, and removes `join.json`
    /// once the agent has attached; the worker can read the folder and cannot change it. `sock` fits into a socket's address. The join document
    /// names the socket relative to itself. The folder goes with its instance; one that is left over is listed.
    ///
    /// # Errors
    /// Where it cannot be made.
    async fn link_dir(&self, tag: &Tag) -> Result<Option<PathBuf>, ProviderError>;

    /// Asks for instances. Idempotent by each item's token: a second call answers `Accepted` with the same reference, or `Died` where the
    /// instance has ended meanwhile. Answers one outcome for each item, in the order of the items.
    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome>;

    /// Everything that carries our installation's tag, of this and of earlier store epochs: instances, and side resources whose instance is
    /// not there. What came with a listed instance (its work folder, its volume) goes with it and is not listed by itself.
    ///
    /// # Errors
    /// Where the answer would not be complete: a partial list is never given out as a list.
    async fn list(&self) -> Result<Vec<Observed>, ProviderError>;

    /// What there is under one reference; `None` where the provider confirms that nothing is.
    ///
    /// # Errors
    /// Where the provider could not say.
    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError>;

    /// Destroys an instance and what came with it, or a side resource. Absent is success; an answer of `Ok` means that it is gone.
    ///
    /// # Errors
    /// Where it may still be there.
    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError>;

    /// Stops an instance and keeps what is in it, to be resumed later; where [`Capabilities::park`] says so. One that is parked is as good as parked
    /// by this call, and what was cut off half way is done by the next one. An answer of `Done` means that nothing runs in it any more.
    ///
    /// # Errors
    /// Where it may still run.
    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        Err(ProviderError::new(FailureClass::Master, format!("park {}", at.0), "this provider cannot park"))
    }

    /// Starts a parked instance again, as it was but for its agent, which joins anew: by `item`'s join document, whose token is another one than before, in the link
    /// folder where there is one. One that runs is as good as resumed by this call. Of the item nothing else may differ from its launch but the time by
    /// which it expires. What an instance did not live through is `Absent` too: where it has ended while it was not parked.
    ///
    /// # Errors
    /// Where it may not run; of a class that does not pass where it never will.
    async fn resume(&self, at: &ProviderRef, _item: &LaunchItem) -> Result<Turned, ProviderError> {
        Err(ProviderError::new(FailureClass::Master, format!("resume {}", at.0), "this provider cannot park"))
    }

    /// The next hint that something happened (a container died, a pod was evicted). Hints may be lost; nothing may depend on them.
    /// Never returns where the provider has none.
    async fn next_hint(&self) -> Hint;

    /// The last lines that an instance printed by itself, at most `max_bytes`; `None` where there is nothing to read.
    ///
    /// # Errors
    /// Where the provider could not say.
    async fn console_tail(&self, at: &ProviderRef, max_bytes: usize)
    -> Result<Option<String>, ProviderError>;

    /// What the services beside an instance have printed since a moment, or ever: of each the last `max_bytes` at most. Nothing where it has none.
    ///
    /// # Errors
    /// Where the provider could not say.
    async fn service_logs(
        &self,
        _at: &ProviderRef,
        _since: Option<Timestamp>,
        _max_bytes: usize,
    ) -> Result<Vec<ServiceLog>, ProviderError> {
        Ok(Vec::new())
    }

    /// Whether [`Self::collect`] does anything.
    fn collects(&self) -> bool {
        false
    }

    /// Removes from its host what was brought there for builds and is more than it is to keep, oldest first, but nothing that is used or whose
    /// id is among `wanted`.
    ///
    /// # Errors
    /// Where the provider could not say what is there, or it may still be.
    async fn collect(&self, _wanted: &HashSet<String>) -> Result<Vec<Collected>, ProviderError> {
        Ok(Vec::new())
    }

    /// Its host's room for files that workers read; `None` where there is none.
    fn shelves(&self) -> Option<&dyn Shelves> {
        None
    }

    /// The way to agents that cannot come by themselves; `None` where there is none.
    fn streams(&self) -> Option<&dyn Streams> {
        None
    }
}

/// What a provider can do beyond the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Pools on it have an image.
    pub images: bool,
    /// Instances end when the host that the master runs on ends, and only masters on that host may act on them.
    pub host_bound: bool,
    /// Prints something by itself that can be read after a failure.
    pub console: bool,
    /// A worker may be expected to reach networks as the host does.
    pub shares_host_network: bool,
    /// How many items of a launch are one call of the back end; 1 where each is a call of its own. More are split by the provider.
    pub largest_batch: usize,
    /// Instances can be [parked](Provider::park) and [resumed](Provider::resume).
    pub park: bool,
}

/// What came of parking or resuming an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    Done,
    /// The provider confirms that there is none, or none that could be.
    Absent,
}

/// What every provider is given when it is made.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Random, from the store; every object is tagged with it and nobody touches foreign ones.
    pub id: String,
    pub store_epoch: i64,
    /// Where agents lie: `<dir>/<os>-<arch>/rouse-agent`.
    pub agents: PathBuf,
    /// A folder of the master's own for this account's files. Exists.
    pub state: PathBuf,
    /// Other masters may share it: what lies on a host must be where each master of that host finds it.
    pub many_masters: bool,
}

impl Installation {
    /// The first letters and digits of its id, for names of objects that people read. Not unique: ownership is told by the whole tag.
    #[must_use]
    pub fn short(&self) -> String {
        self.id.chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>().to_ascii_lowercase()
    }
}

/// An image as rendered, and what else decides which one is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveRequest {
    /// In order: the first that exists is taken. Empty where it is to be made of a tree.
    pub images: Vec<String>,
    /// Those of the pool's rendered options that [`ProviderKind::resolve_keys`] names.
    pub options: Value,
    /// What reveals the secrets that the options name.
    #[serde(skip)]
    pub secrets: Keyring,
    /// What the image is made of ([`ProviderKind::tree`]).
    pub tree: Option<Tree>,
}

/// What a tag means now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The one of the asked ones that was found.
    pub image: String,
    /// Its immutable id; launches use this.
    pub id: String,
}

/// What to launch: a pool's options with all leaves rendered, and the resolved image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    pub pool: String,
    pub project: String,
    pub trust: Trust,
    /// `None` for a provider without images.
    pub image: Option<Resolved>,
    pub options: Value,
    /// Environment of the instance itself.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What reveals the secrets that the options name.
    #[serde(skip)]
    pub secrets: Keyring,
    /// What it may read of what the master keeps on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shelves: Vec<Shelf>,
    /// The images of the services beside it, by the services' names ([`ProviderKind::images_beside`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<String, Resolved>,
    /// What its image is made of, where that is not there ([`ProviderKind::tree`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

impl LaunchSpec {
    /// SHA-256 over what distinguishes one launch from another: all but the image's spelling, and what happens to lie on the host. Whose build it is and
    /// how far that is trusted decide about networks, mounts and secrets, so who remembers a launch by this never gives a stranger another's.
    #[must_use]
    pub fn digest(&self) -> String {
        use sha2::{Digest, Sha256};
        let id = self.image.as_ref().map_or("", |i| i.id.as_str());
        let mut told = vec![
            self.pool.clone().into(),
            self.project.clone().into(),
            serde_json::json!(self.trust),
            id.into(),
            self.options.clone(),
            serde_json::json!(self.env),
        ];
        told.extend(self.beside.values().map(|image| Value::from(image.id.clone())));
        let text = Value::Array(told).to_string();
        hex::encode(&Sha256::digest(text.as_bytes())[..16])
    }
}

/// One wished instance.
#[derive(Debug, Clone)]
pub struct LaunchItem {
    pub tag: Tag,
    /// The join document's bytes, for providers without a link folder ([`Provider::link_dir`]). Secret until used.
    pub join: Vec<u8>,
    /// The agent comes by a network of the worker's own.
    pub needs_network: bool,
    /// Which of what its pool may be launched as ([`ProviderKind::offers`]); an attempt's never changes. `None` where the kind has no offers.
    pub offering: Option<String>,
    /// A fixed moment after which anybody may reap the instance.
    pub expires: Timestamp,
}

/// What every object of ours carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag {
    pub installation: String,
    pub store_epoch: i64,
    pub pool: String,
    pub worker: WorkerId,
    pub name: String,
    pub token: LaunchToken,
}

impl Tag {
    /// Twelve characters for names of files and folders, derived from installation and token.
    #[must_use]
    pub fn key(&self) -> String {
        key_of(&self.installation, &self.token.0)
    }
}

/// [`Tag::key`] where only its parts are known.
#[must_use]
pub fn key_of(installation: &str, token: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(&Sha256::digest(format!("{installation}/{token}").as_bytes())[..6])
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchOutcome {
    Accepted {
        at: ProviderRef,
    },
    /// Taken, without a reference yet; the list will show it.
    Pending,
    Quota {
        scope: String,
        retry_after: Duration,
    },
    NoCapacity {
        offering: String,
    },
    Throttled {
        retry_after: Duration,
    },
    /// The image cannot be had by this account now: its registry is down, slow or has enough of us.
    NoImage {
        /// The id of the one that is missing: the spec's, or that of a service beside it.
        image: String,
        reason: String,
        retry_after: Duration,
    },
    /// Never with these inputs.
    Invalid {
        class: FailureClass,
        reason: String,
    },
    /// It started and has ended; what it printed. It is still there until it is terminated.
    Died {
        at: ProviderRef,
        reason: String,
        by: EndedBy,
        console: Option<String>,
    },
    /// Nobody knows; look it up by token before any retry.
    Unknown {
        reason: String,
    },
}

/// What a service beside an instance has printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLog {
    pub service: String,
    pub text: String,
    /// What it printed first is missing.
    pub cut: bool,
}

/// An image that a host does not have any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Its names and ids.
    pub known_as: Vec<String>,
    pub bytes: u64,
}

/// One thing of ours that a provider has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub at: ProviderRef,
    /// `None` for a side resource that belongs to the installation but to no worker.
    pub tag: Option<Tag>,
    pub state: ObservedState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservedState {
    Starting,
    Running,
    /// Stopped by [`Provider::park`], with all that is in it.
    Parked,
    /// There, but ended; how, for a person, and by what.
    Ended {
        detail: String,
        by: EndedBy,
    },
    /// A side resource: a volume, a folder. With a tag it is what is left of that worker, or was made for it before its launch; it is
    /// reaped as the worker would be.
    Resource {
        /// For a person: `volume`, `link folder`.
        kind: String,
        /// Serves the installation for as long as there is one (the agent's volume): not a leftover until the installation itself goes.
        keep: bool,
    },
}

/// By what an instance has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// By itself, by somebody, or nobody knows.
    Something,
    /// What ran in it took more memory than it has.
    Memory,
    /// Its owner wanted it back.
    Preemption,
}

/// Something may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Look at this one.
    Instance(ProviderRef),
    /// Look at everything.
    Everything,
}

/// A call that did not work, with its class. The cause is the source.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{doing}: {message}")]
pub struct ProviderError {
    pub class: FailureClass,
    /// What was being done, in lower case: `pull image debian:12`.
    pub doing: String,
    /// What the back end said, for a person.
    pub message: String,
    pub retry_after: Option<Duration>,
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl ProviderError {
    pub fn new(class: FailureClass, doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, doing: doing.into(), message: message.into(), retry_after: None, source: None }
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_for_another_trust_or_project_is_another_one() {
        let spec = LaunchSpec {
            pool: "boxes".into(),
            project: "shop".into(),
            trust: Trust::Trusted,
            image: Some(Resolved { image: "app:1".into(), id: "sha256:aa".into() }),
            options: serde_json::json!({"network": "bridge"}),
            env: BTreeMap::new(),
            secrets: Keyring::default(),
            shelves: Vec::new(),
            beside: BTreeMap::new(),
            tree: None,
        };
        let spelled = Resolved { image: "app:main".into(), id: "sha256:aa".into() };
        assert_eq!(LaunchSpec { image: Some(spelled), ..spec.clone() }.digest(), spec.digest());
        assert_ne!(LaunchSpec { trust: Trust::Untrusted, ..spec.clone() }.digest(), spec.digest());
        assert_ne!(LaunchSpec { project: "other".into(), ..spec.clone() }.digest(), spec.digest());
    }
}
