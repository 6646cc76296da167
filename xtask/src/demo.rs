//! Builds the master and the agent, then becomes `rouse demo`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::Interrupt;
use crate::workspace::Workspace;
use crate::{agent, packages};

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<bool> {
    build(workspace)?;
    let rouse = workspace.binaries().join("rouse");
    // In place of ourselves: the terminal, its signals and the exit code are the demo's own.
    let error = Command::new(&rouse).arg("demo").args(arguments).exec();
    Err(error).with_context(|| format!("{} could not be started", rouse.display()))
}

fn build(workspace: &Workspace) -> Result<()> {
    let interrupt = Interrupt::install()?;
    packages::require(packages::DEMO, &interrupt)?;
    workspace.build_master(&interrupt)?;
    agent::build(workspace, &interrupt)?;
    interrupt.check()
}
