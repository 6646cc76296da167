//! An own PostgreSQL server on a loopback port, as an unprivileged user: it refuses to run as root.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::{User, chown, geteuid};

use super::run_folder::RunFolder;
use super::{free_port, program};
use crate::process::{self, Daemon, Interrupt};

pub struct Postgres {
    port: u16,
    password: String,
    _daemon: Daemon,
}

impl Postgres {
    pub fn start(run: &RunFolder, interrupt: &Interrupt) -> Result<Self> {
        let folder = run.folder("postgres")?;
        let user = server_user(&folder)?;
        let password = random_hex()?;
        let pass_file = folder.join("password");
        fs::write(&pass_file, &password).context("the password cannot be written")?;
        if let Some(user) = &user {
            chown(&pass_file, Some(user.uid), Some(user.gid))
                .context("the password cannot be handed over")?;
        }
        let data = folder.join("data");
        let mut initdb = program("initdb")?;
        initdb.arg("--pgdata").arg(&data).arg("--pwfile").arg(&pass_file);
        initdb.args([
            "--username=rouse",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        process::output(&mut process::set_privileges(&initdb, user.as_ref(), None)).context("initdb")?;
        let port = free_port()?;
        let mut server = program("postgres")?;
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        // No crash of the machine is tested here, only of masters; so nothing need reach the disk.
        server.args(["-c", "fsync=off", "-c", "max_connections=300", "-c"]);
        server.arg(format!("unix_socket_directories={}", folder.display()));
        let log = folder.join("log");
        // Interrupt means a fast shutdown: sessions are cut off, not waited for.
        let mut daemon = Daemon::start(&server, user.as_ref(), Signal::SIGINT, &log).context("postgres")?;
        daemon.wait_until(&log, Duration::from_secs(30), interrupt, || is_ready(port)).context("postgres")?;
        Ok(Self { port, password, _daemon: daemon })
    }

    pub fn url(&self) -> String {
        format!("postgres://rouse:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }
}

/// The user of Debian's package, else nobody; ourselves where we are not root.
fn server_user(folder: &Path) -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let known = |name| User::from_name(name).context("the system's users cannot be read");
    let user = known("postgres")?.or(known("nobody")?).context("there is no user to run PostgreSQL as")?;
    chown(folder, Some(user.uid), Some(user.gid)).context("the server's folder cannot be handed over")?;
    Ok(Some(user))
}

fn is_ready(port: u16) -> bool {
    let Ok(mut command) = program("pg_isready") else { return false };
    command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("no randomness")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
