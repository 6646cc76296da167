//! An own image registry: one store behind two doors, an open one and one with a login.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::run_folder::RunFolder;
use super::{accepts, free_port, program};
use crate::process::{Daemon, Interrupt};

const USER: &str = "tester";
const PASSWORD: &str = "open-sesame";
/// bcrypt of the password: the only kind that the registry takes. It guards nothing but a loopback port.
const HASH: &str = "$2b$05$AeadOIZ.uq.HJ3WUrIruOeKMikgNP055oRlERIKCJ/aR6y0AjLH4G";

pub struct Registry {
    open: u16,
    with_login: u16,
    _daemons: [Daemon; 2],
}

impl Registry {
    pub fn start(run: &RunFolder, interrupt: &Interrupt) -> Result<Self> {
        program("docker-registry")?;
        let folder = run.folder("registry")?;
        fs::write(folder.join("htpasswd"), format!("{USER}:{HASH}\n"))
            .context("the login cannot be written")?;
        let (open, first) = door(&folder, "open", "", interrupt)?;
        let login =
            format!("auth: {{htpasswd: {{realm: rouse-test, path: {}/htpasswd}}}}\n", folder.display());
        let (with_login, second) = door(&folder, "login", &login, interrupt)?;
        Ok(Self { open, with_login, _daemons: [first, second] })
    }

    pub fn open(&self) -> String {
        format!("127.0.0.1:{}", self.open)
    }

    pub fn with_login(&self) -> String {
        format!("{USER}:{PASSWORD}@127.0.0.1:{}", self.with_login)
    }
}

fn door(folder: &Path, name: &str, login: &str, interrupt: &Interrupt) -> Result<(u16, Daemon)> {
    let port = free_port()?;
    let config = folder.join(format!("{name}.yml"));
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\n\
         storage: {{filesystem: {{rootdirectory: {}/store}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\n{login}",
        folder.display()
    );
    fs::write(&config, text).context("the registry's config cannot be written")?;
    let log = folder.join(format!("{name}.log"));
    let mut command = program("docker-registry")?;
    command.arg("serve").arg(&config);
    let mut daemon = Daemon::start(&command, None, Signal::SIGTERM, &log).context("docker-registry")?;
    daemon
        .wait_until(&log, Duration::from_secs(20), interrupt, || accepts(port))
        .context("docker-registry")?;
    Ok((port, daemon))
}
