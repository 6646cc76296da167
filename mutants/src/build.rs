//! What cargo is asked for: the tests' binaries, or why there are none.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::child::Interrupt;
use crate::list::What;

/// The cargo at hand, where it works, and where it builds.
pub struct Cargo<'a> {
    pub program: &'a Path,
    pub root: &'a Path,
    pub target: &'a Path,
    pub interrupt: &'a Interrupt,
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

/// What cargo came to.
pub enum Built {
    Tests(Vec<Binary>),
    /// What stops the code from compiling.
    Faults(Vec<Fault>),
}

impl Cargo<'_> {
    /// The tests, or what is wrong. There is no look before that would only check: it would compile for itself all that the project uses.
    pub fn tests(&self, what: What) -> Result<Built> {
        let mut command = Command::new(self.program);
        command.args(["test", "--no-run", "--quiet", "--locked", "--message-format", "json"]);
        command.args(["--package", what.package()]).args(what.tests()).arg("--target-dir").arg(self.target);
        let output = command.current_dir(self.root).output().context("cargo could not be run")?;
        self.interrupt.check()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let lines = said.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>();
        let lines = lines.context("what cargo said was not understood")?;
        if output.status.success() {
            return Ok(Built::Tests(lines.into_iter().filter_map(Line::test).collect()));
        }
        let messages = lines.into_iter().filter_map(|line| line.message);
        let faults: Vec<Fault> =
            messages.filter(|message| message.level == "error").map(Fault::from).collect();
        if faults.is_empty() {
            bail!("cargo test --no-run: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Built::Faults(faults))
    }
}

impl Line {
    fn test(self) -> Option<Binary> {
        let test = self.reason == "compiler-artifact" && self.profile?.test;
        let folder = self.manifest_path?.parent()?.into();
        self.executable.filter(|_| test).map(|file| Binary { file, folder })
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
