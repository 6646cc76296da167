//! An own object store that speaks S3: moto, which keeps everything in memory. It takes any key; each test makes a bucket of its own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::run_folder::RunFolder;
use super::{accepts, free_port};
use crate::process::{Daemon, Interrupt};
use crate::venv;

/// `moto[server]` without what it needs for other services than S3.
const REQUIREMENTS: &str = "moto[s3]==5.2.5\nflask==3.1.3\nflask-cors==6.0.5\n";

pub struct S3 {
    port: u16,
    _daemon: Daemon,
}

impl S3 {
    pub fn start(run: &RunFolder, interrupt: &Interrupt) -> Result<Self> {
        let moto = venv::ensure("rouse-tests", "moto", REQUIREMENTS, interrupt)?;
        let folder = run.folder("s3")?;
        let port = free_port()?;
        let mut server = Command::new(moto.join("bin/python"));
        server.arg("-B").arg(moto.join("bin/moto_server")).args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let log = folder.join("log");
        let mut daemon = Daemon::start(&server, None, Signal::SIGTERM, &log).context("moto")?;
        daemon.wait_until(&log, Duration::from_secs(60), interrupt, || accepts(port)).context("moto")?;
        Ok(Self { port, _daemon: daemon })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
