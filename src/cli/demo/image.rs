//! The demo's own image: a shell and the few tools that the sample project needs, with their libraries, taken from this host. So no
//! registry has to be reached, and nothing is installed.

use crate::boot::DockerDaemon as Daemon;
use anyhow::Context;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the sample project calls, beyond the shell's own words.
const TOOLS: &[&str] = &["sh", "sleep", "cat", "ls"];
/// A daemon that does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(3);

/// A daemon that answers, and the image that the demo made on it.
#[derive(Debug, Clone)]
pub(super) struct Docker {
    pub host: String,
    pub version: String,
    daemon: Daemon,
    image: String,
}

impl Docker {
    pub(super) async fn find() -> anyhow::Result<Self> {
        let daemon = Daemon::from_environment()?;
        let version = tokio::time::timeout(PATIENCE, daemon.version())
            .await
            .with_context(|| format!("{} does not answer", daemon.host()))??;
        // Its own name, so that two demos on one daemon do not share it.
        let image = format!("rouse-demo:{}", uuid::Uuid::new_v4().simple());
        Ok(Self { host: daemon.host().to_owned(), version, daemon, image })
    }

    /// Answers how many things could not be removed.
    pub(super) async fn remove(&self) -> usize {
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
    docker.daemon.import_image(&docker.image, archive).await?;
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
    let output = std::process::Command::new("ldd").arg(program).output().context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .flat_map(|line| line.split_whitespace())
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect())
}
