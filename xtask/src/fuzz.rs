//! `cargo xtask fuzz`: the parsers of foreign bytes under libFuzzer (`fuzz/README.md`).
//!
//! The targets are built by the cargo at hand with the flags that `cargo +stable fuzz build -s none` sets, so that nothing has to be
//! installed; `cargo fuzz` itself works as well. What a run finds new is kept in the target folder; what is worth keeping for all goes to
//! `fuzz/corpus/TARGET`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, Interrupt};
use crate::test::Tally;
use crate::workspace::{Workspace, host_triple};

/// How long each target runs among the tests, beside all entries of its corpus.
const BRIEF_SECONDS: u64 = 5;
/// What it draws from there: every run goes the same way, from the same beginnings.
const BRIEF_SEED: u64 = 1;
/// One input that takes longer is a fault.
const INPUT_SECONDS: u64 = 20;
const MEMORY_MB: u64 = 2048;

/// Counters for edges and comparisons, and code that is not folded before it is counted.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// Files that serve others already and are good beginnings here.
const SEEDS: &[(&str, &[&str])] = &[("config", &["config", "src/config/tests/bad"])];

#[derive(clap::Args)]
pub struct Arguments {
    /// One of `fuzz/fuzz_targets`; all where it is not given
    target: Option<String>,
    /// How long each one runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// How a target runs.
struct Pace {
    seconds: u64,
    /// Another one each time where it is not given (0 says so to libFuzzer).
    seed: Option<u64>,
    /// Where finds go, below the target folder.
    found: &'static str,
    /// Finds are a beginning for the next run.
    keep: bool,
}

impl Pace {
    const BRIEF: Self = Self { seconds: BRIEF_SECONDS, seed: Some(BRIEF_SEED), found: "brief", keep: false };

    const fn long(seconds: u64) -> Self {
        Self { seconds, seed: None, found: "found", keep: true }
    }
}

pub fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> Result<bool> {
    let mut targets = targets(workspace)?;
    if let Some(wanted) = &arguments.target {
        let all = targets.join(", ");
        targets.retain(|target| target == wanted);
        if targets.is_empty() {
            bail!("there is no target `{wanted}`; there are {all}");
        }
    }
    build(workspace, interrupt)?;
    let mut good = true;
    for target in targets {
        match fuzz(workspace, &target, &Pace::long(arguments.seconds), interrupt)? {
            Ok(line) => println!("{target}: {line}"),
            Err(why) => {
                println!("{target}: FAILED\n{why}");
                good = false;
            }
        }
    }
    Ok(good)
}

/// A short run of each target, as cases of the tests.
pub fn cases(workspace: &Workspace, interrupt: &Interrupt, tally: &mut Tally) -> Result<()> {
    let mut targets = targets(workspace)?;
    targets.retain(|target| tally.wants(&case(target)));
    if targets.is_empty() {
        return Ok(());
    }
    eprintln!("fuzz …");
    if let Err(error) = build(workspace, interrupt) {
        interrupt.check()?;
        tally.fail("fuzz", &format!("{error:#}"));
        return Ok(());
    }
    for target in targets {
        let ended = fuzz(workspace, &target, &Pace::BRIEF, interrupt)?;
        tally.case(&case(&target), || ended.map(|line| eprintln!("{target}: {line}")));
    }
    Ok(())
}

fn case(target: &str) -> String {
    format!("fuzz {target}")
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// The target folder is the workspace's own, so that it is kept where that is kept.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz")
}

fn build(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    let mut command = workspace.cargo();
    // With a target of its own the flags do not reach build scripts and macros.
    command.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--bins",
        "--manifest-path",
        "fuzz/Cargo.toml",
    ]);
    command.args(["--target", &host_triple(), "--target-dir"]).arg(folder(workspace));
    command.env("RUSTFLAGS", FLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS").stdout(std::io::stderr());
    if !process::run(&mut command, interrupt)?.success() {
        bail!("the fuzz targets do not compile");
    }
    Ok(())
}

/// All of the corpus, and then so many seconds; what was done, or what went wrong.
fn fuzz(
    workspace: &Workspace,
    target: &str,
    pace: &Pace,
    interrupt: &Interrupt,
) -> Result<Result<String, String>> {
    let found = folder(workspace).join(pace.found).join(target);
    if !pace.keep && found.exists() {
        fs::remove_dir_all(&found).with_context(|| format!("{} cannot be removed", found.display()))?;
    }
    let broken = folder(workspace).join("broken").join(target);
    for folder in [&found, &broken] {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let log = folder(workspace).join(format!("{target}.log"));
    let output = File::create(&log).with_context(|| format!("{} cannot be made", log.display()))?;
    let mut command = Command::new(folder(workspace).join(host_triple()).join("release").join(target));
    command.args([
        format!("-max_total_time={}", pace.seconds),
        format!("-seed={}", pace.seed.unwrap_or(0)),
        format!("-timeout={INPUT_SECONDS}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        format!("-artifact_prefix={}/", broken.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    // New finds go to the first folder.
    command.arg(&found).args(corpora(workspace, target)).current_dir(&workspace.root);
    command.stdout(output.try_clone().context("a file can have two writers")?).stderr(output);
    let status = process::run(&mut command, interrupt)?;
    let said = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    if status.success() {
        return Ok(done(&said));
    }
    let lines: Vec<&str> = said.lines().collect();
    let from = lines.len().saturating_sub(40);
    Ok(Err(format!("{}\nthe input lies in {}", lines[from..].join("\n"), broken.display())))
}

/// The last line of a run, as `#1234  DONE   cov: 56 …`. Without counters it would be blind, and prove nothing.
fn done(said: &str) -> Result<String, String> {
    let last = said.lines().rev().find(|line| line.contains("\tDONE "));
    let mut words = last.unwrap_or_default().split_whitespace();
    let inputs = words.next().unwrap_or("?").trim_start_matches('#').to_owned();
    match words.skip_while(|word| *word != "cov:").nth(1) {
        Some(edges) => Ok(format!("{inputs} inputs, {edges} edges")),
        None => Err(format!("it ran without counters:\n{said}")),
    }
}

fn corpora(workspace: &Workspace, target: &str) -> Vec<PathBuf> {
    let own = Path::new("fuzz/corpus").join(target);
    let shared = SEEDS.iter().filter(|(name, _)| *name == target).flat_map(|(_, folders)| *folders);
    let all = std::iter::once(own).chain(shared.map(PathBuf::from));
    all.filter(|folder| workspace.root.join(folder).is_dir()).collect()
}
