//! The real back ends of the tests: an own Docker daemon, an own Podman, an own image registry, an own PostgreSQL server, an own
//! object store.
//!
//! All of them live in one run folder under the temporary directory and die with this process, however it
//! ends: each daemon gets its stop signal from the kernel when we are gone, and the next run sweeps up what a
//! killed one left. Nothing that was on the machine before is touched. Tests learn the addresses from
//! environment variables (`rouse_testkit::back_ends`).

mod docker;
mod podman;
mod postgres;
mod registry;
mod run_folder;
mod s3;

use std::ffi::OsString;
use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages;
use crate::process::{self, Interrupt};
use run_folder::RunFolder;

/// What runs. Stopped when dropped; `stop` also tells what was left.
pub struct BackEnds {
    docker: Option<docker::Docker>,
    podman: Option<podman::Podman>,
    registry: Option<registry::Registry>,
    postgres: Option<postgres::Postgres>,
    s3: Option<s3::S3>,
    /// Back ends that could not be had, with the reason.
    pub missing: Vec<Missing>,
    // Dropped last: what runs has its files there.
    folder: RunFolder,
}

pub struct Missing {
    pub what: &'static str,
    pub why: String,
}

impl BackEnds {
    /// Starts everything that can be had here. Only an interrupt is an error.
    pub fn start(interrupt: &Interrupt) -> Result<Self> {
        let folder = RunFolder::make()?;
        let mut missing = Vec::new();
        let mut keep = |what, why: anyhow::Error| {
            if why.is::<process::Interrupted>() {
                return Err(why);
            }
            missing.push(Missing { what, why: format!("{why:#}") });
            Ok(())
        };
        let mut back_ends = Self {
            docker: None,
            podman: None,
            registry: None,
            postgres: None,
            s3: None,
            missing: Vec::new(),
            folder,
        };
        if !lent("ROUSE_TEST_POSTGRES_URL") {
            match postgres::Postgres::start(&back_ends.folder, interrupt) {
                Ok(postgres) => back_ends.postgres = Some(postgres),
                Err(why) => keep("PostgreSQL", why)?,
            }
        }
        if !lent("ROUSE_TEST_S3") {
            match s3::S3::start(&back_ends.folder, interrupt) {
                Ok(s3) => back_ends.s3 = Some(s3),
                Err(why) => keep("object store", why)?,
            }
        }
        if !lent("ROUSE_TEST_REGISTRY") {
            match registry::Registry::start(&back_ends.folder, interrupt) {
                Ok(registry) => back_ends.registry = Some(registry),
                Err(why) => keep("image registry", why)?,
            }
        }
        if !lent("ROUSE_TEST_DOCKER_HOST") {
            match docker::Docker::start(&back_ends.folder, interrupt) {
                Ok(docker) => back_ends.docker = Some(docker),
                Err(why) => keep("Docker", why)?,
            }
        }
        if !lent("ROUSE_TEST_PODMAN_HOST") {
            match podman::Podman::start(&back_ends.folder, interrupt) {
                Ok(podman) => back_ends.podman = Some(podman),
                Err(why) => keep("Podman", why)?,
            }
        }
        back_ends.missing = missing;
        Ok(back_ends)
    }

    /// What the tests are told. Temporary files go to the run folder, so that a leftover is seen.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = vec![
            ("ROUSE_TEST_RUN", self.folder.mark().into()),
            ("ROUSE_TEST_SKIPS", self.folder.skips().into()),
            ("TMPDIR", self.folder.temporary().into()),
        ];
        if let Some(docker) = &self.docker {
            variables.push(("ROUSE_TEST_DOCKER_HOST", docker.host().into()));
        }
        if let Some(podman) = &self.podman {
            variables.push(("ROUSE_TEST_PODMAN_HOST", podman.host().into()));
        }
        // A test that forgets to say which daemon it means must not find the machine's own.
        let host =
            self.docker.as_ref().map_or("unix:///nonexistent/docker.sock".into(), docker::Docker::host);
        variables.push(("DOCKER_HOST", host.into()));
        if let Some(registry) = &self.registry {
            variables.push(("ROUSE_TEST_REGISTRY", registry.open().into()));
            variables.push(("ROUSE_TEST_REGISTRY_LOGIN", registry.with_login().into()));
        }
        if let Some(postgres) = &self.postgres {
            variables.push(("ROUSE_TEST_POSTGRES_URL", postgres.url().into()));
        }
        if let Some(s3) = &self.s3 {
            variables.push(("ROUSE_TEST_S3", s3.url().into()));
        }
        variables
    }

    pub fn temporary_of_unit_tests(&self) -> std::path::PathBuf {
        self.folder.of_unit_tests()
    }

    /// One line for each back end, for the person who watches.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(docker) = &self.docker {
            lines.push(format!("Docker      {}", docker.host()));
        }
        if let Some(podman) = &self.podman {
            lines.push(format!("Podman      {}", podman.host()));
        }
        if let Some(registry) = &self.registry {
            lines.push(format!("registry    {}", registry.open()));
        }
        if let Some(postgres) = &self.postgres {
            lines.push(format!("PostgreSQL  {}", postgres.url()));
        }
        if let Some(s3) = &self.s3 {
            lines.push(format!("S3          {}", s3.url()));
        }
        lines.extend(self.missing.iter().map(|missing| format!("no {}: {}", missing.what, missing.why)));
        lines
    }

    /// Live processes that the tests left behind, killed as they are told.
    pub fn reap_processes_of_tests(&self) -> Vec<String> {
        let left = process::mentioning(&self.folder.mark());
        process::kill_all(&left);
        left.into_iter().map(|seen| format!("process {}: {}", seen.pid, seen.command)).collect()
    }

    /// Tests that could not run here, in their own words.
    pub fn skips(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.skips()).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// Stops everything and answers what is still there.
    pub fn stop(mut self) -> Vec<String> {
        let mut left = self.folder.left_by_tests();
        self.docker.take();
        self.podman.take();
        self.registry.take();
        self.postgres.take();
        self.s3.take();
        left.extend(self.folder.remove());
        left
    }
}

/// Whether the caller's environment names one to use: it is used as it is and left alone.
fn lent(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Runs a command with the back ends up: for work on one crate's tests.
pub fn around(command: &[OsString], interrupt: &Interrupt) -> Result<bool> {
    report_missing(&packages::ensure(packages::TEST, interrupt)?);
    let back_ends = BackEnds::start(interrupt)?;
    for line in back_ends.lines() {
        eprintln!("{line}");
    }
    let (program, arguments) = command.split_first().context("no command was given")?;
    let mut child = Command::new(program);
    child.args(arguments).envs(back_ends.environment());
    // In our own group, with our own terminal: an interrupt reaches it as it reaches us, and it may be a shell.
    let status =
        child.status().with_context(|| format!("{} could not be started", program.to_string_lossy()))?;
    let mut left = back_ends.reap_processes_of_tests();
    left.extend(back_ends.stop());
    for thing in &left {
        eprintln!("left over: {thing}");
    }
    interrupt.check()?;
    Ok(status.success())
}

pub fn report_missing(missing: &[String]) {
    for need in missing {
        eprintln!("missing on this machine: {need}");
    }
}

/// A loopback port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no loopback port is free")?;
    Ok(listener.local_addr().context("a port without address")?.port())
}

fn accepts(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn program(name: &'static str) -> Result<Command> {
    Ok(Command::new(packages::find(name).with_context(|| format!("{name} is not installed"))?))
}
