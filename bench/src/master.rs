//! A master that is measured: the shipped binary with a state folder, a database and a port of its own.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::database::Database;
use crate::ground::Ground;
use crate::http::Http;
use crate::process;

const START: Duration = Duration::from_secs(60);

/// What differs from the usual.
#[derive(Default)]
pub struct Options {
    pub postgres: Option<String>,
    pub docker: Option<String>,
    /// In place of the ground's, for a master whose agents are not the shipped ones.
    pub binary: Option<PathBuf>,
    /// Further flags of `rouse serve`.
    pub flags: Vec<String>,
}

/// Runs until it is stopped or dropped; its workers end before it.
pub struct Master {
    pub folder: PathBuf,
    pub database: Database,
    options: Options,
    binary: PathBuf,
    port: u16,
    child: Option<Child>,
    installation: String,
    token: String,
}

impl Master {
    pub fn start(ground: &Ground, name: &str, config: &str, options: Options) -> Result<Self> {
        let mut master = Self::prepare(ground, name, config, options)?;
        master.run()?;
        Ok(master)
    }

    /// All but the start.
    pub fn prepare(ground: &Ground, name: &str, config: &str, options: Options) -> Result<Self> {
        let folder = ground.folder(name)?;
        let database = match &options.postgres {
            Some(url) => Database::Postgres(url.clone()),
            None => Database::Sqlite(folder.join("state/rouse.db")),
        };
        std::fs::write(folder.join("rouse.yaml"), config)?;
        let binary = options.binary.clone().unwrap_or_else(|| ground.rouse.clone());
        let (installation, token) = (String::new(), String::new());
        Ok(Self { folder, database, options, binary, port: free_port()?, child: None, installation, token })
    }

    /// Starts it and waits until it is ready; answers how long that took.
    pub fn run(&mut self) -> Result<Duration> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("--config").arg(self.folder.join("rouse.yaml"));
        command.arg("--state").arg(self.folder.join("state"));
        command.args(["--listen", &self.address(), "--name", "bench"]);
        command.args(&self.options.flags);
        if let Some(url) = &self.options.postgres {
            command.args(["--database", url]);
        }
        command
            .env("DOCKER_HOST", self.options.docker.as_deref().unwrap_or("unix:///nonexistent/docker.sock"));
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let began = Instant::now();
        // A group of its own: Ctrl-C is for us, who end it in order.
        let mut child = command.process_group(0).spawn().context("the master could not be started")?;
        let took = wait_until_ready(&mut child, &self.address(), began);
        self.child = Some(child);
        let took =
            took.with_context(|| format!("the master's log ends with: {}", tail(&self.folder.join("log"))))?;
        self.token = std::fs::read_to_string(self.folder.join("state/admin.token"))?.trim().to_owned();
        self.installation =
            self.http().get("/api/v1/master")?["installation"].as_str().unwrap_or_default().to_owned();
        Ok(took)
    }

    pub fn http(&self) -> Http {
        Http::new(&self.address(), Some(self.token.clone()))
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> Result<i32> {
        Ok(self.child.as_ref().context("the master does not run")?.id() as i32)
    }

    pub fn cpu(&self) -> Result<Duration> {
        Ok(process::cpu(&[self.pid()?]))
    }

    /// Process ids of the local agents that are attached. Their place ends in KEY:PID:START:BOOT.
    pub fn agents(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for row in self.database.rows("SELECT phase FROM workers WHERE gone IS NULL")? {
            let phase: Value = serde_json::from_str(&row[0])?;
            let at = phase["up"]["at"].as_str().unwrap_or_default();
            pids.extend(at.split(':').nth(1).and_then(|pid| pid.parse::<i32>().ok()));
        }
        Ok(pids)
    }

    /// Ends it and its workers.
    pub fn stop(mut self) {
        self.end_workers();
        self.end_master();
    }

    /// Ends the process alone; its workers, if it has any, stay.
    pub fn end_master(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::end(&mut child, Duration::from_secs(20));
        }
    }

    fn end_workers(&mut self) {
        if self.child.is_none() {
            return;
        }
        let live = "SELECT name FROM workers WHERE gone IS NULL";
        let until = Instant::now() + Duration::from_secs(20);
        let mut http = self.http();
        for row in self.database.rows(live).unwrap_or_default() {
            let _ = http.call("POST", &format!("/api/v1/workers/{}/terminate", row[0]), Some(&json!({})));
        }
        while self.database.rows(live).is_ok_and(|rows| !rows.is_empty()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.end_workers();
        self.end_master();
        if self.installation.is_empty() {
            return;
        }
        // What would not go in order: by its mark, which nothing else carries.
        for pid in process::mentioning(&self.installation) {
            process::kill9(pid);
        }
        let short: String = self.installation.chars().take(8).collect();
        for entry in std::fs::read_dir("/var/tmp").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("rouse-{short}-")) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn wait_until_ready(child: &mut Child, address: &str, began: Instant) -> Result<Duration> {
    loop {
        // A new connection each time: what refused a moment ago may be there now.
        if Http::new(address, None).call("GET", "/readyz", None).is_ok_and(|(status, _)| status == 200) {
            return Ok(began.elapsed());
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}");
        }
        if began.elapsed() > START {
            bail!("it was not ready after {} s", START.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no loopback port is free")?;
    Ok(listener.local_addr()?.port())
}
