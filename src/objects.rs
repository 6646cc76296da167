//! Where the bytes of logs and artifacts lie: an object store. This module opens the one that needs nothing, a directory; what is in it is
//! its callers' affair.

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
pub fn directory(path: &Path) -> Result<Arc<dyn ObjectStore>, ObjectsError> {
    std::fs::create_dir_all(path).map_err(|source| ObjectsError::Make { path: path.to_owned(), source })?;
    remove_abandoned(path, SystemTime::now());
    let store = LocalFileSystem::new_with_prefix(path)
        .map_err(|source| ObjectsError::Open { path: path.to_owned(), source })?;
    Ok(Arc::new(store.with_fsync(true)))
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
