//! A rootless daemon of a scenario's own: that of a user who is nobody here, with user namespaces for root. It has a mount namespace of its own,
//! in which network devices can be made by anybody, as on machines of people.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use rouse_testkit::back_ends;

use super::{Docker, Scratch, processes, wait};

/// Made where it is not there, and left as packages are: several runs may have daemons of it at once.
const USER: &str = "rouse-rootless";
const NEEDS: [&str; 4] =
    ["/usr/bin/newuidmap", "/usr/bin/slirp4netns", "/usr/sbin/useradd", "/usr/bin/setpriv"];
/// Where Debian's package has it.
const DOCKERD: &str = "/usr/share/docker.io/contrib/dockerd-rootless.sh";
const START: Duration = Duration::from_secs(60);
/// `$0` is its folder; the rest is what is run there as its user. What is mounted here can be seen by containers of it.
const WITHIN: &str = "mount --make-rshared / && mknod \"$0/tun\" c 10 200 && chmod 666 \"$0/tun\" && mount --bind \"$0/tun\" /dev/net/tun && \
                      cd \"$0/home\" && exec \"$@\"";

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Docker,
    Podman,
}

impl Sort {
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &[DOCKERD, "/usr/bin/rootlesskit"],
            Self::Podman => &["/usr/bin/podman"],
        }
    }

    fn command(self, folder: &Path) -> Command {
        let at = |name: &str| folder.join(name);
        let host = format!("unix://{}", at(SOCKET).display());
        match self {
            Self::Docker => {
                let mut command = Command::new(DOCKERD);
                command.arg("--data-root").arg(at("home/data")).arg("--exec-root").arg(at("run/exec"));
                command.arg("--pidfile").arg(at("run/pid")).args(["--host", &host]);
                command
            }
            Self::Podman => {
                let mut command = Command::new("podman");
                command.arg("--root").arg(at("home/root")).arg("--runroot").arg(at("run/r"));
                command.args(["--storage-driver", "overlay", "system", "service", "--time", "0", &host]);
                command
            }
        }
    }
}

/// Within its folder.
const SOCKET: &str = "run/daemon.sock";

/// Taken away with all that it has when dropped.
pub struct Rootless {
    docker: Docker,
    child: Child,
    user: User,
    // Last: all that it has lies there.
    scratch: Scratch,
}

impl Rootless {
    /// `None`: the skip has been recorded.
    pub fn start(sort: Sort) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            back_ends::skip("needs a user beside its own, and so root");
            return None;
        }
        if let Some(missing) =
            NEEDS.iter().chain(sort.programs()).find(|program| !Path::new(program).exists())
        {
            back_ends::skip(&format!("needs {missing}"));
            return None;
        }
        let user = user();
        let scratch = Scratch::new();
        for name in ["home", "run", "tmp"] {
            chown(scratch.folder(name), Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .expect("we are root");
        }
        scratch.file("containers.conf", &settings(scratch.path()));
        let child = spawn(sort, scratch.path(), &user);
        let docker = Docker::at(&format!("unix://{}", scratch.path().join(SOCKET).display()));
        let mut daemon = Self { docker, child, user, scratch };
        daemon.wait_until_it_answers();
        Some(daemon)
    }

    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Whether its user can read a file.
    pub fn can_read(&self, file: &Path) -> bool {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--", "cat"]).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("setpriv runs").success()
    }

    /// Whether the host sees a process as that of its user, or of one that it may give to containers.
    pub fn owns(&self, process: i32) -> bool {
        let owner = std::fs::metadata(format!("/proc/{process}")).expect("it runs").uid();
        owner == self.user.uid.as_raw() || owner >= 100_000
    }

    fn wait_until_it_answers(&mut self) {
        let socket = self.scratch.path().join(SOCKET);
        wait::until_true("a rootless daemon to answer", START, || {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                let log = std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
                panic!("the daemon ended with {status}: {log}");
            }
            socket.metadata().is_ok_and(|found| found.file_type().is_socket()) && self.docker.answers()
        });
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        for id in self.docker.try_run(&["ps", "--quiet"]).unwrap_or_default().split_whitespace() {
            let _ = self.docker.try_run(&["kill", id]);
        }
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        wait::at_most(wait::SOON, || !matches!(self.child.try_wait(), Ok(None)));
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What keeps its namespaces, its network and its containers has its folder in the environment.
        let mark = self.scratch.path().display().to_string();
        wait::at_most(wait::SOON, || {
            let left = processes::mentioning(&mark);
            left.iter().for_each(|seen| processes::kill9(seen.pid));
            left.is_empty()
        });
    }
}

/// Another run may make it at the same time.
fn user() -> User {
    let find = || User::from_name(USER).expect("users can be looked up");
    wait::until("a user for a rootless daemon", wait::SOON, || {
        find().or_else(|| {
            // With users of its own to give to containers, as Debian does it for people.
            let mut command = Command::new("useradd");
            command.args([
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                USER,
            ]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("useradd runs");
            find()
        })
    })
}

fn spawn(sort: Sort, folder: &Path, user: &User) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("opened");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", WITHIN]).arg(folder);
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    // Ends with this thread, however that ends.
    command.args([
        "setpriv",
        "--reuid",
        &uid,
        "--regid",
        &gid,
        "--clear-groups",
        "--pdeathsig",
        "TERM",
        "--",
    ]);
    let daemon = sort.command(folder);
    command.arg(daemon.get_program()).args(daemon.get_args());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", folder.join("home"));
    command.env("XDG_RUNTIME_DIR", folder.join("run")).env("TMPDIR", folder.join("tmp"));
    command.env("CONTAINERS_CONF", folder.join("containers.conf"));
    let state = format!("--state-dir={}", folder.join("run/rootlesskit").display());
    command.env("DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS", state);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("shared")).stderr(log).process_group(0);
    command.spawn().expect("unshare can be started")
}

/// `runc`, since `crun` bears no host that has both versions of cgroups. Limits on files as low as they may be here.
fn settings(folder: &Path) -> String {
    format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nlog_driver = \"k8s-file\"\n\
         [network]\nnetwork_config_dir = {:?}\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n",
        folder.join("home/networks").display().to_string()
    )
}
