//! A project of two files from the changes to the verdicts, with a real compiler and real tests.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Trial, Verdict};
use crate::build::Cargo;
use crate::child::Interrupt;
use crate::copy::Copy;
use crate::list::{Change, Kind, What};
use crate::settle::{Dropped, settle};
use crate::suite::{Suite, Wanted};
use crate::weave::tests::changes;

const RULES: &str = r#"//! Rules.

pub const LIMIT: usize = 2 * 3;

pub fn fits(count: usize) -> bool {
    count < LIMIT
}

pub fn numbers() -> impl Iterator<Item = u32> {
    0..3
}

pub fn loud(text: &str) -> String {
    text.to_owned() + "!"
}

pub fn untested(a: i32) -> i32 {
    -a
}

pub fn side(a: Option<i32>, odd: bool) -> i32 {
    match a {
        _ if odd => 0,
        Some(n) => n,
        None => 3,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn few_fit() {
        assert!(super::fits(1));
    }

    #[test]
    fn broken() {
        assert!(super::fits(100));
    }
}
"#;

const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nmembers = [\"crates/model\"]\nresolver = \"3\"\n"),
    ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"rouse-model\"\nversion = \"0.0.0\"\n"),
    (
        "crates/model/Cargo.toml",
        "[package]\nname = \"rouse-model\"\nversion = \"0.0.0\"\nedition = \"2024\"\n",
    ),
    ("crates/model/src/lib.rs", "//! The project.\n\npub mod rules;\n"),
    (FILE, RULES),
];

const FILE: &str = "crates/model/src/rules.rs";

fn project(root: &Path) {
    for (name, text) in FILES {
        let file = root.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    assert!(Command::new("git").args(["init", "--quiet"]).current_dir(root).status().unwrap().success());
}

fn all() -> Vec<Change> {
    let mut all = changes(
        RULES,
        &[
            (Kind::Binary, "2 §* 3", "+"),
            (Kind::Binary, "count §< LIMIT", "=="),
            (Kind::Binary, "count §< LIMIT", "<="),
            (Kind::Body, "§0..3", "::std::iter::empty()"),
            (Kind::Binary, "() §+ \"!\"", "-"),
            (Kind::Unary, "§-a", ""),
            (Kind::Arm, "§None => 3", ""),
            (Kind::Body, "§count <", "false"),
        ],
    );
    for change in &mut all {
        change.file = FILE.into();
    }
    all[3].hidden_type = true;
    all
}

#[test]
fn a_project_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    project(&tree);
    let changes = all();
    let interrupt = Interrupt::never();
    let program = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let copy = Copy::of(&tree, folder.path().join("copy")).unwrap();
    let target = folder.path().join("build");
    let cargo = Cargo { program: &program, root: &copy.root, target: &target, interrupt: &interrupt };
    let (settled, binaries) = settle(&tree, &copy, &cargo, What::Model, &changes).unwrap();
    let wanted = Wanted { names: None, longest: None };
    let suite = Suite::record(binaries, folder.path().join("scratch"), &wanted, 2, &interrupt).unwrap();
    let before = HashMap::from([(changes[7].name.clone(), "an earlier one".to_owned())]);
    let trial = Trial { settled: &settled, suite: &suite, before: &before, jobs: 2, interrupt: &interrupt };
    let verdicts = trial.judge(&changes).unwrap();

    let fault = |code: &str| Verdict::Dropped(Dropped::Fault(code.into()));
    let unwoven = |verdict: &Verdict| matches!(verdict, Verdict::Dropped(Dropped::Unwoven(_)));
    assert!(unwoven(&verdicts[0]), "in a constant: {:?}", verdicts[0]);
    assert_eq!(verdicts[1], Verdict::Noticed("rules::tests::few_fit".into()));
    // The test that does not pass as it is, is none.
    assert_eq!(verdicts[2], Verdict::Survived(1));
    assert!(unwoven(&verdicts[3]), "of a hidden type: {:?}", verdicts[3]);
    assert_eq!(verdicts[4], fault("E0369"));
    assert_eq!(verdicts[5], Verdict::Survived(0));
    assert_eq!(verdicts[6], fault("E0004"));
    assert_eq!(verdicts[7], Verdict::Noticed("an earlier one".into()));
    // The tree is as it was.
    assert_eq!(std::fs::read_to_string(tree.join(FILE)).unwrap(), RULES);
}
