//! `cargo xtask test`: everything that must hold, in one run, with one closing line.
//!
//! Format, lints and tidy are cases like the tests themselves. Each test binary is run by itself, so that a test
//! that hangs is killed and named, and what a binary leaves running is seen and counted against it.

mod binaries;
mod tally;

use std::process::Command;

use anyhow::Result;

use crate::back_ends::{self, BackEnds};
use crate::process::{self, Interrupt};
use crate::workspace::Workspace;
use crate::{agent, fuzz, mutants, packages, tidy};
use binaries::Surroundings;
pub use tally::Tally;

pub fn run(workspace: &Workspace, filter: Option<&str>, soak: bool, interrupt: &Interrupt) -> Result<bool> {
    let mut tally = Tally::new(filter);
    let result = run_all(workspace, filter, soak, interrupt, &mut tally);
    if let Err(error) = result {
        if error.is::<process::Interrupted>() {
            return Err(error);
        }
        tally.fail("the run", &format!("{error:#}"));
    }
    Ok(tally.close())
}

fn run_all(
    workspace: &Workspace,
    filter: Option<&str>,
    soak: bool,
    interrupt: &Interrupt,
    tally: &mut Tally,
) -> Result<()> {
    back_ends::report_missing(&packages::ensure(packages::TEST, interrupt)?);
    cargo_case(workspace, interrupt, tally, "format", &["fmt", "--all", "--check"])?;
    let clippy =
        ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    cargo_case(workspace, interrupt, tally, "clippy", &clippy)?;
    let built = binaries::build(workspace, interrupt)?;
    agent_case(workspace, interrupt, tally)?;
    tidy::cases(workspace, interrupt, tally)?;
    let Some(built) = built else {
        tally.fail("build", "the tests do not compile");
        return Ok(());
    };
    let back_ends = BackEnds::start(interrupt)?;
    for line in back_ends.lines() {
        eprintln!("{line}");
    }
    if in_ci() {
        for missing in &back_ends.missing {
            tally.fail(&format!("back end {}", missing.what), &missing.why);
        }
    }
    let surroundings = Surroundings { back_ends: &back_ends, soak };
    binaries::run(workspace, &built, &surroundings, interrupt, tally)?;
    fuzz::cases(workspace, interrupt, tally)?;
    mutants::case(workspace, interrupt, tally)?;
    tally.skip(back_ends.skips());
    // A filtered run tells of leftovers too: they are the filtered tests' own.
    let left = back_ends.stop();
    if filter.is_none() || !left.is_empty() {
        tally.case("nothing is left over", || if left.is_empty() { Ok(()) } else { Err(left.join("\n")) });
    }
    Ok(())
}

/// One run of cargo as a case of its own.
fn cargo_case(
    workspace: &Workspace,
    interrupt: &Interrupt,
    tally: &mut Tally,
    name: &str,
    arguments: &[&str],
) -> Result<()> {
    if !tally.wants(name) {
        return Ok(());
    }
    eprintln!("{name} …");
    let mut command: Command = workspace.cargo();
    // Our standard output carries results; what cargo has to say stands above them.
    command.args(arguments).stdout(std::io::stderr());
    let status = process::run(&mut command, interrupt)?;
    tally.case(name, || {
        if status.success() { Ok(()) } else { Err(format!("cargo {}: see above", arguments[0])) }
    });
    Ok(())
}

fn agent_case(workspace: &Workspace, interrupt: &Interrupt, tally: &mut Tally) -> Result<()> {
    eprintln!("agent …");
    // Built under every filter: the scenarios put it into workers.
    let built = agent::build(workspace, interrupt);
    if let Err(error) = &built
        && error.is::<process::Interrupted>()
    {
        interrupt.check()?;
    }
    tally.case("agent is static and small", || {
        let agent = built.map_err(|error| format!("{error:#}"))?;
        let sizes = agent::Sizes::of(&agent.file).map_err(|error| format!("{error:#}"))?;
        eprintln!("agent: {sizes}");
        let checked = sizes.check().and_then(|()| agent::check_static(&agent.file));
        checked.map_err(|error| format!("{error:#}"))
    });
    Ok(())
}

pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
