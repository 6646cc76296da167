//! Which module of the master may use which: the one table. A new arrow needs an ADR under `docs/adr/`.
//!
//! Paths are read from the tokens of each file: `crate::x`, `crate::{x, y}` and `super::…` up to the root, in
//! `use` items and in the middle of code alike. Test modules are free.

use std::path::Path;

use anyhow::{Context, Result};

use super::Faults;
use super::source::{self, Reference};
use crate::workspace::Workspace;

/// Services: anyone may call them.
const SERVICES: &[&str] = &[
    "config",
    "sources",
    "render",
    "requests",
    "logs",
    "artifacts",
    "secrets",
    "events",
    // docs/adr/0002
    "switchboard",
    // docs/adr/0004
    "accounts",
    "ctx",
    // docs/adr/0032
    "metrics",
    // docs/adr/0037
    "machines",
    // docs/adr/0039
    "budgets",
    "objects",
    "placing",
    "revisions",
    "specs",
    "transfers",
    "workers",
];

/// Loops: they read the store and nudge; they never call each other.
const LOOPS: &[&str] = &[
    "changes",
    "schedulers",
    "matching",
    "fleet",
    "agent_link",
    "builds",
    "reporters",
    "upkeep",
    // docs/adr/0009
    "peers",
    // docs/adr/0041
    "telemetry",
];

/// Readers: they read everything, and only the readers to the right of them and the root call them.
const READERS: &[&str] = &["explain", "simulate", "api", "cli"];

/// Small parts that belong to no room: they import nothing of the master, and anyone may use them.
const TOOLS: &[&str] = &["authority", "junit", "keys", "memory", "supervisor", "tls_client"];

/// Puts everything together. Called by the CLI's verbs that run a master.
const ROOT: &str = "boot";

/// Third-party and own packages that only these modules may name; a folder means all below it.
const GUARDED: &[(&str, &[&str])] = &[
    // docs/adr/0006
    ("rouse_provider_local", &["boot", "cli/demo"]),
    ("rouse_provider_docker", &["boot", "cli/demo"]),
    // docs/adr/0037
    ("rouse_provider_enrolled", &["boot", "ctx", "agent_link", "cli/host"]),
    ("bollard", &[]),
    ("sqlx", &[]),
    ("rusqlite", &[]),
    // docs/adr/0005
    ("rouse_agent_protocol", &["agent_link", "artifacts", "builds", "fleet", "logs", "switchboard"]),
];

pub fn check(workspace: &Workspace) -> Result<Faults> {
    let mut faults = Faults::new();
    for file in workspace.files()? {
        let Ok(inside) = file.strip_prefix("src") else { continue };
        if inside.extension().is_none_or(|extension| extension != "rs") || is_test(inside) {
            continue;
        }
        let text = workspace.text(&file)?.with_context(|| format!("{} is not text", file.display()))?;
        let references =
            source::references(&text, depth(inside)).with_context(|| format!("{}", file.display()))?;
        for reference in references {
            if let Err(why) = judge(inside, &reference) {
                faults.push(format!("{}:{}: {why}", file.display(), reference.line));
            }
        }
    }
    Ok(faults)
}

fn judge(inside: &Path, reference: &Reference) -> Result<(), String> {
    let target = reference.target.as_str();
    let module = top(inside);
    let module = module.as_str();
    if !reference.ours {
        let Some((_, users)) = GUARDED.iter().find(|(name, _)| *name == target) else { return Ok(()) };
        let place = inside.with_extension("");
        let allowed = users.iter().any(|user| place.starts_with(user));
        return if allowed { Ok(()) } else { Err(format!("{module} may not name {target}")) };
    }
    // What starts with a capital is an item of the root, not a module.
    if target == module || module == "lib" || module == "main" || target.starts_with(char::is_uppercase) {
        return Ok(());
    }
    let refuse = |why: &str| {
        Err(format!(
            "{module} → {target}: {why}; a new arrow needs an ADR and a row in xtask/src/tidy/layers.rs"
        ))
    };
    if !known(module) {
        return refuse(&format!("module {module} has no place in the table"));
    }
    if !known(target) {
        return refuse(&format!("module {target} has no place in the table"));
    }
    if TOOLS.contains(&target) {
        return Ok(());
    }
    if TOOLS.contains(&module) {
        return refuse("a tool imports nothing of the master");
    }
    if module == ROOT {
        return if target == "cli" {
            refuse("the CLI starts the master, not the other way round")
        } else {
            Ok(())
        };
    }
    if let Some(place) = rank(module) {
        return match rank(target) {
            Some(other) if other > place => refuse("a reader is called by those after it alone"),
            _ if target == ROOT && module != "cli" => refuse("only the CLI starts a master"),
            _ => Ok(()),
        };
    }
    if SERVICES.contains(&target) {
        return Ok(());
    }
    if LOOPS.contains(&target) {
        return refuse("loops are called by nobody: they read the store and nudge");
    }
    refuse("it reads all and is called by none")
}

fn known(module: &str) -> bool {
    module == ROOT || [SERVICES, LOOPS, READERS, TOOLS].iter().any(|group| group.contains(&module))
}

fn rank(module: &str) -> Option<usize> {
    READERS.iter().position(|reader| *reader == module)
}

/// `builds` for `builds.rs`, `builds/driver.rs` and `builds/driver/x.rs`.
fn top(inside: &Path) -> String {
    let first = inside.iter().next().unwrap_or_default();
    first.to_string_lossy().trim_end_matches(".rs").to_string()
}

/// How many times `super` leads from the file's module to the root.
fn depth(inside: &Path) -> usize {
    let root = ["lib.rs", "main.rs"].iter().any(|name| inside == Path::new(name));
    if root { 0 } else { inside.components().count() }
}

/// Files of a test module: `tests.rs`, or below `tests/`.
fn is_test(inside: &Path) -> bool {
    inside.iter().any(|part| part == "tests" || part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(module: &str, target: &str) -> bool {
        judge(
            &Path::new(module).with_extension("rs"),
            &Reference { ours: true, target: target.into(), line: 1 },
        )
        .is_ok()
    }

    fn theirs(module: &str, target: &str) -> bool {
        judge(
            &Path::new(module).with_extension("rs"),
            &Reference { ours: false, target: target.into(), line: 1 },
        )
        .is_ok()
    }

    #[test]
    fn the_table_of_arrows() {
        assert!(ours("builds", "render"));
        assert!(ours("requests", "events"));
        assert!(!ours("builds", "fleet"), "loops never call each other");
        assert!(!ours("render", "builds"), "services don't call loops");
        assert!(!ours("builds", "explain"), "readers are called by none");
        assert!(ours("api", "explain"));
        assert!(ours("api", "fleet"));
        assert!(!ours("explain", "api"));
        assert!(ours("boot", "fleet"));
        assert!(ours("cli", "boot"));
        assert!(!ours("api", "boot"));
        assert!(!ours("builds", "helpers"), "a module without a place is refused");
        assert!(theirs("boot", "rouse_provider_docker"));
        assert!(!theirs("fleet", "rouse_provider_docker"));
        assert!(theirs("cli/demo/image", "rouse_provider_docker"));
        assert!(!theirs("cli/build", "rouse_provider_docker"));
        assert!(!theirs("api", "sqlx"));
        assert!(theirs("builds", "tokio"));
    }

    #[test]
    fn files_belong_to_the_module_of_their_first_folder() {
        assert_eq!(top(Path::new("builds/driver/next.rs")), "builds");
        assert_eq!(top(Path::new("boot.rs")), "boot");
        assert_eq!(depth(Path::new("lib.rs")), 0);
        assert_eq!(depth(Path::new("builds.rs")), 1);
        assert_eq!(depth(Path::new("builds/driver.rs")), 2);
    }
}
