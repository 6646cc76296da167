//! `cargo xtask bench`: builds what is shipped, prepares the peer and the back ends, and runs the harness of `bench/`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::back_ends::{BackEnds, report_missing};
use crate::process::{self, Interrupt};
use crate::workspace::Workspace;
use crate::{agent, packages, venv};

/// What the peer is made of; the folder that it is installed into is named by the hash of this.
const REQUIREMENTS: &str = "bench/peer/requirements.txt";
/// The profile of what is measured, as cargo names its folder too.
const PROFILE: &str = "release";

#[derive(clap::Args)]
pub struct Arguments {
    /// Every work, at sizes that take minutes
    #[arg(long)]
    quick: bool,
    /// Only this work; may be given several times
    #[arg(long, value_name = "WORK")]
    only: Vec<String>,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One object for each work and line
    Json,
}

pub fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> Result<bool> {
    packages::require(packages::DEMO, interrupt)?;
    report_missing(&packages::ensure(packages::TEST, interrupt)?);
    build(workspace, interrupt)?;
    let binaries = workspace.target.join(PROFILE);
    agent::build_beside(workspace, &binaries, interrupt)?;
    let peer = peer(workspace, interrupt);
    let back_ends = BackEnds::start(interrupt)?;
    let mut command = Command::new(binaries.join("rouse-bench"));
    command.arg("run").arg("--rouse").arg(binaries.join("rouse")).envs(back_ends.environment());
    command.args(["--size", if arguments.quick { "quick" } else { "full" }]);
    command.args(["--output", if arguments.output == Output::Json { "json" } else { "table" }]);
    command.args(arguments.only.iter().flat_map(|work| ["--only", work]));
    match peer {
        Ok(python) => command.arg("--peer").arg(python),
        Err(error) if error.is::<process::Interrupted>() => return Err(error),
        Err(error) => command.args([OsString::from("--no-peer"), format!("{error:#}").into()]),
    };
    let status = process::run(&mut command, interrupt)?;
    let mut left = back_ends.reap_processes_of_tests();
    left.extend(back_ends.stop());
    for thing in &left {
        eprintln!("left over: {thing}");
    }
    Ok(status.success() && left.is_empty())
}

fn build(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["build", "--quiet", "--locked", "--profile", PROFILE, "-p", "rouse", "-p", "rouse-bench"]);
    if !process::run(command.stdout(std::io::stderr()), interrupt)?.success() {
        bail!("what is to be measured does not compile");
    }
    Ok(())
}

/// The Python of a virtual environment that has the peer.
fn peer(workspace: &Workspace, interrupt: &Interrupt) -> Result<PathBuf> {
    let requirements = workspace.root.join(REQUIREMENTS);
    let text = std::fs::read_to_string(&requirements)
        .with_context(|| format!("{} cannot be read", requirements.display()))?;
    Ok(venv::ensure("rouse-bench", "peer", &text, interrupt)?.join("bin/python"))
}
