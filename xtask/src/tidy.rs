//! Holds what a reader relies on. Each check is one case of `cargo xtask test`, and names what to do.

mod arrows;
mod examples;
mod files;
mod layers;
mod licences;
mod links;
mod places;
mod source;

use anyhow::Result;

use crate::generated;
use crate::process::Interrupt;
use crate::test::Tally;
use crate::workspace::Workspace;

/// What is wrong, one line each; none is good.
pub type Faults = Vec<String>;

/// A check by its name. It gets the workspace and answers with faults; an error says that it could not look.
type Check = fn(&Workspace) -> Result<Faults>;

const CHECKS: &[(&str, Check)] = &[
    ("arrows between packages", arrows::check),
    ("arrows within the master", layers::check),
    ("files", files::check),
    ("links in the documents", links::check),
    ("places", places::check),
    ("licences, bans, sources", licences::check),
    ("generated files", generated::check),
    ("examples in the documents", examples::check),
];

/// Runs the checks as cases. The master's binary must have been built: the last ones ask it.
pub fn cases(workspace: &Workspace, interrupt: &Interrupt, tally: &mut Tally) -> Result<()> {
    for (name, check) in CHECKS {
        interrupt.check()?;
        let name = format!("tidy: {name}");
        if tally.wants(&name) {
            tally.case(&name, || match check(workspace) {
                Ok(faults) if faults.is_empty() => Ok(()),
                Ok(faults) => Err(faults.join("\n")),
                Err(error) => Err(format!("{error:#}")),
            });
        }
    }
    Ok(())
}

/// The verb: builds the master, then looks.
pub fn run(workspace: &Workspace, interrupt: &Interrupt) -> Result<bool> {
    workspace.build_master(interrupt)?;
    let mut tally = Tally::new(None);
    cases(workspace, interrupt, &mut tally)?;
    Ok(tally.close())
}
