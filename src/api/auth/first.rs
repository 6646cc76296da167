//! The first token: made when an installation has none, and left in a file that its owner alone can read. It is never logged.

use super::{fingerprint, fresh_token};
use rouse_model::config_revision::ApiToken;
use rouse_model::{Timestamp, TokenId};
use rouse_store::{Batch, CommitError, ReadError, Store};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Its name in the state folder.
pub const TOKEN_FILE: &str = "admin.token";

/// Why there is no first token.
#[derive(Debug, thiserror::Error)]
pub enum FirstTokenError {
    #[error("write the first token to {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("read the tokens")]
    Read(#[from] ReadError),
    #[error("record the first token")]
    Commit(#[from] CommitError),
}

/// Makes the first token where there is none; says where it lies if it was made here.
///
/// The file is written aside first and gets its name once the token is on record: killed in between, the next start goes on from there.
///
/// # Errors
/// Where the file or the store cannot be written.
pub async fn ensure_first_token(
    store: &Store,
    state: &Path,
    now: Timestamp,
) -> Result<Option<PathBuf>, FirstTokenError> {
    let path = state.join(TOKEN_FILE);
    let aside = state.join(format!("{TOKEN_FILE}.new"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FirstTokenError::File { path, source }
    };
    let known = store.api_tokens().await?;
    if !known.is_empty() {
        let half = std::fs::read_to_string(&aside).unwrap_or_default();
        let ours = fingerprint(half.trim_end());
        if known.iter().any(|token| token.sha256 == ours) {
            std::fs::rename(&aside, &path).map_err(failed(&path))?;
            return Ok(Some(path));
        }
        return Ok(None);
    }
    let token = fresh_token();
    write_private(&aside, &token).map_err(failed(&aside))?;
    let record = ApiToken {
        id: store.next_id::<TokenId>().await?,
        name: "admin".into(),
        sha256: fingerprint(&token),
        role: "admin".into(),
        project: String::new(),
        created: now,
    };
    let mut batch = Batch::new("first_token");
    batch.insert(&record);
    match store.commit(batch).await {
        Ok(()) => {
            std::fs::rename(&aside, &path).map_err(failed(&path))?;
            Ok(Some(path))
        }
        // Another master of the installation was faster; its file holds the token.
        Err(error) if error.is_duplicate() => {
            std::fs::remove_file(&aside).map_err(failed(&aside))?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn write_private(path: &Path, token: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}
