//! The only automation of the project: `cargo xtask VERB`.
//!
//! Each verb does its own set-up, so that a fresh clone on a new machine needs nothing but Rust and a linker.
//! Nothing here is linked into a shipped binary, and nothing here is needed to use one.

mod agent;
mod back_ends;
mod bench;
mod demo;
mod fuzz;
mod generated;
mod interrupt;
mod mutants;
mod packages;
mod process;
mod sim;
mod test;
mod tidy;
mod venv;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use process::Interrupt;
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, shows and checks Rouse")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds everything and shows a push becoming a build on a worker that did not exist
    Demo {
        /// For `rouse demo`, such as `--keep` or `--once -o json`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Format, lints, tidy and every test of the workspace, with real back ends; ends with `N passed, N failed`
    Test {
        /// Only what has this in its name
        filter: Option<String>,
        /// All that usually only a part is taken of: the whole kill matrix on both databases, and 200 random moments on each
        #[arg(long)]
        soak: bool,
    },
    /// Checks what a reader relies on: the table of arrows, generated files, links, examples, licences
    Tidy,
    /// Builds the static agent and lays it beside the master
    Agent,
    /// Writes the generated files anew (the config's schema, the OpenAPI document)
    Generate,
    /// Measures the shipped binaries, beside a peer and beside the bare work
    Bench(bench::Arguments),
    /// Runs the fleet's simulation: 50 builds a seed, with what goes wrong drawn from it
    Sim(sim::Arguments),
    /// Runs the parsers of foreign bytes under a fuzzer
    Fuzz(fuzz::Arguments),
    /// Changes one thing at a time in the code and says which changes no test notices
    #[command(disable_help_flag = true)]
    Mutants {
        /// For the package `mutants`, such as `model`, `fleet --only sizing` or `--help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Starts the back ends of the tests, runs COMMAND with their addresses, and stops them
    BackEnds {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<process::Interrupted>() => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all that was asked for is well; an error is for what could not even be tried.
fn run(verb: Verb) -> Result<bool> {
    let workspace = Workspace::load()?;
    match verb {
        Verb::Demo { arguments } => demo::run(&workspace, &arguments),
        Verb::Test { filter, soak } => test::run(&workspace, filter.as_deref(), soak, &Interrupt::install()?),
        Verb::Tidy => tidy::run(&workspace, &Interrupt::install()?),
        Verb::Agent => agent::run(&workspace, &Interrupt::install()?),
        Verb::Generate => generated::write(&workspace, &Interrupt::install()?),
        Verb::Bench(arguments) => bench::run(&workspace, &arguments, &Interrupt::install()?),
        Verb::Fuzz(arguments) => fuzz::run(&workspace, &arguments, &Interrupt::install()?),
        Verb::Mutants { arguments } => mutants::run(&workspace, &arguments, &Interrupt::install()?),
        Verb::Sim(arguments) => sim::run(&workspace, &arguments, &Interrupt::install()?),
        Verb::BackEnds { command } => back_ends::around(&command, &Interrupt::install()?),
    }
}
