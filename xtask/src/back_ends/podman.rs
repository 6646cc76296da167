//! An own Podman, behind the socket on which it speaks as Docker does: own storage, volumes, networks and locks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::program;
use super::run_folder::RunFolder;
use crate::process::{self, Daemon, Interrupt};

pub struct Podman {
    folder: PathBuf,
    daemon: Option<Daemon>,
}

impl Podman {
    pub fn start(run: &RunFolder, interrupt: &Interrupt) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "an own Podman needs root; ROUSE_TEST_PODMAN_HOST=unix:///run/podman/podman.sock lends the tests yours"
            );
        }
        let folder = run.folder("podman")?;
        let config = folder.join("containers.conf");
        fs::write(&config, settings(&folder)).context("Podman's config cannot be written")?;
        let mut command = program("podman")?;
        command.env("CONTAINERS_CONF", &config);
        // It leaves there what it has loaded.
        command.env("TMPDIR", run.folder("podman/tmp")?);
        command.arg("--root").arg(folder.join("root")).arg("--runroot").arg(folder.join("run"));
        command.args(["--storage-driver", "overlay"]);
        command.args(["system", "service", "--time", "0", &host(&folder)]);
        let log = folder.join("log");
        let mut daemon = Daemon::start(&command, None, Signal::SIGTERM, &log).context("podman")?;
        let socket = folder.join("podman.sock");
        let answers = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        daemon.wait_until(&log, Duration::from_secs(30), interrupt, answers).context("podman")?;
        Ok(Self { folder, daemon: Some(daemon) })
    }

    pub fn host(&self) -> String {
        host(&self.folder)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.daemon.take();
        // Whoever watches over a command in a container stays for five minutes, and then asks Podman to look again.
        let mark = format!("{}/", self.folder.display());
        let mut left = process::mentioning(&mark);
        left.retain(|seen| seen.command.contains(&mark));
        process::kill_all(&left);
    }
}

fn host(folder: &Path) -> String {
    format!("unix://{}", folder.join("podman.sock").display())
}

/// Nothing of the machine's own Podman is shared. Its limits on files are said, since it would raise them further than may be here; version 4.3 takes
/// the two of one limit the wrong way round, so they are the same.
fn settings(folder: &Path) -> String {
    let at = |name: &str| format!("{:?}", folder.join(name).display().to_string());
    format!(
        "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
         log_driver = \"k8s-file\"\n\
         [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = {}\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
         static_dir = {}\ntmp_dir = {}\nvolume_path = {}\n",
        at("networks"),
        at("static"),
        at("tmp"),
        at("volumes"),
    )
}
