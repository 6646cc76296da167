//! What is derived from the installation's key: join tokens, launch tokens, worker names. The key is a 0600 file on each master, never in
//! the database, so a stolen backup joins nobody.

use hmac::{Hmac, KeyInit, Mac};
use rouse_model::WorkerId;
use rouse_model::worker::{LaunchToken, Worker};
use sha2::Sha256;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const LENGTH: usize = 32;

/// Why the key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("read or make the installation's key {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the installation's key {path} has {found} bytes and not {LENGTH}; restore it, or remove it and all workers with it"
    )]
    Length { path: PathBuf, found: usize },
    #[error("the installation's key {path} can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Mode { path: PathBuf, mode: u32 },
}

/// The installation's secret.
#[derive(Clone)]
pub struct InstallationKey([u8; LENGTH]);

impl fmt::Debug for InstallationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstallationKey(…)")
    }
}

impl InstallationKey {
    /// Reads the key, or makes it where there is none.
    ///
    /// # Errors
    /// Where it cannot be read or made, or others could read it.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        match std::fs::File::open(path) {
            Ok(mut file) => {
                let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(KeyError::Mode { path: path.to_owned(), mode });
                }
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(io)?;
                let found = bytes.len();
                bytes.try_into().map(Self).map_err(|_| KeyError::Length { path: path.to_owned(), found })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key: [u8; LENGTH] = rand::random();
                let half = path.with_extension("new");
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&half)
                    .map_err(io)?;
                file.write_all(&key).and_then(|()| file.sync_all()).map_err(io)?;
                std::fs::rename(&half, path).map_err(io)?;
                Ok(Self(key))
            }
            Err(error) => Err(io(error)),
        }
    }

    #[must_use]
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    fn mac(&self, purpose: &str, facts: &[&str]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(purpose.as_bytes());
        for fact in facts {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            mac.update(&(fact.len() as u64).to_be_bytes());
            mac.update(fact.as_bytes());
        }
        mac
    }

    /// Secret bytes for one purpose, always the same.
    #[must_use]
    pub fn seed(&self, purpose: &str) -> [u8; LENGTH] {
        self.mac(purpose, &[]).finalize().into_bytes().into()
    }

    /// A hex tag over a purpose and facts.
    #[must_use]
    pub fn sign(&self, purpose: &str, facts: &[&str]) -> String {
        hex::encode(self.mac(purpose, facts).finalize().into_bytes())
    }

    /// Whether a tag is ours, compared in constant time.
    #[must_use]
    pub fn verify(&self, purpose: &str, facts: &[&str], tag: &str) -> bool {
        hex::decode(tag).is_ok_and(|tag| self.mac(purpose, facts).verify_slice(&tag).is_ok())
    }

    /// Secret; lets one worker join, until it is resumed the next time.
    #[must_use]
    pub fn join_token(&self, facts: &rouse_store::Facts, worker: &Worker) -> String {
        let facts = join_facts(facts, worker);
        self.sign("join", &facts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[must_use]
    pub fn is_join_token(&self, facts: &rouse_store::Facts, worker: &Worker, token: &str) -> bool {
        let facts = join_facts(facts, worker);
        self.verify("join", &facts.iter().map(String::as_str).collect::<Vec<_>>(), token)
    }
}

/// What tells one agent of an installation from all others, those of the same instance among them.
fn join_facts(facts: &rouse_store::Facts, worker: &Worker) -> Vec<String> {
    let mut told = vec![
        facts.installation.clone(),
        facts.store_epoch.to_string(),
        worker.id.to_string(),
        worker.attempt.to_string(),
    ];
    if worker.resumes > 0 {
        told.push(worker.resumes.to_string());
    }
    told
}

/// Public; makes a launch idempotent.
#[must_use]
pub fn launch_token(installation: &str, epoch: i64, worker: WorkerId, attempt: i64) -> LaunchToken {
    use sha2::Digest;
    let text = format!("launch/{installation}/{epoch}/{worker}/{attempt}");
    LaunchToken(hex::encode(&Sha256::digest(text.as_bytes())[..16]))
}

/// What every object of a worker carries.
#[must_use]
pub fn tag(facts: &rouse_store::Facts, worker: &Worker) -> rouse_contract::Tag {
    rouse_contract::Tag {
        installation: facts.installation.clone(),
        store_epoch: facts.store_epoch,
        pool: worker.pool.clone(),
        worker: worker.id,
        name: worker.name.clone(),
        token: launch_token(&facts.installation, facts.store_epoch, worker.id, worker.attempt),
    }
}

/// The socket at which a worker's agent waits for the streams that its master opens.
#[must_use]
pub fn opened_socket(tag: &rouse_contract::Tag) -> String {
    format!("rouse-{}", tag.key())
}

/// `POOL-xxxx`, from the launch token, and unique by the worker's number where four letters would not be.
#[must_use]
pub fn worker_name(pool: &str, token: &LaunchToken, worker: WorkerId) -> String {
    let letters: String = token.0.chars().take(4).collect();
    format!("{pool}-{letters}{worker}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::worker::{Link, Phase, ProviderRef};

    #[test]
    fn tokens_depend_on_every_fact() {
        let key = InstallationKey::from_bytes([7; LENGTH]);
        let facts = |store_epoch| rouse_store::Facts { installation: "i".into(), store_epoch };
        let worker = |id, attempt, resumes| {
            let worker =
                crate::api::tests::seed::worker(id, Phase::Up { at: ProviderRef("p".into()) }, Link::Never);
            Worker { attempt, resumes, ..worker }
        };
        let token = key.join_token(&facts(1), &worker(2, 1, 0));
        assert!(key.is_join_token(&facts(1), &worker(2, 1, 0), &token));
        assert!(!key.is_join_token(&facts(2), &worker(2, 1, 0), &token));
        assert!(!key.is_join_token(&facts(1), &worker(3, 1, 0), &token));
        assert!(!key.is_join_token(&facts(1), &worker(2, 2, 0), &token));
        assert!(!key.is_join_token(&facts(1), &worker(2, 1, 1), &token), "of one that was resumed");
        assert!(!key.is_join_token(
            &facts(1),
            &worker(2, 1, 1),
            &key.join_token(&facts(1), &worker(2, 1, 2))
        ));
        assert!(!InstallationKey::from_bytes([8; LENGTH]).is_join_token(&facts(1), &worker(2, 1, 0), &token));
        assert!(!key.is_join_token(&facts(1), &worker(2, 1, 0), "not hex"));
        assert_ne!(launch_token("i", 1, WorkerId(1), 1), launch_token("i", 2, WorkerId(1), 1));
    }

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("installation.key");
        let made = InstallationKey::load_or_make(&path).unwrap();
        assert_eq!(made.0, InstallationKey::load_or_make(&path).unwrap().0);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(InstallationKey::load_or_make(&path), Err(KeyError::Mode { mode: 0o644, .. })));
    }
}
