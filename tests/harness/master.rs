//! A master as a process: the shipped binary with a state folder, a database and a port of its own.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::api::Api;
use super::mount::{self, Mount};
use super::{Database, Docker, Leftovers, wait};

/// The binary that is shipped, with the agent beside it.
pub const ROUSE: &str = env!("CARGO_BIN_EXE_rouse");

/// What differs from the usual.
#[derive(Clone, Default)]
pub struct Options {
    /// The master's name within its installation; `one` where it is empty.
    pub name: String,
    pub database: Database,
    /// Without it the master finds no daemon at all.
    pub docker: Option<Docker>,
    /// Also `ROUSE_FAILPOINT` and `ROUSE_COMMIT_TRACE`.
    pub environment: Vec<(String, String)>,
    /// Further flags of `rouse serve`.
    pub flags: Vec<String>,
    /// A copy of the binary, with other agents beside it; the shipped one where it is not given.
    pub binary: Option<PathBuf>,
    /// File systems of a few megabytes that the master and its workers see, and nobody else.
    pub mounts: Vec<Mount>,
}

/// Runs until it is stopped, killed or dropped. Dropping takes away what its workers left, too.
pub struct Master {
    folder: PathBuf,
    port: u16,
    options: Options,
    child: Option<Child>,
    leftovers: Leftovers,
}

impl Master {
    /// Starts one and waits until it is ready. `folder` is the scenario's own: it gets the config, the state and the log.
    pub fn start(folder: &Path, config: &str, options: Options) -> Self {
        let mut master = Self::prepare(folder, config, options);
        master.run();
        master
    }

    /// All but the start: for masters that are not expected to become ready.
    pub fn prepare(folder: &Path, config: &str, options: Options) -> Self {
        let leftovers = Leftovers::watch(folder, options.docker.as_ref());
        let port = free_port();
        let master = Self { folder: folder.to_path_buf(), port, options, child: None, leftovers };
        master.write_config(config);
        master
    }

    /// Starts it, again after it has ended, and waits until it is ready.
    pub fn run(&mut self) {
        self.spawn();
        let address = self.address();
        let http = reqwest::blocking::Client::builder().no_proxy().build().expect("a client can be made");
        wait::until_true("the master to be ready", wait::SOON, || {
            if let Some(status) = self.ended() {
                panic!("the master ended with {status}:\n{}", self.log());
            }
            http.get(format!("{address}/readyz")).send().is_ok_and(|answer| answer.status().is_success())
        });
        let installation = self.api().get("/master")["installation"].as_str().map(str::to_string);
        if let Some(installation) = installation {
            self.leftovers.mark(&installation);
        }
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log =
            OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log can be opened");
        let errors = log.try_clone().expect("a log can be shared");
        let mut command = self.command();
        // A group of its own, so that nothing that is meant for the test reaches it.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        self.child = Some(once_free(|| command.spawn()).expect("the master's binary starts"));
    }

    fn command(&self) -> Command {
        let binary = self.options.binary.as_deref().unwrap_or(Path::new(ROUSE));
        let mut command = mount::within(&self.options.mounts, binary);
        command.arg("serve").arg("--config").arg(self.config_file()).arg("--state").arg(self.state());
        command.args(["--listen", &format!("127.0.0.1:{}", self.port), "--name", self.name()]);
        if let Some(url) = self.options.database.url() {
            command.args(["--database", &url]);
        }
        command.args(&self.options.flags);
        let docker = self.options.docker.as_ref().map_or("unix:///nonexistent/docker.sock", Docker::host);
        command.env("DOCKER_HOST", docker);
        // What a failed scenario shows.
        command.env("RUST_LOG", "rouse=debug");
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What the next start gets in its environment.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.options.environment = environment;
    }

    /// What a person does for another master on one's database, before it runs: the installation's key, and here the first token with it.
    pub fn join(&self, one: &Self) {
        std::fs::DirBuilder::new().mode(0o711).create(self.state()).expect("a folder can be made");
        for file in ["installation.key", "admin.token"] {
            std::fs::copy(one.state().join(file), self.state().join(file)).expect("a file can be copied");
        }
    }

    pub fn write_config(&self, config: &str) {
        std::fs::write(self.config_file(), config).expect("the config can be written");
    }

    /// As SIGHUP does it: the master reads its config again.
    pub fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// At once, as a power cut would.
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end(wait::SOON);
    }

    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    /// As a service manager does it.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_for_end(wait::SOON)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the master is our child");
    }

    /// Waits until it has ended by itself, for instance at a failpoint.
    pub fn wait_for_end(&mut self, patience: Duration) -> ExitStatus {
        let status = wait::until("the master to end", patience, || self.ended());
        self.child = None;
        status
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("the master is our child")
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("the master runs").id() as i32
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// With the first admin token, read from its file.
    pub fn api(&self) -> Api {
        let file = self.state().join("admin.token");
        let token = wait::until("the first token", wait::SOON, || std::fs::read_to_string(&file).ok());
        Api::new(&self.address(), token.trim())
    }

    /// Another verb of the binary, speaking to this master; its outcome.
    pub fn cli(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(ROUSE);
        let token = std::fs::read_to_string(self.state().join("admin.token")).unwrap_or_default();
        command.args(arguments).env("ROUSE_SERVER", self.address()).env("ROUSE_TOKEN", token.trim());
        command.stdin(Stdio::null()).output().expect("the binary starts")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.join(format!("state-{}", self.name()))
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.join("rouse.yaml")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name()))
    }

    /// Everything that it has said so far, over all starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// What is left of it and its workers, seen from outside.
    pub fn leftovers(&self) -> &Leftovers {
        &self.leftovers
    }

    fn name(&self) -> &str {
        if self.options.name.is_empty() { "one" } else { &self.options.name }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(200);
            eprintln!("--- the end of master `{}`'s log\n{}", self.name(), lines[from..].join("\n"));
        }
        self.leftovers.clear();
    }
}

/// Starts a binary that was just copied: it is busy as long as another test's child has not left our descriptors behind.
pub fn once_free<T>(mut start: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    wait::until("the binary to be no longer written", wait::SOON, || match start() {
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
        started => Some(started),
    })
}

/// One that is given to nobody else of this process: until the master listens, and while it is dead, another one's could be found free. Below
/// those that the kernel takes for connections, and for each process from another one on.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        AtomicU16::new(10_000 + 100 * u16::try_from(std::process::id() % 150).expect("few"))
    });
    std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
        .take_while(|port| *port < 30_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a loopback port is free")
}
