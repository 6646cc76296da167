//! Files that are written by the program and kept for readers and editors: in step with it, always.

use std::path::Path;

use anyhow::{Context, Result};

use crate::process::{self, Interrupt};
use crate::tidy::Faults;
use crate::workspace::Workspace;

/// File, and the verb of the master that prints it.
const FILES: &[(&str, &[&str])] = &[
    ("config/rouse-v1.schema.json", &["config", "schema"]),
    ("docs/reference/openapi.json", &["api", "openapi"]),
    ("docs/reference/cli.md", &["reference"]),
    ("docs/reference/metrics.md", &["reference", "metrics"]),
];

/// Faults for each file that differs from what the master prints. A verb and its file appear together: one
/// without the other is a fault too.
pub fn check(workspace: &Workspace) -> Result<Faults> {
    let mut faults = Faults::new();
    for (file, verb) in FILES {
        let there = workspace.root.join(file).exists();
        let known = workspace.master_knows(verb)?;
        match (there, known) {
            (false, false) => {}
            (true, false) => {
                faults.push(format!("{file} is there, but there is no `rouse {}`", verb.join(" ")))
            }
            (false, true) => faults.push(format!("{file} is missing: cargo xtask generate")),
            (true, true) => {
                let kept =
                    std::fs::read_to_string(workspace.root.join(file)).with_context(|| file.to_string())?;
                if kept != printed(workspace, verb)? {
                    faults.push(format!(
                        "{file} differs from `rouse {}`: cargo xtask generate",
                        verb.join(" ")
                    ));
                }
            }
        }
    }
    Ok(faults)
}

/// The verb: builds the master and writes every file that it can print.
pub fn write(workspace: &Workspace, interrupt: &Interrupt) -> Result<bool> {
    workspace.build_master(interrupt)?;
    for (file, verb) in FILES {
        if workspace.master_knows(verb)? {
            let path = workspace.root.join(file);
            let folder = path.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
            std::fs::write(&path, printed(workspace, verb)?)
                .with_context(|| format!("{file} cannot be written"))?;
            println!("{file}");
        }
    }
    Ok(true)
}

fn printed(workspace: &Workspace, verb: &[&str]) -> Result<String> {
    process::output(workspace.master().args(verb))
}
