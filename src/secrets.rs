//! References into values: late, for each build, and only for the trusted builds that a secret is bound to. Values are never stored.

mod file;
mod pools;
mod value;
mod vault;

use crate::config::{Config, SecretSource};
use rouse_model::Trust;
use std::path::{Path, PathBuf};

pub use file::FileError;
pub use pools::keyring;
pub use value::SecretValue;
pub use vault::VaultError;

/// What systemd tells a service of the folder with its credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Why a secret was not handed out. Never says a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("secret `{0}` is not configured")]
    Unknown(String),
    #[error("secret `{0}` is for trusted builds only, and this one is not")]
    Untrusted(String),
    #[error("secret `{0}` is not bound to this builder or project")]
    OutOfReach(String),
    #[error("secret `{name}` is not for project `{project}`")]
    OtherProject { name: String, project: String },
    #[error("secret `{name}`: {path}")]
    File {
        name: String,
        path: PathBuf,
        #[source]
        source: FileError,
    },
    #[error("secret `{name}`: the master's environment has no {variable}")]
    NoVariable { name: String, variable: String },
    #[error(
        "secret `{name}`: systemd gave the master no credentials ({CREDENTIALS} is not set); its unit wants LoadCredential={credential}:PATH"
    )]
    NoCredentials { name: String, credential: String },
    #[error(
        "secret `{name}`: systemd gave the master no credential {path}; its unit wants LoadCredential={credential}:PATH"
    )]
    NoCredential { name: String, credential: String, path: PathBuf },
    #[error("secret `{name}`: {path} of the Vault at {address}")]
    Vault {
        name: String,
        path: String,
        address: String,
        #[source]
        source: Box<VaultError>,
    },
    #[error("secret `{name}`: the configuration has no `server.vault`")]
    NoVault { name: String },
    #[error("secret `{0}` is empty")]
    Empty(String),
}

impl SecretError {
    /// The build may not see it, as opposed to: it cannot be had.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unknown(_) | Self::Untrusted(_) | Self::OutOfReach(_) | Self::OtherProject { .. }
        )
    }

    /// Time mends it: whoever keeps the secret does not answer.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Vault { source, .. } if source.is_away())
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
        fetch_for_master(config, name).await
    }
}

/// A secret's value for the master's own use: a key to fetch a repository with.
///
/// # Errors
/// Where it cannot be had.
pub async fn fetch_for_master(config: &Config, name: &str) -> Result<SecretValue, SecretError> {
    let unknown = || SecretError::Unknown(name.to_owned());
    let (_, secret) = config.secrets.iter().find(|(n, _)| n.as_str() == name).ok_or_else(unknown)?;
    let text = match &secret.source {
        SecretSource::File(path) => read(name, path)?,
        SecretSource::Env(variable) => std::env::var(variable.as_str())
            .map_err(|_| SecretError::NoVariable { name: name.to_owned(), variable: variable.to_string() })?,
        SecretSource::Credential(credential) => {
            credential_of(name, credential, std::env::var_os(CREDENTIALS).as_deref().map(Path::new))?
        }
        SecretSource::Vault(place) => {
            let Some(vault) = &config.server.vault else {
                return Err(SecretError::NoVault { name: name.to_owned() });
            };
            // Boxed: its state is no part of every build's.
            Box::pin(vault::read(vault, place)).await.map_err(|source| SecretError::Vault {
                name: name.to_owned(),
                path: format!("`{}` in `{}`", place.path, place.mount),
                address: vault.address.to_string(),
                source: Box::new(source),
            })?
        }
    };
    let value = text.strip_suffix('\n').unwrap_or(&text);
    if value.is_empty() { Err(SecretError::Empty(name.to_owned())) } else { Ok(SecretValue::new(value)) }
}

fn read(name: &str, path: &Path) -> Result<String, SecretError> {
    file::read(path).map_err(|source| SecretError::File {
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    })
}

/// A file in the folder that systemd made for the master alone.
fn credential_of(name: &str, credential: &str, folder: Option<&Path>) -> Result<String, SecretError> {
    let (name, credential) = (name.to_owned(), credential.to_owned());
    let Some(folder) = folder else { return Err(SecretError::NoCredentials { name, credential }) };
    let path = folder.join(&credential);
    if !path.exists() {
        return Err(SecretError::NoCredential { name, credential, path });
    }
    read(&name, &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn credentials_come_from_the_folder_that_systemd_made() {
        let dir = tempfile::tempdir().unwrap();
        let said = |folder| credential_of("signing", "sign.key", folder).unwrap_err().to_string();
        assert_eq!(
            said(None),
            "secret `signing`: systemd gave the master no credentials (CREDENTIALS_DIRECTORY is not set); its unit wants \
             LoadCredential=sign.key:PATH"
        );
        assert!(said(Some(dir.path())).contains("no credential /"), "{}", said(Some(dir.path())));
        let path = dir.path().join("sign.key");
        std::fs::write(&path, "value").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(credential_of("signing", "sign.key", Some(dir.path())).unwrap(), "value");
    }
}
