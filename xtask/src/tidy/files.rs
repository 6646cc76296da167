//! The shape of source files: short, named for their module, no test switched off.

use std::path::Path;

use anyhow::Result;

use super::Faults;
use crate::workspace::Workspace;

const MOST_LINES: usize = 500;
/// A longer file says so near its top.
const REASON: &str = "reason for length: ";
const REASON_WITHIN: usize = 40;

pub fn check(workspace: &Workspace) -> Result<Faults> {
    let mut faults = Faults::new();
    for file in workspace.files()? {
        if file.extension().is_some_and(|extension| extension == "rs" || extension == "ts")
            && let Some(text) = workspace.text(&file)?
        {
            faults.extend(look(&file, &text));
        }
    }
    Ok(faults)
}

fn look(file: &Path, text: &str) -> Faults {
    let mut faults = Faults::new();
    let lines = text.lines().count();
    let excused = text.lines().take(REASON_WITHIN).any(|line| line.contains(REASON));
    if lines > MOST_LINES && !excused {
        faults.push(format!(
            "{}: {lines} lines, more than {MOST_LINES}: split it, or state `//! {REASON}…` at its top",
            file.display()
        ));
    }
    if file.file_name().is_some_and(|name| name == "mod.rs") {
        faults.push(format!("{}: the module's file stands beside its folder: `name.rs`", file.display()));
    }
    // Put together here, so that this file does not find itself.
    let switched_off = format!("#[{}", "ignore");
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with(&switched_off) {
            faults.push(format!("{}:{}: no test is switched off", file.display(), number + 1));
        }
    }
    let says = file.extension().is_some_and(|extension| extension == "rs") && is_shipped(file);
    if says && !text.trim_start().starts_with("//!") {
        faults.push(format!("{}: its first line does not say what it is for (`//! …`)", file.display()));
    }
    faults
}

/// A module of a package, and not one of its tests: those are named for what they test.
fn is_shipped(file: &Path) -> bool {
    file.iter().any(|part| part == "src") && !file.iter().any(|part| part == "tests" || part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_need_a_reason() {
        let long = format!("//! What it is.\n{}", "x\n".repeat(MOST_LINES));
        assert_eq!(look(Path::new("src/a.rs"), &long).len(), 1);
        let excused = format!("//! What it is.\n//! {REASON}one table\n{}", "x\n".repeat(MOST_LINES));
        assert!(look(Path::new("src/a.rs"), &excused).is_empty());
    }

    #[test]
    fn names_and_first_lines_are_looked_at() {
        assert_eq!(look(Path::new("src/a/mod.rs"), "//! A.\n").len(), 1);
        assert_eq!(look(Path::new("src/a.rs"), "fn a() {}\n").len(), 1);
        assert!(look(Path::new("src/a/tests.rs"), "fn a() {}\n").is_empty());
        assert_eq!(look(Path::new("src/a.rs"), "//! A.\n    #[ignore]\n").len(), 1);
    }
}
