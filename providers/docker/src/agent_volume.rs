//! The agent in a volume of its own, from which every container has it: one for each installation, account and build of the agent.
//!
//! It is filled by the agent itself: an image that holds nothing else writes itself into the volume and renames. So a half-filled volume
//! holds no agent, and filling twice harms nobody. A file in the account's folder says which volume is filled, by its time of creation.

use crate::console;
use crate::container;
use crate::daemon::Daemon;
use crate::failure::Failed;
use crate::labels::{Owner, Part};
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::{RemoveContainerOptions, WaitContainerOptions};
use futures::TryStreamExt;
use rouse_contract::Installation;
use rouse_model::failure::FailureClass;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What of the agent's output is told where it could not be installed.
const SAID: usize = 2048;

#[derive(Debug)]
pub(crate) struct AgentVolumes {
    agents: PathBuf,
    /// Where it says which volumes are filled.
    filled: PathBuf,
    owner: Owner,
    /// Names by the file they were made from, so that a file is read once. Whoever fills a volume holds it.
    known: tokio::sync::Mutex<HashMap<FileId, String>>,
}

/// A file as it is: another one has another name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileId {
    path: PathBuf,
    length: u64,
    changed: Option<SystemTime>,
}

impl AgentVolumes {
    pub(crate) fn new(installation: &Installation, owner: Owner) -> Self {
        Self {
            agents: installation.agents.clone(),
            filled: installation.state.join("agent-volumes"),
            owner,
            known: tokio::sync::Mutex::default(),
        }
    }

    /// The name of the volume with the agent for an architecture as Docker calls it, filled.
    pub(crate) async fn ready(&self, daemon: &Daemon, architecture: &str) -> Result<String, Failed> {
        let file = self.agents.join(format!("linux-{}", ours(architecture))).join("rouse-agent");
        let unreadable = |error: io::Error| {
            let message = format!("the agent {} cannot be read: {error}", file.display());
            Failed::said(FailureClass::Master, message)
        };
        let mut known = self.known.lock().await;
        let name = self.name(&file, &mut known).await.map_err(unreadable)?;
        if self.is_filled(daemon, &name).await? {
            return Ok(name);
        }
        let agent = tokio::fs::read(&file).await.map_err(unreadable)?;
        self.fill(daemon, &name, &agent).await?;
        Ok(name)
    }

    /// Names of the volumes that workers are given now, of all architectures.
    pub(crate) async fn current(&self) -> io::Result<HashSet<String>> {
        let mut known = self.known.lock().await;
        let mut names = HashSet::new();
        let mut folders = match tokio::fs::read_dir(&self.agents).await {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(error),
        };
        while let Some(folder) = folders.next_entry().await? {
            let file = folder.path().join("rouse-agent");
            if folder.file_name().to_string_lossy().starts_with("linux-") && file.is_file() {
                names.insert(self.name(&file, &mut known).await?);
            }
        }
        Ok(names)
    }

    async fn name(&self, file: &Path, known: &mut HashMap<FileId, String>) -> io::Result<String> {
        let found = tokio::fs::metadata(file).await?;
        let id = FileId { path: file.to_owned(), length: found.len(), changed: found.modified().ok() };
        if let Some(name) = known.get(&id) {
            return Ok(name.clone());
        }
        let agent = tokio::fs::read(file).await?;
        let mut digest = Sha256::new();
        digest.update(format!("{}/{}/", self.owner.installation, self.owner.account));
        digest.update(&agent);
        let name = format!("rouse-agent-{}-{}", self.owner.short, hex::encode(&digest.finalize()[..6]));
        known.retain(|other, _| other.path != id.path);
        known.insert(id, name.clone());
        Ok(name)
    }

    async fn is_filled(&self, daemon: &Daemon, name: &str) -> Result<bool, Failed> {
        let Some(created) = created(daemon, name).await? else { return Ok(false) };
        Ok(tokio::fs::read_to_string(self.filled.join(name)).await.is_ok_and(|text| text == created))
    }

    async fn fill(&self, daemon: &Daemon, name: &str, agent: &[u8]) -> Result<(), Failed> {
        let volume = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(self.owner.of_part(Part::AgentVolume)),
            ..Default::default()
        };
        daemon.api().await?.create_volume(volume).await?;
        let image = format!("{name}:install");
        let labels = self.owner.of_part(Part::Installer);
        let changes = labels.iter().map(|(name, value)| format!("LABEL {name}={value:?}")).collect();
        let tar = pack(agent).map_err(|error| Failed::said(FailureClass::Master, error.to_string()))?;
        daemon.import(&image, tar, changes).await?;
        let body = self.installer(&image, name);
        let container = daemon.api().await?.create_container(None, body).await?.id;
        let installed = run(daemon, &container).await;
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        // What is left of these is listed, and removed as all that is listed.
        let container_gone = daemon.api().await?.remove_container(&container, Some(options)).await;
        let image_gone = daemon.remove_image(&image).await;
        installed?;
        container_gone?;
        image_gone.map_err(|error| Failed::said(error.class, error.to_string()))?;
        let created = created(daemon, name).await?.unwrap_or_default();
        let noted = async {
            tokio::fs::create_dir_all(&self.filled).await?;
            tokio::fs::write(self.filled.join(name), created).await
        };
        noted.await.map_err(|error| Failed::said(FailureClass::Master, error.to_string()))
    }

    fn installer(&self, image: &str, volume: &str) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(["/rouse-agent", "install", "/out"].map(str::to_owned).to_vec()),
            labels: Some(self.owner.of_part(Part::Installer)),
            host_config: Some(HostConfig {
                mounts: Some(vec![container::volume(Some(volume.to_owned()), "/out")]),
                network_mode: Some("none".into()),
                security_opt: Some(vec!["no-new-privileges".into()]),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Forgets that a volume is filled.
    pub(crate) async fn forget(&self, name: &str) -> io::Result<()> {
        match tokio::fs::remove_file(self.filled.join(name)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// When a volume was made; `None` where there is none.
async fn created(daemon: &Daemon, name: &str) -> Result<Option<String>, Failed> {
    match daemon.api().await?.inspect_volume(name).await.map_err(Failed::from) {
        Ok(volume) => Ok(Some(volume.created_at.map(|at| at.to_string()).unwrap_or_default())),
        Err(failed) if failed.is_absent() => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// Runs the installer to its end.
async fn run(daemon: &Daemon, container: &str) -> Result<(), Failed> {
    daemon.api().await?.start_container(container, None).await?;
    let options = WaitContainerOptions { condition: "not-running".into() };
    let mut ends = daemon.api().await?.wait_container(container, Some(options));
    match ends.try_next().await {
        Ok(_) => Ok(()),
        Err(Error::DockerContainerWaitError { code, .. }) => {
            let said = console::tail(daemon, container, SAID).await?.unwrap_or_default();
            let message =
                format!("the agent could not be put into its volume (exit code {code}): {}", said.trim());
            Err(Failed::said(FailureClass::Boot, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// An image with the agent alone.
fn pack(agent: &[u8]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(agent.len()).map_err(io::Error::other)?);
    header.set_mode(0o755);
    tar.append_data(&mut header, "rouse-agent", agent)?;
    tar.into_inner()
}

/// The name of an architecture in the agents' folder.
fn ours(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "x86",
        other => other,
    }
}
