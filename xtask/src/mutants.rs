//! `cargo xtask mutants`: what no test would notice (`docs/mutants.md`). The package `mutants` does it, and stands outside the workspace.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::{self, Interrupt};
use crate::test::Tally;
use crate::workspace::Workspace;

/// Of the tests: the package's own.
const CASE: &str = "mutants";

pub fn run(workspace: &Workspace, arguments: &[OsString], interrupt: &Interrupt) -> Result<bool> {
    if !process::run(&mut cargo(workspace, "build"), interrupt)?.success() {
        bail!("the package `mutants` does not compile");
    }
    // Not by cargo: the one that is told to end is then the one that ends the tests in hand.
    let mut command = Command::new(folder(workspace).join("debug/rouse-mutants"));
    command.arg("--root").arg(&workspace.root).arg("--target").arg(&workspace.target).args(arguments);
    command.current_dir(&workspace.root);
    Ok(process::run(&mut command, interrupt)?.success())
}

pub fn case(workspace: &Workspace, interrupt: &Interrupt, tally: &mut Tally) -> Result<()> {
    if !tally.wants(CASE) {
        return Ok(());
    }
    eprintln!("{CASE} …");
    let status = process::run(&mut cargo(workspace, "test"), interrupt)?;
    tally.case(CASE, || if status.success() { Ok(()) } else { Err("cargo test: see above".to_owned()) });
    Ok(())
}

/// The target folder is the workspace's own, so that it is kept where that is kept.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("mutants/tool")
}

fn cargo(workspace: &Workspace, verb: &str) -> Command {
    let mut command = workspace.cargo();
    command.args([verb, "--quiet", "--locked", "--manifest-path", "mutants/Cargo.toml", "--target-dir"]);
    command.arg(folder(workspace)).stdin(Stdio::null()).stdout(std::io::stderr());
    command
}
