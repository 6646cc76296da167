//! What cargo is asked: whether the copy compiles and what is wrong, and for the tests' binaries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::list::What;

/// The cargo at hand, where it works, and where it builds.
pub struct Cargo<'a> {
    pub program: &'a Path,
    pub root: &'a Path,
    pub target: &'a Path,
}

/// A binary of tests, and the folder that its tests expect to be in.
#[derive(Debug)]
pub struct Binary {
    pub file: PathBuf,
    pub folder: PathBuf,
}

/// A complaint of the compiler that stops it.
#[derive(Debug)]
pub struct Fault {
    pub code: Option<String>,
    pub message: String,
    /// File and byte; what is chiefly meant comes first.
    pub places: Vec<(PathBuf, usize)>,
}

#[derive(Deserialize)]
struct Line {
    reason: String,
    message: Option<Diagnostic>,
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    message: String,
    code: Option<Code>,
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
struct Span {
    file_name: PathBuf,
    byte_start: usize,
    is_primary: bool,
    expansion: Option<Box<Expansion>>,
}

#[derive(Deserialize)]
struct Expansion {
    span: Span,
}

impl Cargo<'_> {
    /// What stops the library of the copy from compiling; nothing does where it compiles.
    pub fn faults(&self, what: What) -> Result<Vec<Fault>> {
        let (good, lines) = self.run(&["check", "--lib", "--package", what.package()], Stdio::null())?;
        if good {
            return Ok(Vec::new());
        }
        let messages = lines.into_iter().filter_map(|line| line.message);
        let faults: Vec<Fault> =
            messages.filter(|message| message.level == "error").map(Fault::from).collect();
        if faults.is_empty() {
            bail!(
                "cargo check failed before the compiler could say why: `cargo check --lib --package {}`",
                what.package()
            );
        }
        Ok(faults)
    }

    pub fn tests(&self, what: What) -> Result<Vec<Binary>> {
        let mut arguments = vec!["test", "--no-run", "--package", what.package()];
        arguments.extend(what.tests());
        let (good, lines) = self.run(&arguments, Stdio::inherit())?;
        if !good {
            bail!("the tests of {} do not compile", what.package());
        }
        let tests = lines.into_iter().filter(|line| {
            line.reason == "compiler-artifact" && line.profile.as_ref().is_some_and(|profile| profile.test)
        });
        let binary = |line: Line| {
            Some(Binary { file: line.executable?, folder: line.manifest_path?.parent()?.into() })
        };
        Ok(tests.filter_map(binary).collect())
    }

    fn run(&self, arguments: &[&str], complaints: Stdio) -> Result<(bool, Vec<Line>)> {
        let mut command = Command::new(self.program);
        command.args(arguments).args(["--quiet", "--locked", "--message-format", "json", "--target-dir"]);
        command.arg(self.target).current_dir(self.root).stderr(complaints);
        let output = command.output().context("cargo could not be run")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let lines = said.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        Ok((output.status.success(), lines.context("what cargo said was not understood")?))
    }
}

impl From<Diagnostic> for Fault {
    fn from(message: Diagnostic) -> Self {
        let mut places = Vec::new();
        let (primary, others): (Vec<_>, Vec<_>) = message.spans.into_iter().partition(|span| span.is_primary);
        for span in primary.into_iter().chain(others) {
            let mut next = Some(span);
            // What a macro made stands in the file where the macro was called.
            while let Some(span) = next {
                places.push((span.file_name, span.byte_start));
                next = span.expansion.map(|expansion| expansion.span);
            }
        }
        Self { code: message.code.map(|code| code.code), message: message.message, places }
    }
}
