//! A Docker daemon of a scenario's own, for what the run's daemon must not suffer: to be restarted, killed, frozen. Apart from all others: its
//! own storage, socket, containerd and cgroup; no packet-filter rules. On this host it has no bridge either, so its containers have no network.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rouse_testkit::back_ends;

use super::docker::Docker;
use super::lan::{self, Host, Lan};
use super::scratch::unique;
use super::{Scratch, processes, wait};

/// Where a daemon on another host answers.
const PORT: u16 = 2376;
/// One that starts reads what it has first.
const START: Duration = Duration::from_secs(60);

/// What makes a daemon one of another host: a network of its own, and no files of ours.
struct Remote {
    host: Host,
    /// The authority, and its own certificate and key.
    certificate: [PathBuf; 3],
    hidden: PathBuf,
}

/// Taken away with all that it has when dropped.
pub struct Dockerd {
    docker: Docker,
    name: String,
    child: Option<Child>,
    remote: Option<Remote>,
    // Last: all the others lie there.
    scratch: Scratch,
}

impl Dockerd {
    /// `None`: the skip has been recorded.
    pub fn start() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            back_ends::skip("needs a Docker daemon of its own, and so root");
            return None;
        }
        Some(Self::with(None, "{}"))
    }

    /// On a host of a network: it answers there by TLS to whoever has the client's certificate, and does not see what is below `hidden`. It
    /// takes images of a registry there.
    pub fn on(lan: &mut Lan, registry: &str, hidden: &Path) -> Self {
        let host = lan.host();
        let certificate = lan.certificate(&host.namespace);
        let config = format!("{{\"insecure-registries\": [\"{registry}\"]}}");
        Self::with(Some(Remote { host, certificate, hidden: hidden.to_owned() }), &config)
    }

    fn with(remote: Option<Remote>, config: &str) -> Self {
        let scratch = Scratch::new();
        let host = format!("unix://{}", scratch.path().join("docker.sock").display());
        std::fs::write(scratch.path().join("daemon.json"), config).expect("written");
        let docker = Docker::at(&host);
        let mut daemon = Self { docker, name: unique("dockerd"), child: None, remote, scratch };
        daemon.spawn();
        daemon.wait_until_it_answers();
        daemon
    }

    /// The host that it is on.
    pub fn host(&self) -> &Host {
        &self.remote.as_ref().expect("it is on another host").host
    }

    /// Where a master on another host finds it.
    pub fn address(&self) -> String {
        format!("tcp://{}:{PORT}", self.host().address)
    }

    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Without waiting until it answers.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let folder = self.scratch.path();
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("opened");
        // Ends with this thread, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]);
        if let Some(Remote { host, hidden, .. }) = &self.remote {
            let within = lan::within(&host.namespace);
            command.arg(within.get_program()).args(within.get_args());
            let hide = "mount -t tmpfs tmpfs \"$0\" && exec \"$@\"";
            command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", hide]).arg(hidden);
        }
        command.args(["dockerd", "--host", self.docker.host()]);
        for (flag, below) in [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(flag).arg(folder.join(below));
        }
        // One that was killed has left it, and its number may be another process' by now: then the next one would not start.
        let _ = std::fs::remove_file(folder.join("pid"));
        command.args(["--iptables=false", "--ip-masq=false", "--ip-forward=false"]);
        match &self.remote {
            None => command.args(["--bridge", "none"]),
            Some(Remote { host, certificate: [ca, cert, key], .. }) => {
                command.args(["--bip", &format!("{}/24", host.containers)]);
                command.args(["--host", &self.address(), "--tlsverify", "--tlscacert"]).arg(ca);
                command.arg("--tlscert").arg(cert).arg("--tlskey").arg(key)
            }
        };
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &self.cgroup()]);
        // What a slow end makes it write goes with the rest.
        command.env("TMPDIR", folder);
        // A containerd that runs already is shared: then its namespaces are our own.
        command.args(["--containerd-namespace", &self.name]);
        command.args(["--containerd-plugins-namespace", &format!("{}-plugins", self.name)]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("shared")).stderr(log).process_group(0);
        self.child = Some(command.spawn().expect("dockerd can be started"));
    }

    pub fn wait_until_it_answers(&mut self) {
        let child = self.child.as_mut().expect("it was started");
        let docker = &self.docker;
        let log = self.scratch.path().join("log");
        wait::until_true("a Docker daemon to answer", START, || {
            if let Some(status) = child.try_wait().expect("it is our child") {
                panic!("dockerd ended with {status}: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            docker.answers()
        });
    }

    /// As a service manager does it; its containers end with it.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.wait_for_end(wait::A_BUILD);
    }

    /// At once, with its containerd; its containers go on, until the next one finds them and ends them.
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end(wait::SOON);
        // The kernel kills it with its parent, a moment later. Until then, and as long as nobody has reaped it, the next daemon would take it for
        // its own.
        let folder = format!("{}/", self.scratch.path().display());
        wait::until_true("a daemon's containerd to end", wait::SOON, || {
            let of_daemon = |seen: &processes::Seen| {
                seen.command.starts_with("containerd ") && seen.command.contains(&folder)
            };
            let left: Vec<_> = processes::all().filter(of_daemon).collect();
            left.iter().for_each(|seen| processes::kill9(seen.pid));
            left.is_empty()
        });
        let _ = std::fs::remove_file(self.scratch.path().join("exec/containerd/containerd.pid"));
    }

    /// It takes connections and says nothing, until the answer is dropped. To be dropped before what looks at the daemon in its end.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        self.signal(Signal::SIGSTOP);
        Frozen(self.pid())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().expect("it runs").id() as i32)
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is our child");
    }

    fn wait_for_end(&mut self, patience: Duration) {
        let mut child = self.child.take().expect("it runs");
        wait::until_true("a Docker daemon to end", patience, || {
            child.try_wait().expect("it is our child").is_some()
        });
    }

    fn cgroup(&self) -> String {
        format!("/{}", self.name)
    }

    /// What a killed one leaves running: its containerd and its containers' shims name its folder in their arguments.
    pub fn end_what_is_left(&self) {
        let folder = format!("{}/", self.scratch.path().display());
        for _ in 0..100 {
            let left: Vec<_> = processes::all().filter(|seen| seen.command.contains(&folder)).collect();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|seen| processes::kill9(seen.pid));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A daemon that stands still.
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile; its number is not given anew before it was waited for.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(child.id() as i32);
            let _ = kill(pid, Signal::SIGCONT);
            // Killed first: a daemon that ends asks each container and waits ten seconds for it.
            let running = self.docker.try_run(&["ps", "--quiet"]).unwrap_or_default();
            for id in running.split_whitespace() {
                let _ = self.docker.try_run(&["kill", id]);
            }
            let _ = kill(pid, Signal::SIGTERM);
            wait::at_most(wait::SOON, || !matches!(child.try_wait(), Ok(None)));
            let _ = child.kill();
            let _ = child.wait();
        }
        self.end_what_is_left();
        for mount in mounts_below(self.scratch.path()) {
            let _ = Command::new("umount").arg(mount).output();
        }
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.to_path_buf()]) {
            remove_cgroup(&hierarchy.join(&self.name));
        }
    }
}

/// Innermost first.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    below.reverse();
    below
}

fn remove_cgroup(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(path);
}
