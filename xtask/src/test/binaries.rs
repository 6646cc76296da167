//! Builds the test binaries of the workspace, runs each under a deadline, and reads their results.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::tally::Tally;
use crate::back_ends::BackEnds;
use crate::process::{self, Channel, Ended, Interrupt};
use crate::workspace::{Workspace, array};

/// A binary in which no test ends for so long is hung. A single scenario takes far less.
const SILENCE: Duration = Duration::from_secs(300);

/// The same where a single test may go through hundreds of cases.
const SOAKING: Duration = Duration::from_secs(2 * 3600);

/// What the tests of a run find around them.
pub struct Surroundings<'a> {
    pub back_ends: &'a BackEnds,
    /// All is asked for that is usually a part.
    pub soak: bool,
}

impl Surroundings<'_> {
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut environment = self.back_ends.environment();
        environment.extend(self.soak.then(|| ("ROUSE_TEST_SOAK", "1".into())));
        environment
    }

    fn silence(&self) -> Duration {
        let given = std::env::var("ROUSE_TEST_DEADLINE").ok().and_then(|seconds| seconds.parse().ok());
        given.map_or(if self.soak { SOAKING } else { SILENCE }, Duration::from_secs)
    }
}

/// One test binary, as cargo named it.
pub struct Binary {
    /// `package` or `package target`.
    name: String,
    file: PathBuf,
    /// Tests expect to run in their package's folder.
    dir: PathBuf,
    /// Its tests hold the product's parts in their own process.
    unit: bool,
}

/// Compiles every test; `None` where that fails (cargo has said why).
pub fn build(workspace: &Workspace, interrupt: &Interrupt) -> Result<Option<Vec<Binary>>> {
    eprintln!("build …");
    let mut command = workspace.cargo();
    command.args(["test", "--quiet", "--workspace", "--locked", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    let mut binaries = Vec::new();
    let ended = process::stream(&mut command, Duration::MAX, interrupt, |channel, line| {
        match channel {
            Channel::Err => eprintln!("{line}"),
            Channel::Out => binaries.extend(read_artifact(line)),
        }
        true
    })?;
    binaries.sort_by(|a: &Binary, b| a.name.cmp(&b.name));
    Ok(matches!(ended, Ended::Exited(status) if status.success()).then_some(binaries))
}

fn read_artifact(line: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let file = message["executable"].as_str()?.into();
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let dir = manifest.parent()?.to_path_buf();
    let target = message["target"]["name"].as_str()?;
    let kind = array(&message["target"]["kind"]).next().and_then(Value::as_str)?;
    // The id ends in `path#name@version`, or `path#version` where the folder has the package's name.
    let id = message["package_id"].as_str()?;
    let package = match id.rsplit_once('#')?.1.split_once('@') {
        Some((name, _)) => name.to_string(),
        None => dir.file_name()?.to_str()?.to_string(),
    };
    let name = match kind {
        "lib" => package,
        kind => format!("{package} ({kind} {target})"),
    };
    Some(Binary { name, file, dir, unit: kind != "test" })
}

/// Runs them one after the other: each uses all cores by itself.
pub fn run(
    workspace: &Workspace,
    binaries: &[Binary],
    surroundings: &Surroundings,
    interrupt: &Interrupt,
    tally: &mut Tally,
) -> Result<()> {
    for binary in binaries {
        let names = list(binary, surroundings, tally.filter())?;
        if names.is_empty() {
            continue;
        }
        println!("\n{} ({} tests)", binary.name, names.len());
        let mut command = command(binary, surroundings);
        command.args(tally.filter());
        run_one(&binary.name, &mut command, names, surroundings, interrupt, tally)?;
    }
    doc_tests(workspace, surroundings, interrupt, tally)
}

/// Examples in documentation comments; cargo alone knows how to run them.
fn doc_tests(
    workspace: &Workspace,
    surroundings: &Surroundings,
    interrupt: &Interrupt,
    tally: &mut Tally,
) -> Result<()> {
    println!("\nexamples in documentation");
    let mut command = workspace.cargo();
    command.args(["test", "--workspace", "--locked", "--doc", "--no-fail-fast", "--"]);
    command.args(tally.filter()).envs(surroundings.environment());
    run_one("examples in documentation", &mut command, BTreeSet::new(), surroundings, interrupt, tally)
}

fn command(binary: &Binary, surroundings: &Surroundings) -> Command {
    let mut command = Command::new(&binary.file);
    command.current_dir(&binary.dir).env("CARGO_MANIFEST_DIR", &binary.dir).envs(surroundings.environment());
    if binary.unit {
        command.env("TMPDIR", surroundings.back_ends.temporary_of_unit_tests());
    }
    // A snapshot that differs is a failure, never a new file.
    command.env("INSTA_UPDATE", "no");
    command
}

fn list(binary: &Binary, surroundings: &Surroundings, filter: Option<&str>) -> Result<BTreeSet<String>> {
    let mut command = command(binary, surroundings);
    command.args(["--list", "--format", "terse"]).args(filter).stdin(Stdio::null());
    let text = process::output(&mut command).with_context(|| format!("the tests of {}", binary.name))?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_string).collect())
}

fn run_one(
    name: &str,
    command: &mut Command,
    names: BTreeSet<String>,
    surroundings: &Surroundings,
    interrupt: &Interrupt,
    tally: &mut Tally,
) -> Result<()> {
    let mut results = Results::expecting(names);
    let ended = process::stream(command, surroundings.silence(), interrupt, |channel, line| {
        match channel {
            Channel::Out if says_nothing(line) => {}
            Channel::Out => println!("{line}"),
            Channel::Err => eprintln!("{line}"),
        }
        channel == Channel::Out && results.read(line)
    })?;
    let failures = results.close(&ended);
    for failure in &failures {
        println!("failed: {name}: {failure}");
    }
    tally.add(results.passed, failures.into_iter().map(|failure| format!("{name}: {failure}")));
    let left = surroundings.back_ends.reap_processes_of_tests();
    if !left.is_empty() {
        tally.fail(&format!("{name}: no process is left over"), &left.join("\n"));
    }
    Ok(())
}

/// Lines around tests that there are none of: most packages have no examples.
fn says_nothing(line: &str) -> bool {
    line.is_empty()
        || line == "running 0 tests"
        || line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored;")
}

/// What libtest has told so far about one binary, or about several that cargo runs in a row.
#[derive(Default)]
struct Results {
    unfinished: BTreeSet<String>,
    /// Told by libtest after a minute: the likely ones when nothing moves.
    slow: BTreeSet<String>,
    failed: Vec<String>,
    passed: u64,
    /// Passed since the last summary: all there is to go by where none comes.
    told: u64,
    /// Failures by the counts of the summaries, which know more than the lines that output may have torn.
    counted_failures: u64,
    ignored: u64,
}

impl Results {
    fn expecting(names: BTreeSet<String>) -> Self {
        Self { unfinished: names, ..Self::default() }
    }

    /// Reads one line; true where it means that a test has ended.
    fn read(&mut self, line: &str) -> bool {
        if let Some(summary) = line.strip_prefix("test result: ") {
            self.passed += count(summary, " passed");
            self.counted_failures += count(summary, " failed");
            self.ignored += count(summary, " ignored");
            self.told = 0;
            return true;
        }
        let Some(rest) = line.strip_prefix("test ") else { return false };
        if let Some((name, _)) = rest.split_once(" has been running for over ") {
            self.slow.insert(name.to_string());
            return false;
        }
        let Some((name, outcome)) = rest.rsplit_once(" ... ") else { return false };
        // `test name - should panic ... ok`
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        if outcome.starts_with("FAILED") {
            self.failed.push(name.to_string());
        }
        self.unfinished.remove(name);
        self.told += u64::from(outcome.starts_with("ok"));
        outcome.starts_with("ok") || outcome.starts_with("FAILED") || outcome.starts_with("ignored")
    }

    /// The names of all failures, those of a binary that did not end by itself included.
    fn close(&mut self, ended: &Ended) -> Vec<String> {
        self.passed += std::mem::take(&mut self.told);
        let mut failures = std::mem::take(&mut self.failed);
        for unnamed in failures.len() as u64..self.counted_failures {
            failures.push(format!("failure {}", unnamed + 1));
        }
        if self.ignored > 0 {
            failures.push(format!("{} ignored tests: none may be", self.ignored));
        }
        match ended {
            Ended::Exited(status) if status.success() => {}
            Ended::Exited(_) if self.counted_failures > 0 => {}
            Ended::Exited(status) => failures.push(format!("ended with {status} before its tests did")),
            Ended::Hung => {
                let hung = if self.slow.is_empty() { &self.unfinished } else { &self.slow };
                let hung: Vec<String> = hung.intersection(&self.unfinished).cloned().collect();
                failures.extend(hung.iter().map(|name| format!("{name} hung and was killed")));
                let others = self.unfinished.len() - hung.len();
                if others > 0 || hung.is_empty() {
                    failures.push(format!("{others} more tests had not ended when it was killed"));
                }
            }
        }
        failures
    }
}

/// The number before a word in `ok. 3 passed; 1 failed; …`.
fn count(summary: &str, word: &str) -> u64 {
    let before = summary.split(word).next().filter(|before| before.len() < summary.len());
    before.and_then(|before| before.rsplit(' ').next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn read(names: &[&str], lines: &[&str], ended: Ended) -> (u64, Vec<String>) {
        let mut results = Results::expecting(names.iter().map(|name| name.to_string()).collect());
        for line in lines {
            results.read(line);
        }
        let failures = results.close(&ended);
        (results.passed, failures)
    }

    fn exit(code: i32) -> Ended {
        Ended::Exited(ExitStatus::from_raw(code << 8))
    }

    #[test]
    fn counts_come_from_the_summary_and_names_from_the_lines() {
        let lines = [
            "test a ... ok",
            "test b ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured",
        ];
        assert_eq!(read(&["a", "b"], &lines, exit(101)), (1, vec!["b".to_string()]));
    }

    #[test]
    fn a_binary_that_aborts_is_a_failure() {
        let (passed, failures) = read(&["a", "b"], &["test a ... ok"], exit(134));
        assert_eq!(passed, 1);
        assert_eq!(failures.len(), 1);
        assert!(failures[0].contains("before its tests did"), "{failures:?}");
    }

    #[test]
    fn a_hung_test_is_named() {
        let lines = ["test a ... ok", "test b has been running for over 60 seconds"];
        let (_, failures) = read(&["a", "b", "c"], &lines, Ended::Hung);
        assert_eq!(failures, ["b hung and was killed", "1 more tests had not ended when it was killed"]);
    }

    #[test]
    fn an_ignored_test_is_a_failure() {
        let lines = ["test a ... ignored", "test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured"];
        assert_eq!(read(&["a"], &lines, exit(0)).1.len(), 1);
    }
}
