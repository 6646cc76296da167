//! The changes that there are to try, as `cargo mutants` lists them, and where they are looked for.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use regex::Regex;
use serde::Deserialize;

/// What is changed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum What {
    /// The model: pure rules (`crates/model`)
    Model,
    /// The master's loop over workers (`src/fleet`)
    Fleet,
}

impl What {
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Fleet => "fleet",
        }
    }

    pub fn package(self) -> &'static str {
        match self {
            Self::Model => "rouse-model",
            Self::Fleet => "rouse",
        }
    }

    /// Of which files.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Model => &["crates/model/src/**"],
            Self::Fleet => &["src/fleet.rs", "src/fleet/**"],
        }
    }

    /// Where the root of its library lies, below that of the workspace; the tables name files from here on.
    pub fn home(self) -> &'static str {
        match self {
            Self::Model => "crates/model/src/",
            Self::Fleet => "src/",
        }
    }

    /// Which of the package's tests, as cargo is told: of the master those beside the code, since the scenarios drive a binary.
    pub fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Model => &["--tests"],
            Self::Fleet => &["--lib"],
        }
    }
}

/// One change, under a number of its own from 1 on.
#[derive(Clone, Debug)]
pub struct Change {
    pub number: u32,
    pub file: String,
    pub kind: Kind,
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What stands there instead; nothing where something is deleted.
    pub replacement: String,
    /// Place and change, for a person.
    pub name: String,
    /// Of a function that returns `impl Trait`: no other type can be returned from it early.
    pub hidden_type: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Kind {
    #[serde(rename = "FnValue")]
    Body,
    #[serde(rename = "BinaryOperator")]
    Binary,
    #[serde(rename = "UnaryOperator")]
    Unary,
    #[serde(rename = "MatchArm")]
    Arm,
    #[serde(rename = "MatchArmGuard")]
    Guard,
    #[serde(rename = "StructField")]
    Field,
    /// One that a later cargo-mutants has: there is no place for it.
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
struct Listed {
    file: String,
    function: Option<Function>,
    genre: Kind,
    name: String,
    replacement: String,
    span: Span,
}

#[derive(Deserialize)]
struct Function {
    return_type: String,
}

#[derive(Deserialize)]
struct Span {
    start: Position,
}

#[derive(Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

/// All changes whose name `only` finds.
pub fn changes(cargo: &Path, root: &Path, what: What, only: Option<&Regex>) -> Result<Vec<Change>> {
    let asked = Command::new(cargo).args(["mutants", "--version"]).current_dir(root).output();
    if !asked.context("cargo could not be run")?.status.success() {
        bail!(
            "`cargo mutants` lists the changes, and is not installed: `cargo install --locked cargo-mutants`"
        );
    }
    let mut command = Command::new(cargo);
    command.args(["mutants", "--list", "--json", "--package", what.package()]).current_dir(root);
    for files in what.files() {
        command.args(["--file", files]);
    }
    let output = command.output().context("cargo could not be run")?;
    if !output.status.success() {
        bail!("cargo mutants --list: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listed: Vec<Listed> = serde_json::from_slice(&output.stdout)
        .context("cargo-mutants 27 is needed: its list was not understood")?;
    Ok(number(listed, only))
}

/// In the order of the files' names and of the places in them, as tables have them.
fn number(mut listed: Vec<Listed>, only: Option<&Regex>) -> Vec<Change> {
    listed.retain(|change| only.is_none_or(|only| only.is_match(&change.name)));
    listed.sort_by(|a, b| {
        let place = |of: &Listed| (of.span.start.line, of.span.start.column);
        a.file.cmp(&b.file).then(place(a).cmp(&place(b)))
    });
    let hides = |function: &Function| {
        function.return_type.split(|c: char| !c.is_alphanumeric()).any(|word| word == "impl")
    };
    (1..)
        .zip(listed)
        .map(|(number, listed)| Change {
            number,
            file: listed.file,
            kind: listed.genre,
            line: listed.span.start.line,
            column: listed.span.start.column,
            replacement: listed.replacement,
            name: listed.name,
            hidden_type: listed.genre == Kind::Body && listed.function.as_ref().is_some_and(hides),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = r#"[
        {"file": "a.rs", "function": {"function_name": "f", "return_type": "-> impl Iterator<Item = u32> + '_"},
         "genre": "FnValue", "name": "a.rs:1:2: one", "replacement": "::std::iter::empty()",
         "span": {"start": {"line": 1, "column": 2}, "end": {"line": 1, "column": 9}}},
        {"file": "a.rs", "function": {"function_name": "f", "return_type": "-> Simple"},
         "genre": "FnValue", "name": "a.rs:3:4: two", "replacement": "Default::default()",
         "span": {"start": {"line": 3, "column": 4}, "end": {"line": 3, "column": 9}}},
        {"file": "a.rs", "function": null, "genre": "SomethingNew", "name": "a.rs:5:6: three", "replacement": "",
         "span": {"start": {"line": 5, "column": 6}, "end": {"line": 5, "column": 9}}}
    ]"#;

    #[test]
    fn what_cargo_mutants_lists_is_read() {
        let listed = || serde_json::from_str(LISTED).unwrap();
        let all = number(listed(), None);
        assert_eq!(all.iter().map(|change| change.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(all.iter().map(|change| change.hidden_type).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!((all[0].kind, all[2].kind), (Kind::Body, Kind::Unknown));
        assert_eq!((all[1].line, all[1].column), (3, 4));
        let two = number(listed(), Some(&Regex::new("two|three").unwrap()));
        assert_eq!(
            two.iter().map(|change| change.name.as_str()).collect::<Vec<_>>(),
            ["a.rs:3:4: two", "a.rs:5:6: three"]
        );
        assert_eq!(two[0].number, 1);
    }
}
