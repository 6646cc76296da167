//! Where the bytes of logs and artifacts lie: an object store. This module opens it, a directory that needs nothing or a bucket that speaks S3; what
//! is in it is its callers' affair. It remembers what keeps it from being written, so that somebody can say so.

mod bucket;
mod direct;
pub mod disk;
mod http;
mod keys;

pub use bucket::{Bucket, mend, said};
pub use direct::{GOOD_FOR, MOST, Signed, Stored};
pub use keys::{Keys, KeysOf, pair};

use crate::config::ObjectsConfig;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as Answer, UploadPart,
};
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// The directory in a master's state folder.
pub const FOLDER: &str = "objects";
/// The file in a state folder that says in which bucket the objects are, for the verbs that know no configuration.
const ELSEWHERE: &str = "objects.url";

/// Why a place cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    #[error("make the directory {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("open the directory {path} as an object store")]
    Open {
        path: PathBuf,
        #[source]
        source: object_store::Error,
    },
    #[error("open the bucket {url} as an object store")]
    Bucket {
        url: String,
        #[source]
        source: object_store::Error,
    },
    #[error("trust a bucket's server")]
    Authorities(#[from] crate::tls_client::AuthoritiesError),
    #[error("note in {path} where the objects are")]
    Note {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// A half-written file of a process that was killed is removed once it is so old that nobody can still be writing it.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A directory as an object store. What it has answered is on the disk: the file and the folders above it are flushed first.
///
/// # Errors
/// Where the directory cannot be made or opened.
pub fn directory(path: &Path) -> Result<Arc<Objects>, ObjectsError> {
    std::fs::create_dir_all(path).map_err(|source| ObjectsError::Make { path: path.to_owned(), source })?;
    remove_abandoned(path, SystemTime::now());
    let store = LocalFileSystem::new_with_prefix(path)
        .map_err(|source| ObjectsError::Open { path: path.to_owned(), source })?;
    let inner = Box::new(store.with_fsync(true));
    Ok(Arc::new(Objects { inner, place: Place::Folder(path.to_owned()), watch: Watch::default() }))
}

/// A bucket as an object store. It is not asked yet.
///
/// # Errors
/// Where it cannot be opened by what is said of it.
pub fn bucket(config: &ObjectsConfig, keys: Arc<dyn Keys>) -> Result<Arc<Objects>, ObjectsError> {
    let (bucket, inner) = Bucket::open(config, keys)?;
    let watch = Watch { is_remote: true, ..Watch::default() };
    Ok(Arc::new(Objects { inner, place: Place::Bucket(bucket), watch }))
}

/// Notes in a state folder in which bucket the objects are, or that they are in none.
///
/// # Errors
/// Where it cannot be written.
pub fn note_place(state: &Path, objects: &Objects) -> Result<(), ObjectsError> {
    let path = state.join(ELSEWHERE);
    let noted = match &objects.place {
        Place::Bucket(bucket) => std::fs::write(&path, format!("{}\n", bucket.config().url)),
        Place::Folder(_) => match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        },
    };
    noted.map_err(|source| ObjectsError::Note { path, source })
}

/// The bucket in which a master of this state folder has its objects, if it has them in one.
#[must_use]
pub fn noted_bucket(state: &Path) -> Option<String> {
    let text = std::fs::read_to_string(state.join(ELSEWHERE)).ok()?;
    Some(text.trim().to_owned()).filter(|url| !url.is_empty())
}

/// An object store, and what is known to be wrong with it.
#[derive(Debug)]
pub struct Objects {
    inner: Box<dyn ObjectStore>,
    place: Place,
    watch: Watch,
}

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Bucket(Bucket),
}

/// What keeps it from being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In a word, as long as it is the same.
    pub kind: &'static str,
    /// Lower case, no full stop.
    pub message: String,
    pub since: Instant,
}

/// Looks at how writes go.
#[derive(Debug, Clone, Default)]
struct Watch {
    is_remote: bool,
    wrong: Arc<Mutex<Option<Wrong>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wrong {
    /// Something of so many bytes did not fit.
    Full {
        since: Instant,
        wanted: u64,
    },
    Away {
        since: Instant,
        why: String,
    },
}

impl Objects {
    /// The bucket, if it is one.
    #[must_use]
    pub fn bucket(&self) -> Option<&Bucket> {
        match &self.place {
            Place::Bucket(bucket) => Some(bucket),
            Place::Folder(_) => None,
        }
    }

    /// Whether the last thing to be written could not be, and for all that is known could still not be now.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        let mut wrong = self.watch.lock();
        match (&self.place, wrong.clone()?) {
            (Place::Folder(folder), Wrong::Full { since, wanted }) => {
                // Nobody may have tried since there is room again.
                if disk::room(folder).is_some_and(|room| room.free > wanted) {
                    *wrong = None;
                    return None;
                }
                Some(Trouble { kind: "full", message: disk::full("the log store", folder, wanted), since })
            }
            (Place::Bucket(bucket), Wrong::Away { since, why }) => {
                let seconds = since.elapsed().as_secs();
                let message = format!(
                    "the log store ({bucket}) cannot be written for {seconds} s now; what is to be written waits: {why}"
                );
                Some(Trouble { kind: "away", message, since })
            }
            _ => None,
        }
    }

    /// Writes, reads and removes something small.
    ///
    /// # Errors
    /// Where one of them fails.
    pub async fn probe(&self, name: &str) -> Answer<()> {
        let key = Key::from(format!("probe/{name}"));
        self.put(&key, PutPayload::from_static(b"probe")).await?;
        self.get(&key).await?.bytes().await?;
        self.delete(&key).await
    }
}

impl Watch {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Wrong>> {
        self.wrong.lock().expect("nothing panics while it is held")
    }

    /// Notes how a write of so many bytes went.
    fn note<T>(&self, wanted: usize, done: Answer<T>) -> Answer<T> {
        let done = if self.is_remote { bucket::written(done) } else { done };
        let mut wrong = self.lock();
        let before = match &*wrong {
            Some(Wrong::Full { since, .. } | Wrong::Away { since, .. }) => Some(*since),
            None => None,
        };
        let since = before.unwrap_or_else(Instant::now);
        match (&done, &*wrong) {
            (Ok(_), None) => {}
            // A small thing may fit where a large one does not.
            (Ok(_), Some(Wrong::Full { wanted: before, .. })) if (wanted as u64) < (*before).max(1) => {}
            (Ok(_), Some(_)) => *wrong = None,
            (Err(error), _) if is_full(error) => *wrong = Some(Wrong::Full { since, wanted: wanted as u64 }),
            (Err(error), _) if self.is_remote && bucket::is_away(error) => {
                *wrong = Some(Wrong::Away { since, why: bucket::said(error) });
            }
            (Err(_), _) => {}
        }
        done
    }
}

fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(kind, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(&self, location: &Key, payload: PutPayload, opts: PutOptions) -> Answer<PutResult> {
        let wanted = payload.content_length();
        self.watch.note(wanted, self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        opts: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        let begun = self.inner.put_multipart_opts(location, opts).await;
        let inner = self.watch.note(0, begun)?;
        Ok(Box::new(Parts { inner, watch: self.watch.clone() }))
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Answer<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Answer<Key>>) -> BoxStream<'static, Answer<Key>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Answer<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Answer<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Answer<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An object that comes in parts.
#[derive(Debug)]
struct Parts {
    inner: Box<dyn MultipartUpload>,
    watch: Watch,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (wanted, watch) = (data.content_length(), self.watch.clone());
        let part = self.inner.put_part(data);
        Box::pin(async move { watch.note(wanted, part.await) })
    }

    async fn complete(&mut self) -> Answer<PutResult> {
        let done = self.inner.complete().await;
        self.watch.note(0, done)
    }

    async fn abort(&mut self) -> Answer<()> {
        self.inner.abort().await
    }
}

/// A file in the making has the name that it will have, `#` and a number; no object of ours has a `#` in its name.
fn remove_abandoned(folder: &Path, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            remove_abandoned(&entry.path(), now);
        } else if entry.file_name().to_string_lossy().contains('#')
            && meta.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > ABANDONED))
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(%error, file = %entry.path().display(), "a half-written file could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn half_written_files_go_and_objects_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = directory(dir.path()).unwrap();
        store.put(&Key::from("a/b"), "kept".into()).await.unwrap();
        let half = dir.path().join("a/c#1");
        std::fs::write(&half, "half").unwrap();
        let store = directory(dir.path()).unwrap();
        assert!(half.exists(), "somebody may be writing it");
        let file = std::fs::File::options().write(true).open(&half).unwrap();
        file.set_modified(SystemTime::now() - ABANDONED * 2).unwrap();
        directory(dir.path()).unwrap();
        assert!(!half.exists());
        assert_eq!(store.get(&Key::from("a/b")).await.unwrap().bytes().await.unwrap(), "kept");
    }
}
