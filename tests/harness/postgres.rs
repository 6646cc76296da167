//! A PostgreSQL server of a scenario's own, which it may stop and freeze. The run's server serves all others and is never touched.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use rouse_testkit::back_ends;

use super::{processes, wait};

/// A busy machine takes its time to start a server.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct OwnPostgres {
    folder: PathBuf,
    port: u16,
    user: Option<User>,
    server: Option<Child>,
}

impl OwnPostgres {
    /// Runs in a folder of its own below `scratch`. `None`: the skip has been recorded.
    pub fn start(scratch: &Path) -> Option<Self> {
        back_ends::postgres_url()?;
        let folder = scratch.join("postgres");
        std::fs::create_dir(&folder).expect("a folder can be made");
        // It refuses to run as root.
        let known = |name| User::from_name(name).expect("the system's users can be read");
        let user = geteuid().is_root().then(|| known("postgres").or(known("nobody")).expect("one is there"));
        if let Some(user) = &user {
            chown(&folder, Some(user.uid), Some(user.gid)).expect("the folder is ours");
        }
        let mut own = Self { folder, port: super::master::free_port(), user, server: None };
        let mut initdb = own.program("initdb");
        initdb.arg("--pgdata").arg(own.data());
        initdb.args(["--username=rouse", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        let made = initdb.output().expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        own.run();
        Some(own)
    }

    /// Starts it, again after it was stopped, and waits until it answers.
    pub fn run(&mut self) {
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c"]);
        server.arg(format!("unix_socket_directories={}", self.folder.display()));
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(server.spawn().expect("the server starts"));
        wait::until_true("PostgreSQL to answer", PATIENCE, || {
            let mut psql = Command::new("psql");
            psql.args(["--quiet", "--no-psqlrc", &self.url(), "--command", "SELECT 1"]);
            psql.output().is_ok_and(|done| done.status.success())
        });
    }

    /// As an administrator stops it: sessions are cut off.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.id() as i32, Signal::SIGINT);
            wait::until_true("PostgreSQL to end", PATIENCE, || {
                server.try_wait().is_ok_and(|ended| ended.is_some())
            });
        }
    }

    /// All of it stands still; connections stay as they are.
    pub fn freeze(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    pub fn url(&self) -> String {
        format!("postgres://rouse@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server first, so that it makes no more processes, and then those that it has.
    fn signal_all(&self, which: Signal) {
        let Some(server) = &self.server else { return };
        let server = server.id() as i32;
        signal(server, which);
        processes::children(server).into_iter().for_each(|child| signal(child, which));
    }

    fn program(&self, name: &str) -> Command {
        let program = find(name);
        let Some(user) = &self.user else { return Command::new(program) };
        let mut command = Command::new(program);
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
        command
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        self.signal_all(Signal::SIGKILL);
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
    }
}

fn signal(pid: i32, which: Signal) {
    // It may have gone by itself.
    let _ = kill(Pid::from_raw(pid), which);
}

/// On the path, or where Debian hides it.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let hidden = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    places.extend(hidden.map(|version| version.path().join("bin")));
    let found = places.into_iter().map(|place| place.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is installed where PostgreSQL is"))
}
