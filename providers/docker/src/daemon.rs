//! One daemon and the few calls to it that stand for themselves. Knows nothing of workers.

use crate::failure::{Doing, Failed};
use crate::limits;
use crate::options::TlsOptions;
use crate::ssh;
use bollard::errors::Error;
use bollard::query_parameters::{CreateImageOptions, RemoveImageOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::TryStreamExt;
use rouse_contract::ProviderError;
use rouse_model::failure::FailureClass;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Where a daemon answers that nobody has said anything about.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Seconds until an answer begins. Long: a busy daemon is slow to remove a container, and the caller has deadlines of its own.
const PATIENCE: u64 = 300;

/// For what a daemon answers out of its head. One that takes longer does not answer at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A Docker daemon. Nothing is sent until the first call.
#[derive(Debug, Clone)]
pub struct Daemon {
    host: Arc<str>,
    scheme: Scheme,
    tls: Option<Arc<TlsOptions>>,
    /// Made by the first call that reaches the daemon, when both know which version of the interface to speak.
    client: Arc<OnceCell<Docker>>,
    /// Once it has said so.
    keeps_limits: Arc<OnceCell<()>>,
    is_podman: Arc<OnceCell<bool>>,
}

impl Daemon {
    /// The daemon that `DOCKER_HOST` names, else the one of this host.
    ///
    /// # Errors
    /// Where `DOCKER_HOST` is not an address that is known here.
    pub fn from_environment() -> Result<Self, ProviderError> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut daemon = Self::at(set("DOCKER_HOST").as_deref().unwrap_or(DEFAULT_HOST))?;
        if let (Scheme::Tcp, Some(_), Some(folder)) =
            (daemon.scheme, set("DOCKER_TLS_VERIFY"), set("DOCKER_CERT_PATH").map(PathBuf::from))
        {
            let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.join(name));
            daemon.tls = Some(Arc::new(TlsOptions { ca, cert, key }));
        }
        Ok(daemon)
    }

    /// The daemon that answers at an address: `unix:///PATH`, `tcp://HOST:PORT`, `http://HOST:PORT` or `ssh://USER@HOST`.
    ///
    /// # Errors
    /// Where that is not an address that is known here.
    pub fn at(host: &str) -> Result<Self, ProviderError> {
        let scheme = Scheme::of(host).ok_or_else(|| {
            let message = "the address must begin with unix://, tcp:// or ssh://";
            ProviderError::new(FailureClass::Master, format!("use the Docker daemon {host}"), message)
        })?;
        Ok(Self {
            host: host.into(),
            scheme,
            tls: None,
            client: Arc::default(),
            keeps_limits: Arc::default(),
            is_podman: Arc::default(),
        })
    }

    #[must_use]
    pub(crate) fn with_tls(mut self, tls: Option<TlsOptions>) -> Self {
        self.tls = tls.map(Arc::new);
        self
    }

    /// Whether it is on the master's host.
    pub(crate) fn is_here(&self) -> bool {
        self.scheme == Scheme::Unix
    }

    /// Whether it may enter what is the master's alone, so that a worker can reach the master through a folder. One that another user runs, as
    /// a rootless one, may not, and its workers are treated as those of another host.
    pub(crate) fn has_our_files(&self) -> bool {
        let path = self.host.strip_prefix("unix://").map(Path::new);
        path.is_some_and(|socket| match owner(socket) {
            Some(0) | None => true,
            Some(owner) => Some(owner) == owner_of(Path::new("/proc/self")),
        })
    }

    /// Its address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The client for a call.
    pub(crate) async fn api(&self) -> Result<&Docker, Failed> {
        let connect = async { self.client()?.negotiate_version().await };
        soon(async { Ok(self.client.get_or_try_init(|| connect).await?) }).await
    }

    fn client(&self) -> Result<Docker, Error> {
        let version = API_DEFAULT_VERSION;
        match (self.scheme, self.tls.as_deref()) {
            (Scheme::Unix, _) => Docker::connect_with_unix(&self.host, PATIENCE, version),
            (Scheme::Tcp, Some(TlsOptions { ca, cert, key })) => {
                Docker::connect_with_ssl(&self.host, key, cert, ca, PATIENCE, version)
            }
            (Scheme::Tcp, None) => Docker::connect_with_http(&self.host, PATIENCE, version),
            (Scheme::Ssh, _) => ssh::connect(&self.host, PATIENCE, version),
        }
    }

    /// Which limits it says that it cannot keep. Asked until it keeps all: somebody may give it what it needs.
    pub(crate) async fn without(&self) -> Result<Vec<&'static str>, Failed> {
        if self.keeps_limits.initialized() {
            return Ok(Vec::new());
        }
        let without = limits::without(&soon(async { Ok(self.api().await?.info().await?) }).await?);
        if without.is_empty() {
            // Another call may have come to the same.
            let _ = self.keeps_limits.set(());
        }
        Ok(without)
    }

    /// The platform of its own, `linux/amd64`.
    pub(crate) async fn platform(&self) -> Result<String, Failed> {
        let version = soon(async { Ok(self.api().await?.version().await?) }).await?;
        let part = |said: Option<String>, otherwise: &str| said.unwrap_or_else(|| otherwise.to_owned());
        Ok(format!("{}/{}", part(version.os, "linux"), part(version.arch, "amd64")))
    }

    /// Whether it only speaks as Docker does.
    pub(crate) async fn is_podman(&self) -> Result<bool, Failed> {
        let ask = async {
            let version = soon(async { Ok(self.api().await?.version().await?) }).await?;
            Ok(version.components.iter().flatten().any(|part| part.name.starts_with("Podman")))
        };
        self.is_podman.get_or_try_init(|| ask).await.copied()
    }

    /// The daemon's version, for a person.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn version(&self) -> Result<String, ProviderError> {
        let ask = async { Ok::<_, Failed>(self.api().await?.version().await?) };
        let answer = ask.await.doing(|| format!("ask the Docker daemon {} for its version", self.host))?;
        Ok(answer.version.unwrap_or_else(|| "of an unknown version".into()))
    }

    /// Makes an image of a root file system.
    ///
    /// # Errors
    /// Where the daemon does not take it.
    pub async fn import_image(&self, name: &str, tar: Vec<u8>) -> Result<(), ProviderError> {
        self.import(name, tar, Vec::new()).await.doing(|| format!("import image {name}"))
    }

    /// As [`Self::import_image`]; `changes` are lines as in a Dockerfile.
    pub(crate) async fn import(&self, name: &str, tar: Vec<u8>, changes: Vec<String>) -> Result<(), Failed> {
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            // With its tag: one that is said by itself Podman does not hear.
            repo: Some(name.into()),
            changes,
            ..Default::default()
        };
        let body = bollard::body_full(tar.into());
        self.api()
            .await?
            .create_image(Some(options), Some(body), None)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(())
    }

    /// Removes an image by its name or id. Absent is success.
    ///
    /// # Errors
    /// Where it may still be there.
    pub async fn remove_image(&self, name: &str) -> Result<(), ProviderError> {
        let options = RemoveImageOptions { force: true, ..Default::default() };
        let remove = async {
            self.api().await?.remove_image(name, Some(options), None).await.map(|_| ()).map_err(Failed::from)
        };
        match remove.await {
            Err(failed) if failed.is_absent() => Ok(()),
            answer => answer.doing(|| format!("remove image {name}")),
        }
    }
}

/// Whose a socket is. While it is not there, whose folder it will be in.
fn owner(socket: &Path) -> Option<u32> {
    socket.ancestors().find_map(owner_of)
}

fn owner_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|found| found.uid())
}

/// A daemon that takes connections and says nothing is as good as away.
pub(crate) async fn soon<T>(call: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::time::timeout(SOON, call).await.unwrap_or(Err(Failed::Call(Error::RequestTimeoutError)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Unix,
    Tcp,
    Ssh,
}

impl Scheme {
    /// `None` for what is no address of a daemon.
    pub(crate) fn of(host: &str) -> Option<Self> {
        match host.split_once("://")? {
            ("unix", path) if path.starts_with('/') => Some(Self::Unix),
            ("tcp" | "http", address) if !address.is_empty() => Some(Self::Tcp),
            ("ssh", address) if !address.is_empty() => Some(Self::Ssh),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_of_another_user_has_not_our_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("daemon.sock");
        let has = || Daemon::at(&format!("unix://{}", socket.display())).expect("an address").has_our_files();
        assert!(has(), "nothing is there, in a folder of ours");
        std::fs::write(&socket, "").expect("written");
        assert!(has());
        // Only root can give a file away.
        if std::os::unix::fs::chown(&socket, Some(4711), None).is_ok() {
            assert!(!has());
        }
        assert!(Daemon::at("unix:///nonexistent/no.sock").expect("an address").has_our_files());
        assert!(!Daemon::at("tcp://127.0.0.1:2375").expect("an address").has_our_files());
    }

    #[test]
    fn only_known_addresses_are_taken() {
        for fine in ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:2375", "ssh://ci@host"] {
            assert_eq!(Daemon::at(fine).expect(fine).host(), fine);
        }
        for wrong in ["", "docker.sock", "unix://", "unix://docker.sock", "tcp://", "ssh://", "npipe://x"] {
            let error = Daemon::at(wrong).expect_err(wrong);
            assert_eq!(error.class, FailureClass::Master, "{wrong}");
        }
    }
}
