//! The tests: what there is, how long each takes with the code as it stands, and which places it comes by.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::build::Binary;
use crate::child::{self, Interrupt};

/// Longer than any test takes with the code as it stands.
const RECORDING: Duration = Duration::from_secs(600);

/// How a test draws here: the same each time, as little as shows something, and without looking for the smallest input that fails.
const DRAWN: &[(&str, &str)] = &[
    ("ROUSE_TEST_SEEDS", "20"),
    ("PROPTEST_RNG_SEED", "1"),
    ("PROPTEST_MAX_SHRINK_ITERS", "0"),
    ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true"),
    ("INSTA_UPDATE", "no"),
    ("RUST_BACKTRACE", "0"),
];
const NOT_DRAWN: &[&str] =
    &["ROUSE_TEST_SOAK", "ROUSE_TEST_SEED", "ROUSE_MUTANT", "ROUSE_MUTANT_REACHED", "UPDATE_EXPECT"];

#[derive(Debug)]
pub struct Test {
    pub binary: usize,
    pub name: String,
    pub took: Duration,
}

/// Which tests take part.
pub struct Wanted<'a> {
    pub names: Option<&'a Regex>,
    pub longest: Option<Duration>,
}

pub struct Suite {
    binaries: Vec<Binary>,
    /// What tests write to; nothing of it is looked at.
    scratch: PathBuf,
    /// Those that pass, the quickest first.
    pub tests: Vec<Test>,
    /// A place, by its first change, and which of the tests come by it.
    pub reached: BTreeMap<u32, Vec<usize>>,
}

impl Suite {
    /// Runs each wanted test once, in a process of its own.
    pub fn record(
        binaries: Vec<Binary>,
        scratch: PathBuf,
        wanted: &Wanted,
        jobs: usize,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        fs::create_dir_all(&scratch).with_context(|| format!("{} cannot be made", scratch.display()))?;
        let mut suite = Self { binaries, scratch, tests: Vec::new(), reached: BTreeMap::new() };
        let names = suite.names(wanted.names)?;
        if names.is_empty() {
            bail!("no test is of that name: there is nothing to run the changes against");
        }
        let numbered: Vec<(usize, &(usize, String))> = names.iter().enumerate().collect();
        let deadline = wanted.longest.unwrap_or(RECORDING);
        let recorded = child::each(jobs, &numbered, |(at, (binary, name))| {
            suite.once(*at, *binary, name, deadline, interrupt)
        })?;
        let mut recorded: Vec<(Test, Vec<u32>)> = recorded.into_iter().flatten().collect();
        recorded.sort_by_key(|(test, _)| test.took);
        for (at, (test, places)) in recorded.into_iter().enumerate() {
            suite.tests.push(test);
            for place in places {
                suite.reached.entry(place).or_default().push(at);
            }
        }
        Ok(suite)
    }

    /// A test of it by its name, as a process to be.
    pub fn command(&self, binary: usize, name: &str) -> Command {
        let binary = &self.binaries[binary];
        let mut command = Command::new(&binary.file);
        command.args(["--exact", name]).current_dir(&binary.folder).env("CARGO_MANIFEST_DIR", &binary.folder);
        for name in NOT_DRAWN {
            command.env_remove(name);
        }
        command.envs(DRAWN.iter().copied()).env("TMPDIR", &self.scratch);
        command
    }

    fn names(&self, only: Option<&Regex>) -> Result<Vec<(usize, String)>> {
        let mut names = Vec::new();
        for (at, binary) in self.binaries.iter().enumerate() {
            let output = Command::new(&binary.file).args(["--list", "--format", "terse"]).output();
            let output = output.with_context(|| format!("{} could not be run", binary.file.display()))?;
            let listed = String::from_utf8_lossy(&output.stdout);
            let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
            let wanted = tests.filter(|name| only.is_none_or(|only| only.is_match(name)));
            names.extend(wanted.map(|name| (at, name.to_owned())));
        }
        Ok(names)
    }

    /// What does not pass in time with the code as it stands says nothing of a change.
    fn once(
        &self,
        at: usize,
        binary: usize,
        name: &str,
        deadline: Duration,
        interrupt: &Interrupt,
    ) -> Result<Option<(Test, Vec<u32>)>> {
        let path = |of: &str| self.scratch.join(format!("{at}.{of}"));
        let (reached, said) = (path("reached"), path("said"));
        let out = File::create(&said).with_context(|| format!("{} cannot be made", said.display()))?;
        let mut command = self.command(binary, name);
        command.env("ROUSE_MUTANT_REACHED", &reached).stderr(out.try_clone()?).stdout(out);
        let began = Instant::now();
        let status = child::run(&mut command, deadline, interrupt)?;
        let took = began.elapsed();
        let Some(status) = status else {
            eprintln!("{name} takes longer than {} s, and is not used", deadline.as_secs());
            return Ok(None);
        };
        let said = fs::read_to_string(&said).unwrap_or_default();
        if !status.success() || !said.contains("1 passed") {
            eprintln!("{name} does not pass with the code as it stands, and is not used:\n{said}");
            return Ok(None);
        }
        let places = fs::read_to_string(&reached).unwrap_or_default();
        let places = places.lines().filter_map(|line| line.parse().ok()).collect::<BTreeSet<u32>>();
        Ok(Some((Test { binary, name: name.to_owned(), took }, places.into_iter().collect())))
    }
}
