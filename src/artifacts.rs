//! Files kept from builds: taken in as streams, kept in the object store, named by rows.
//!
//! A file is an artifact once its row is there; bytes whose row never came are removed by whoever sees the failure, and are of no harm where
//! nobody does. It trusts no agent: paths, sizes and hashes are checked. Large ones may go to a bucket past the master ([`direct`]).

mod broken;
mod direct;
#[cfg(test)]
mod tests;

use crate::ctx::Clock;
use crate::objects::Objects;
use broken::{Broken, Part, Taking};
use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, WriteMultipart};
use rouse_agent_protocol::{MAX_PATH_BYTES, MAX_PROPERTIES_BYTES, MAX_UPLOAD_BYTES, MAX_UPLOAD_FILES};
use rouse_model::build::Build;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::logs::Artifact;
use rouse_model::{ArtifactId, BuildId, StepId};
use rouse_store::{Batch, CommitError, ReadError, Store};
use std::sync::Arc;
use std::time::Duration;

/// How long a file that has arrived waits for its row, less than an agent waits for an answer; and how often that is tried.
const RECORD: Duration = Duration::from_secs(45);
const RECORD_AGAIN: Duration = Duration::from_millis(500);
/// Sets that the master keeps for itself begin with this.
const HIDDEN: char = '.';
/// The hidden set of archives that are to be caches; they are small no more than other files are.
pub const CACHE: &str = ".cache";

/// A file on its way in.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub build: BuildId,
    pub step: StepId,
    pub set: String,
    /// Relative to where the upload began.
    pub path: String,
    /// What the sender says its SHA-256 is, hex.
    pub sha256: Option<String>,
    /// The first byte that is sent; what comes before it is here already.
    pub from: u64,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The sender's doing.
    #[error("{0}")]
    Refused(String),
    #[error("the sender broke off: {0}")]
    Broken(String),
    #[error("keep the file")]
    Objects(#[from] object_store::Error),
    #[error("read the record")]
    Read(#[from] ReadError),
    #[error("record the file")]
    Commit(#[from] CommitError),
}

impl ReceiveError {
    /// A store is away: the same may succeed once it is back.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Broken(_) | Self::Objects(object_store::Error::NotFound { .. }) => false,
            Self::Objects(_) => true,
            Self::Read(error) => error.is_away(),
            Self::Commit(error) => matches!(error, CommitError::Unavailable { .. }),
        }
    }
}

/// The artifact service; clones share it.
#[derive(Debug, Clone)]
pub struct Artifacts {
    store: Store,
    objects: Arc<Objects>,
    clock: Arc<dyn Clock>,
    broken: Arc<Broken>,
    ledger: Arc<direct::Ledger>,
}

impl Artifacts {
    #[must_use]
    pub fn new(store: Store, objects: Arc<Objects>, clock: Arc<dyn Clock>) -> Self {
        Self { store, objects, clock, broken: Arc::default(), ledger: Arc::default() }
    }

    /// Takes a file, or the rest of one whose sender broke off. A file that came before under the same name of the same set is replaced.
    ///
    /// # Errors
    /// See [`ReceiveError`]; nothing is recorded then. After [`ReceiveError::Broken`] the sender may go on from [`Artifacts::received`].
    pub async fn receive<E: std::fmt::Display>(
        &self,
        incoming: Incoming,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Artifact, ReceiveError> {
        let build = self.build_of(&incoming).await?;
        let most = self.room(&incoming).await?;
        let mut taking = self.begin_or_go_on(&incoming).await?;
        let (id, key, bytes, sha256) = match taking.take(&incoming, body, most).await {
            Ok(()) => self.store.deed("artifact.put", taking.finish(&incoming)).await?,
            // Kept for a while, should the sender come back.
            Err(error @ ReceiveError::Broken(_)) => return Err(error),
            Err(error) => {
                taking.abort().await;
                return Err(error);
            }
        };
        let artifact = Artifact {
            id,
            build: incoming.build,
            step: incoming.step,
            set: incoming.set,
            path: incoming.path,
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            sha256,
            key,
            created: self.clock.now(),
        };
        self.record_patiently(&artifact, &build.project).await?;
        Ok(artifact)
    }

    /// The build that a file is of, where it may have one more now.
    async fn build_of(&self, incoming: &Incoming) -> Result<Build, ReceiveError> {
        check_path(&incoming.path)?;
        let build = self.store.build(incoming.build).await?;
        let build = build.filter(|b| b.finished.is_none());
        let build =
            build.ok_or_else(|| ReceiveError::Refused(format!("build {} does not run", incoming.build)))?;
        // What a step has kept is settled with its end, whoever still has its token.
        let step = self.store.step(incoming.step).await?;
        if step.is_none_or(|step| step.build != build.id || step.finished.is_some()) {
            return Err(ReceiveError::Refused(format!("step {} does not run", incoming.step)));
        }
        Ok(build)
    }

    fn key(&self, build: BuildId, id: ArtifactId) -> String {
        format!("artifacts/{}/{build}/{id}", self.store.facts().store_epoch)
    }

    /// The bytes are here, perhaps many: a database that is away for a while is waited for. Where it stays away they go, as the sender will send
    /// them again.
    async fn record_patiently(&self, artifact: &Artifact, project: &str) -> Result<(), ReceiveError> {
        let late = tokio::time::Instant::now() + RECORD;
        loop {
            match self.record(artifact, project).await {
                Err(error) if error.is_away() && tokio::time::Instant::now() < late => {
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
                Err(error) if error.is_away() => {
                    let _ = self.objects.delete(&Key::from(artifact.key.as_str())).await;
                    return Err(error);
                }
                done => return done,
            }
        }
    }

    /// How many bytes there are of a file whose sender broke off.
    #[must_use]
    pub fn received(&self, incoming: &Incoming) -> Option<u64> {
        self.broken.bytes(incoming)
    }

    async fn begin_or_go_on(&self, incoming: &Incoming) -> Result<Taking, ReceiveError> {
        for old in self.broken.expired() {
            old.abort().await;
        }
        let before = self.broken.take(incoming);
        if incoming.from > 0 {
            let fits = |part: &Part| part.fits(incoming);
            let gone = || {
                ReceiveError::Broken(format!("{} is not here up to byte {}", incoming.path, incoming.from))
            };
            return before
                .filter(fits)
                .map(|part| Taking::new(part, incoming, &self.broken))
                .ok_or_else(gone);
        }
        if let Some(before) = before {
            before.abort().await;
        }
        let id: ArtifactId = self.store.next_id().await?;
        let key = self.key(incoming.build, id);
        let upload = WriteMultipart::new(self.objects.put_multipart(&Key::from(key.as_str())).await?);
        Ok(Taking::new(Part::new(id, key, upload, incoming.sha256.clone()), incoming, &self.broken))
    }

    /// How many bytes a file may have.
    async fn room(&self, incoming: &Incoming) -> Result<u64, ReadError> {
        if is_small(&incoming.set) {
            return Ok(MAX_PROPERTIES_BYTES);
        }
        let kept = self.store.artifacts(incoming.build).await?;
        let others = kept.iter().filter(|a| a.step == incoming.step && a.path != incoming.path);
        let bytes: u64 = others.map(|a| a.bytes.unsigned_abs()).fold(0, u64::saturating_add);
        Ok(MAX_UPLOAD_BYTES.saturating_sub(bytes))
    }

    async fn record(&self, artifact: &Artifact, project: &str) -> Result<(), ReceiveError> {
        let kept = self.store.artifacts(artifact.build).await?;
        let is_same = |a: &Artifact| a.set == artifact.set && a.path == artifact.path;
        let others: Vec<&Artifact> = kept.iter().filter(|a| a.step == artifact.step && !is_same(a)).collect();
        let bytes = others.iter().map(|a| a.bytes.unsigned_abs()).fold(0, u64::saturating_add);
        // An agent of ours counts them itself; what is on the other end may be anything, and send several at a time.
        let beyond = if others.len() >= MAX_UPLOAD_FILES {
            Some(format!("a step keeps at most {MAX_UPLOAD_FILES} files"))
        } else if bytes.saturating_add(artifact.bytes.unsigned_abs()) > MAX_UPLOAD_BYTES {
            Some(format!("the files of a step have at most {MAX_UPLOAD_BYTES} bytes"))
        } else {
            None
        };
        if let Some(why) = beyond {
            let _ = self.objects.delete(&Key::from(artifact.key.as_str())).await;
            return Err(ReceiveError::Refused(why));
        }
        let before = kept.iter().find(|a| is_same(a)).cloned();
        let mut batch = Batch::new("artifact.keep");
        if let Some(before) = &before {
            batch.delete(before);
        }
        batch.insert(artifact);
        if !is_hidden(artifact) {
            batch.event(NewEvent {
                kind: EventKind::ArtifactKept,
                version: 1,
                subject: format!("artifact/{}", artifact.id),
                project: project.to_owned(),
                at: artifact.created,
                payload: serde_json::json!({
                    "build": artifact.build, "set": artifact.set, "path": artifact.path, "bytes": artifact.bytes,
                }),
            });
        }
        self.store.commit(batch).await?;
        if let Some(before) = before
            && let Err(error) = self.objects.delete(&Key::from(before.key)).await
        {
            tracing::warn!(%error, "a replaced artifact's bytes could not be removed");
        }
        Ok(())
    }

    /// An artifact's bytes from an offset on; `None` where it is not kept any more.
    ///
    /// # Errors
    /// Where the store or the object store cannot be reached.
    pub async fn open(
        &self,
        id: ArtifactId,
        from: u64,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, object_store::Error>>>, ReceiveError> {
        let Some(artifact) = self.store.artifact(id).await? else { return Ok(None) };
        self.open_object(&artifact.key, from).await
    }

    /// The same of any object; `None` where it is not there.
    ///
    /// # Errors
    /// Where the object store cannot be reached.
    pub async fn open_object(
        &self,
        key: &str,
        from: u64,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, object_store::Error>>>, ReceiveError> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        let options = GetOptions { range, ..GetOptions::default() };
        match self.objects.get_opts(&Key::from(key), options).await {
            Ok(found) => Ok(Some(found.into_stream())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All bytes of an artifact: for small ones.
    ///
    /// # Errors
    /// Where it is not kept any more, or the object store cannot be reached.
    pub async fn bytes(&self, artifact: &Artifact) -> Result<Bytes, ReceiveError> {
        Ok(self.objects.get(&Key::from(artifact.key.as_str())).await?.bytes().await?)
    }

    /// Removes objects that no row names any more. One that cannot be removed is of no harm, and said.
    pub async fn remove_objects(&self, keys: Vec<String>) {
        for key in keys {
            match self.objects.delete(&Key::from(key.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, key, "an object that is not wanted could not be removed")
                }
            }
        }
    }

    /// The one small file of a step's set, which is not kept any longer: `batch` takes its row away, and once that is true its bytes go, which may
    /// be what no log may show.
    ///
    /// # Errors
    /// Where it is not there, or is not small.
    pub async fn take_small(
        &self,
        build: BuildId,
        step: StepId,
        set: &str,
        batch: &mut Batch,
    ) -> Result<Bytes, ReceiveError> {
        let kept = self.store.artifacts(build).await?;
        let found = kept.into_iter().find(|a| a.step == step && a.set == set);
        let found = found.ok_or_else(|| ReceiveError::Refused("no file arrived".into()))?;
        if found.bytes.unsigned_abs() > MAX_PROPERTIES_BYTES {
            return Err(ReceiveError::Refused(format!(
                "{} has more than {MAX_PROPERTIES_BYTES} bytes",
                found.path
            )));
        }
        let bytes = self.bytes(&found).await?;
        let key = Key::from(found.key.as_str());
        batch.delete(&found);
        let objects = Arc::clone(&self.objects);
        batch.after_commit(move || {
            let (objects, key) = (Arc::clone(&objects), key.clone());
            crate::supervisor::spawn("artifact-removal", async move {
                if let Err(error) = objects.delete(&key).await {
                    tracing::warn!(%error, %key, "a file that was read could not be removed");
                }
            });
        });
        Ok(bytes)
    }
}

/// What the master keeps for itself, and shows to nobody.
#[must_use]
pub fn is_hidden(artifact: &Artifact) -> bool {
    artifact.set.starts_with(HIDDEN)
}

/// Sets of small files, which the master reads itself.
fn is_small(set: &str) -> bool {
    set.starts_with(HIDDEN) && set != CACHE
}

/// Relative, without `..` and the like: it is shown, and unpacked on other workers.
fn check_path(path: &str) -> Result<(), ReceiveError> {
    let fine = !path.is_empty()
        && path.len() <= MAX_PATH_BYTES
        && !path.starts_with('/')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    let shown: String = path.chars().take(100).collect();
    if fine {
        Ok(())
    } else {
        Err(ReceiveError::Refused(format!("{shown:?} is not a path that can be kept")))
    }
}
