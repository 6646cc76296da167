//! An own Docker daemon, apart from any other on the machine: own storage, socket, bridge, address block,
//! containerd namespaces and cgroup; no packet-filter rules at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::program;
use super::run_folder::{RunFolder, mounts_below};
use crate::process::{self, Daemon, Interrupt};

pub struct Docker {
    folder: PathBuf,
    daemon: Option<Daemon>,
}

impl Docker {
    pub fn start(run: &RunFolder, interrupt: &Interrupt) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "an own daemon needs root; ROUSE_TEST_DOCKER_HOST=unix:///var/run/docker.sock lends the tests yours"
            );
        }
        program("docker")?;
        let folder = run.folder("docker")?;
        // From here on, dropping takes away what has been made.
        let mut docker = Self { folder: folder.clone(), daemon: None };
        let block = Block::take(&folder)?;
        // Given explicitly, so that the machine's own daemon.json has no say here.
        fs::write(folder.join("daemon.json"), "{}").context("the daemon's config cannot be written")?;
        let log = folder.join("log");
        let mut command = program("dockerd")?;
        command.arg("--config-file").arg(folder.join("daemon.json"));
        command.arg("--data-root").arg(folder.join("data")).arg("--exec-root").arg(folder.join("exec"));
        command.arg("--pidfile").arg(folder.join("pid")).arg("--host").arg(docker.host());
        command.args(["--iptables=false", "--ip-masq=false", "--ip-forward=false"]);
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &cgroup(&folder)]);
        command.args(["--bridge", &block.bridge(), "--default-address-pool", &block.pool()]);
        // A containerd that already runs is shared by dockerd: then at least its namespaces are our own.
        let namespace = format!("rouse-test-{}", std::process::id());
        command.args(["--containerd-namespace", &namespace]);
        command.args(["--containerd-plugins-namespace", &format!("{namespace}-plugins")]);
        let mut daemon = Daemon::start(&command, None, Signal::SIGTERM, &log).context("dockerd")?;
        let host = docker.host();
        let ready = daemon.wait_until(&log, Duration::from_secs(60), interrupt, || answers(&host));
        docker.daemon = Some(daemon);
        ready.context("dockerd")?;
        Ok(docker)
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.join("docker.sock").display())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Killed first: a daemon that stops asks each container and waits ten seconds for it.
        if let Ok(ids) = process::output(&mut client(&self.host(), &["ps", "-q"])) {
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                let _ = process::output(client(&self.host(), &["kill"]).args(ids));
            }
        }
        self.daemon.take();
    }
}

fn client(host: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(["--host", host]).args(arguments);
    command
}

fn answers(host: &str) -> bool {
    let mut command = client(host, &["version", "--format", "{{.Server.Version}}"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The last folder but one is the run's own: `rt-<pid>`.
fn cgroup(folder: &Path) -> String {
    let run = folder.parent().and_then(Path::file_name).unwrap_or_default();
    format!("/{}", run.to_string_lossy())
}

/// A /16 of 10.0.0.0/8 that nobody here uses, with a bridge in it.
struct Block(u8);

impl Block {
    /// Making the bridge is what takes the block: of two runs at once, one gets "file exists".
    fn take(folder: &Path) -> Result<Self> {
        let routes = process::output(program("ip")?.args(["-4", "route", "show", "table", "all"]))?;
        for number in 200..=254 {
            let block = Self(number);
            if routes.contains(&format!("10.{number}.")) {
                continue;
            }
            if process::output(program("ip")?.args(["link", "add", &block.bridge(), "type", "bridge"]))
                .is_err()
            {
                continue;
            }
            fs::write(folder.join("block"), number.to_string()).context("the bridge cannot be noted")?;
            process::output(program("ip")?.args(["addr", "add", &block.address(), "dev", &block.bridge()]))?;
            process::output(program("ip")?.args(["link", "set", &block.bridge(), "up"]))?;
            return Ok(block);
        }
        bail!("no bridge could be made in 10.200.0.0 to 10.254.255.255");
    }

    fn noted(folder: &Path) -> Option<Self> {
        fs::read_to_string(folder.join("block")).ok()?.trim().parse().ok().map(Self)
    }

    fn bridge(&self) -> String {
        format!("rt-br{}", self.0)
    }

    fn address(&self) -> String {
        format!("10.{}.0.1/24", self.0)
    }

    /// Networks that a test creates get their addresses, and so their bridges, from here.
    fn pool(&self) -> String {
        format!("base=10.{}.128.0/17,size=24", self.0)
    }

    /// Our bridge, and those of networks that a test did not remove.
    fn remove(&self) {
        let Ok(mut list) = program("ip") else { return };
        let listed = process::output(list.args(["-4", "-o", "addr", "show"])).unwrap_or_default();
        let ours = format!("inet 10.{}.", self.0);
        let bridge = self.bridge();
        let links = listed
            .lines()
            .filter(|line| line.contains(&ours))
            .filter_map(|line| line.split_whitespace().nth(1));
        for link in links.chain([bridge.as_str()]) {
            if let Ok(mut delete) = program("ip") {
                let _ = process::output(delete.args(["link", "delete", link]));
            }
        }
    }
}

/// Takes away what a daemon leaves outside its folder: mounts, bridges, cgroups. Also after it was killed.
pub fn clean_up(run: &Path) {
    for mount in mounts_below(run) {
        let _ = process::output(Command::new("umount").arg(&mount));
    }
    let folder = run.join("docker");
    if let Some(block) = Block::noted(&folder) {
        block.remove();
    }
    let name = cgroup(&folder);
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_path_buf()]) {
        remove_cgroup(&hierarchy.join(name.trim_start_matches('/')));
    }
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
