//! What keeps an installation sound over the years: backups and their return, the doctor, and retention. It must not know builds, nor any provider by name.

mod backup;
pub mod doctor;
mod manifest;
mod restore;
pub mod retention;

pub use backup::{Backup, back_up};
pub use manifest::{Manifest, SUMS};
pub use restore::{Restore, Restored, is_half_restored, mark, restore};

use rouse_store::backup::BackupError;
use std::path::PathBuf;

/// Why a backup could not be made or put back.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    #[error("{what} {path}")]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Database(#[from] BackupError),
    #[error("{path} is not empty; a backup is a folder of its own")]
    NotEmpty { path: PathBuf },
    #[error("the backup {path} is not whole: {why}")]
    Broken { path: PathBuf, why: String },
    #[error("another backup is being made of {path}")]
    Busy { path: PathBuf },
    #[error("{place} holds an installation already; --replace throws it away for the backup's")]
    Occupied { place: String },
    #[error("{0}")]
    Refused(String),
}

fn file_error(what: &'static str, path: &std::path::Path) -> impl Fn(std::io::Error) -> UpkeepError {
    let path = path.to_owned();
    move |source| UpkeepError::File { what, path: path.clone(), source }
}

/// For work on many files, which blocks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UpkeepError> + Send + 'static,
) -> Result<T, UpkeepError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| UpkeepError::Refused(format!("the work broke off: {error}")))?
}
