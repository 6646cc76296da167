//! References into values: late, for each build, and only for the trusted builds that a secret is bound to. Values are never stored.

mod value;

use crate::config::{Config, SecretSource};
use rouse_model::Trust;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use value::SecretValue;

/// Longer values are no secrets that a person has written.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a secret was not handed out. Never says a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("secret `{0}` is not configured")]
    Unknown(String),
    #[error("secret `{0}` is for trusted builds only, and this one is not")]
    Untrusted(String),
    #[error("secret `{0}` is not bound to this builder or project")]
    OutOfReach(String),
    #[error("secret `{name}`: read {path}")]
    File {
        name: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("secret `{name}`: {path} can be read by everybody (mode {mode:o}); run: chmod o-rwx {path}")]
    Mode { name: String, path: PathBuf, mode: u32 },
    #[error("secret `{name}`: {path} has more than {MAX_BYTES} bytes")]
    Long { name: String, path: PathBuf },
    #[error("secret `{0}`: the value is not text")]
    NotText(String),
    #[error("secret `{name}`: the master's environment has no {variable}")]
    NoVariable { name: String, variable: String },
    #[error("secret `{0}` is empty")]
    Empty(String),
}

impl SecretError {
    /// The build may not see it, as opposed to: it cannot be had.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Untrusted(_) | Self::OutOfReach(_))
    }

    /// Time mends it: whoever keeps the secret does not answer.
    #[must_use]
    pub fn is_away(&self) -> bool {
        false
    }
}

/// Fetches secrets.
#[derive(Debug, Default)]
pub struct Secrets {
    _private: (),
}

impl Secrets {
    /// A secret's value for one build, fetched now.
    ///
    /// # Errors
    /// Where the build may not see it, or it cannot be had.
    pub async fn fetch(
        &self,
        config: &Config,
        name: &str,
        builder: &str,
        project: &str,
        trust: Trust,
    ) -> Result<SecretValue, SecretError> {
        let unknown = || SecretError::Unknown(name.to_owned());
        let (_, secret) = config.secrets.iter().find(|(n, _)| n.as_str() == name).ok_or_else(unknown)?;
        if trust != Trust::Trusted {
            return Err(SecretError::Untrusted(name.to_owned()));
        }
        if !secret.reach.covers(project, Some(builder)) {
            return Err(SecretError::OutOfReach(name.to_owned()));
        }
        read_for_master(config, name)
    }
}

/// A secret's value for the master's own use: a key to fetch a repository with.
///
/// # Errors
/// Where it cannot be had.
pub fn read_for_master(config: &Config, name: &str) -> Result<SecretValue, SecretError> {
    let unknown = || SecretError::Unknown(name.to_owned());
    let (_, secret) = config.secrets.iter().find(|(n, _)| n.as_str() == name).ok_or_else(unknown)?;
    let text = match &secret.source {
        SecretSource::File(path) => read(name, path)?,
        SecretSource::Env(variable) => std::env::var(variable.as_str())
            .map_err(|_| SecretError::NoVariable { name: name.to_owned(), variable: variable.to_string() })?,
    };
    let value = text.strip_suffix('\n').unwrap_or(&text).to_owned();
    if value.is_empty() { Err(SecretError::Empty(name.to_owned())) } else { Ok(SecretValue::new(value)) }
}

fn read(name: &str, path: &Path) -> Result<String, SecretError> {
    let failed = |source| SecretError::File { name: name.to_owned(), path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(failed)?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(SecretError::Mode { name: name.to_owned(), path: path.to_owned(), mode });
    }
    if meta.len() > MAX_BYTES {
        return Err(SecretError::Long { name: name.to_owned(), path: path.to_owned() });
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| SecretError::NotText(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "value\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read("key", &path), Err(SecretError::Mode { mode: 0o644, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read("key", &path).unwrap(), "value\n");
    }
}
