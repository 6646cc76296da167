//! Where the bytes of logs and artifacts lie: an object store. This module opens the one that needs nothing, a directory; what is in it is
//! its callers' affair. It remembers when a disk was full, so that somebody can say so.

pub mod disk;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as Answer, UploadPart,
};
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// The directory in a master's state folder.
pub const FOLDER: &str = "objects";

/// Why a directory cannot serve.
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
    Ok(Arc::new(Objects { inner: store.with_fsync(true), folder: path.to_owned(), full: Arc::default() }))
}

/// A directory as an object store, and what is known of its disk.
#[derive(Debug)]
pub struct Objects {
    inner: LocalFileSystem,
    folder: PathBuf,
    full: Arc<Mutex<Option<Full>>>,
}

/// Something did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub since: Instant,
    /// Its bytes.
    pub wanted: u64,
}

impl Objects {
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the last thing to be written did not fit, and would still not fit now.
    #[must_use]
    pub fn full(&self) -> Option<Full> {
        let mut full = self.full.lock().expect("nothing panics while it is held");
        // Nobody may have tried since there is room again.
        let fits = |full: &Full| disk::room(&self.folder).is_some_and(|room| room.free > full.wanted);
        if full.as_ref().is_some_and(fits) {
            *full = None;
        }
        *full
    }
}

/// Notes how a write of so many bytes went.
fn note<T>(full: &Mutex<Option<Full>>, wanted: usize, done: Answer<T>) -> Answer<T> {
    let mut full = full.lock().expect("nothing panics while it is held");
    match &done {
        // A small thing may fit where a large one does not.
        Ok(_) if full.is_some_and(|full| wanted as u64 >= full.wanted.max(1)) => *full = None,
        Ok(_) => {}
        Err(error) if is_full(error) => {
            let since = full.map_or_else(Instant::now, |before| before.since);
            *full = Some(Full { since, wanted: wanted as u64 });
        }
        Err(_) => {}
    }
    done
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
        note(&self.full, wanted, self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        opts: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        let begun = self.inner.put_multipart_opts(location, opts).await;
        let inner = note(&self.full, 0, begun)?;
        Ok(Box::new(Parts { inner, full: Arc::clone(&self.full) }))
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
    full: Arc<Mutex<Option<Full>>>,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (wanted, full) = (data.content_length(), Arc::clone(&self.full));
        let part = self.inner.put_part(data);
        Box::pin(async move { note(&full, wanted, part.await) })
    }

    async fn complete(&mut self) -> Answer<PutResult> {
        let done = self.inner.complete().await;
        note(&self.full, 0, done)
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
    use object_store::ObjectStoreExt;
    use object_store::path::Path as Key;

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
