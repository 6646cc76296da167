//! Which changes of the code no test would notice, found with one build.
//!
//! `cargo mutants` lists the changes and would build the project anew for each of them. Here all of them stand in one copy of it, each
//! behind a number that a variable of the environment chooses (`weave`); those that do not compile are left out (`settle`); each test is
//! run once to see which places it comes by (`suite`), and each change only against the tests that come by its place (`judge`).
//!
//! What is not run has a column of its own and is never counted as noticed: in a constant, or in a function that is called in one, a
//! switch cannot stand; from a function that returns `impl Trait` no other type can be returned early. A change of an operator keeps its
//! operands: what `a - b * c` becomes is `a - (b + c)`, where cargo-mutants would write `a - b + c`.
//!
//! Nothing is written but below the target folder.

mod build;
mod child;
mod copy;
#[path = "../../xtask/src/interrupt.rs"]
mod interrupt;
mod judge;
mod list;
mod places;
mod report;
mod settle;
mod suite;
mod weave;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use regex::Regex;

use build::Cargo;
use child::Interrupt;
use copy::Copy;
use judge::Trial;
use list::What;
use report::Report;
use suite::{Suite, Wanted};

/// Changes one thing at a time in the code and says which changes no test notices (docs/mutants.md).
///
/// All changes are built at once, into a copy of the tree below `target/mutants`, and each is run against the tests that come by its place.
/// Needs `cargo mutants` for the list of changes. Tests that need back ends take part under `cargo xtask back-ends -- cargo xtask mutants …`.
/// The result of a run of all changes is kept as `target/mutants/model.json` or `fleet.json` too.
#[derive(Parser)]
#[command(override_usage = "cargo xtask mutants <WHAT> [OPTIONS]")]
struct Arguments {
    /// What is changed
    what: What,
    /// Only changes whose name this finds, such as `scaling/warm.rs` or `replace . with`
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// Only tests whose name this finds
    #[arg(long, value_name = "REGEX")]
    tests: Option<Regex>,
    /// Only tests that take no longer with the code as it stands
    #[arg(long, value_name = "SECONDS")]
    longest: Option<u64>,
    /// The JSON of an earlier run, such as `target/mutants/model.json` of the last one: what was noticed there is not run again
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// How many tests at once; as many as there are cores where it is not given
    #[arg(long)]
    jobs: Option<usize>,
    #[arg(short, long, default_value = "table")]
    output: Output,
    /// Where the project lies
    #[arg(long, hide = true)]
    root: PathBuf,
    /// Its target folder
    #[arg(long, hide = true)]
    target: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    let interrupt = Interrupt::install()?;
    let what = arguments.what;
    let program = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let jobs = arguments.jobs.map_or_else(|| std::thread::available_parallelism().map(usize::from), Ok);
    let jobs = jobs.context("it is not known how many cores there are: give `--jobs`")?;
    let before = arguments.after.as_deref().map(noticed).transpose()?.unwrap_or_default();
    let changes = list::changes(&program, &arguments.root, what, arguments.only.as_ref())?;
    if changes.is_empty() {
        bail!("no change is of that name: there is nothing to run");
    }
    let folder = arguments.target.join("mutants");
    let _alone = alone(&folder)?;
    eprintln!("{} changes; they are woven into a copy and built", changes.len());

    let copy = Copy::of(&arguments.root, folder.join("copy"))?;
    let target = folder.join("build");
    let cargo = Cargo { program: &program, root: &copy.root, target: &target, interrupt: &interrupt };
    let (settled, binaries) = settle::settle(&arguments.root, &copy, &cargo, what, &changes)?;

    // The compiler may have as much memory as it wants; what comes now may not.
    child::limit_memory()?;
    let scratch = Scratch(folder.join("scratch"));
    scratch.clear()?;
    let wanted =
        Wanted { names: arguments.tests.as_ref(), longest: arguments.longest.map(Duration::from_secs) };
    let suite = Suite::record(binaries, scratch.0.clone(), &wanted, jobs, &interrupt)?;
    eprintln!(
        "{} tests come by {} of {} places",
        suite.tests.len(),
        suite.reached.len(),
        settled.places.len()
    );
    let trial = Trial { settled: &settled, suite: &suite, before: &before, jobs, interrupt: &interrupt };
    let verdicts = trial.judge(&changes)?;

    let report = Report::new(what, &changes, &verdicts);
    let json = format!("{:#}\n", report.json());
    // A run of a few changes does not take the place of one of all.
    if arguments.only.is_none() {
        let kept = folder.join(what.name()).with_extension("json");
        std::fs::write(&kept, &json).with_context(|| format!("{} cannot be written", kept.display()))?;
    }
    let text = match arguments.output {
        Output::Table => report.table(),
        Output::Json => json,
    };
    std::io::stdout().write_all(text.as_bytes()).context("the result could not be written")?;
    eprintln!("{} s", began.elapsed().as_secs());
    Ok(())
}

/// The copy is one run's own for as long as the file is held.
fn alone(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let path = folder.join("in-use");
    let file = File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another run is at work in {}: wait for its end", folder.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", path.display()))
        }
    }
}

/// Of an earlier run.
fn noticed(file: &Path) -> Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    report::noticed(&text).with_context(|| file.display().to_string())
}

/// Where tests have written, which is no use afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn clear(&self) -> Result<()> {
        if self.0.exists() {
            std::fs::remove_dir_all(&self.0)
                .with_context(|| format!("{} cannot be removed", self.0.display()))?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            eprintln!("{error:#}");
        }
    }
}
