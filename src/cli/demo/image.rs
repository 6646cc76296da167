//! The demo's own image: a shell and the few tools that the sample project needs, with their libraries, taken from this host. So no
//! registry has to be reached, and nothing is installed.

use crate::boot::DockerDaemon as Daemon;
use anyhow::Context;
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// What the sample project calls, beyond the shell's own words.
const TOOLS: &[&str] = &["sh", "sleep", "cat", "ls"];
/// A daemon that does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the image may take.
const MAKING: Duration = Duration::from_secs(30);

/// A daemon that answers, and the image that the demo made on it.
#[derive(Debug, Clone)]
pub(super) struct Docker {
    pub host: String,
    pub version: String,
    daemon: Daemon,
    image: String,
    /// The making of the image: it is made to its end before it can be removed for good.
    making: TaskTracker,
}

impl Docker {
    pub(super) async fn find() -> anyhow::Result<Self> {
        let daemon = Daemon::from_environment()?;
        let version = match tokio::time::timeout(PATIENCE, daemon.version()).await {
            Ok(answer) => answer.map_err(|error| anyhow::anyhow!("{}", error.message))?,
            Err(_) => anyhow::bail!("{} is silent for {} s", daemon.host(), PATIENCE.as_secs()),
        };
        // Its own name, so that two demos on one daemon do not share it.
        let image = format!("rouse-demo:{}", uuid::Uuid::new_v4().simple());
        Ok(Self { host: daemon.host().to_owned(), version, daemon, image, making: TaskTracker::new() })
    }

    /// Answers how many things could not be removed.
    pub(super) async fn remove(&self) -> usize {
        self.making.close();
        // Whatever is still under way then, the daemon itself has to end.
        let _ = tokio::time::timeout(MAKING, self.making.wait()).await;
        match self.daemon.remove_image(&self.image).await {
            Ok(()) => 0,
            Err(error) => {
                eprintln!(
                    "the demo's image {} could not be removed: {}",
                    self.image,
                    crate::supervisor::chain(&error)
                );
                1
            }
        }
    }
}

/// Makes the image; answers its name.
pub(super) async fn make(docker: &Docker) -> anyhow::Result<String> {
    let archive = tokio::task::spawn_blocking(pack).await??;
    let (daemon, image) = (docker.daemon.clone(), docker.image.clone());
    docker.making.spawn(async move { daemon.import_image(&image, archive).await }).await??;
    Ok(docker.image.clone())
}

/// A root file system as a tar: tools, libraries, a place for temporary files.
fn pack() -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["bin/", "tmp/", "etc/", "usr/", "usr/bin/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if dir == "tmp/" { 0o1777 } else { 0o755 });
        header.set_size(0);
        tar.append_data(&mut header, dir, std::io::empty())?;
    }
    let mut libraries = BTreeSet::new();
    for tool in TOOLS {
        let path = which(tool).with_context(|| format!("find `{tool}` on this host for the demo's image"))?;
        libraries.extend(libraries_of(&path)?);
        add(&mut tar, &path, &format!("bin/{tool}"))?;
    }
    for library in &libraries {
        let inside = library.to_string_lossy();
        add(&mut tar, library, inside.trim_start_matches('/'))?;
    }
    let mut header = tar::Header::new_gnu();
    let passwd = b"root:x:0:0:root:/:/bin/sh\n";
    header.set_size(passwd.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/passwd", &passwd[..])?;
    Ok(tar.into_inner()?)
}

/// A file under another name, links followed.
fn add(tar: &mut tar::Builder<Vec<u8>>, from: &Path, inside: &str) -> anyhow::Result<()> {
    let content = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, inside, content.as_slice())?;
    Ok(())
}

fn which(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/bin".into()])
        .map(|dir| dir.join(tool))
        .find(|file| file.is_file())
        .and_then(|file| file.canonicalize().ok())
}

/// What the dynamic loader would bring in, the loader itself included. Nothing for a static program.
fn libraries_of(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    // A group of its own: a Ctrl-C is meant for the demo, which then ends in order.
    let output = std::process::Command::new("ldd").arg(program).process_group(0).output();
    let output = output.context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .flat_map(|line| line.split_whitespace())
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect())
}
