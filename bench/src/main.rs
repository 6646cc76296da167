//! Measures the shipped binaries as processes: the same work for Rouse, for a peer, and bare, in turns within one run.
//!
//! `cargo xtask bench` builds what is measured and calls this. Nothing of the master is linked in: what is measured is what a user starts, what is
//! read is the API, the database and `/proc`. Whatever is started here is stopped here, by its process id.

mod agents;
mod bare;
mod database;
mod ground;
mod http;
mod lines;
mod master;
mod peer;
mod picture;
mod process;
mod report;
mod works;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use ground::{Ground, Size};
use report::Row;

#[derive(Parser)]
#[command(name = "rouse-bench", about = "Measures Rouse beside a peer and beside the bare work")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs the works
    Run(Box<Run>),
    /// Names the works
    List,
    /// Prints lines like those that are measured: what the step of a log's work runs
    Emit {
        /// For so many seconds
        #[arg(long)]
        seconds: f64,
        /// So many lines in each second
        #[arg(long)]
        rate: u32,
    },
    /// Runs simulated agents, for the work `agents`
    Simulate { socket: PathBuf, expected: usize },
    /// Draws the results of a run (`-o json`) as an SVG
    Draw { results: PathBuf, svg: PathBuf },
}

#[derive(clap::Args)]
struct Run {
    /// The master's binary, with `agents/` beside it
    #[arg(long, value_name = "FILE")]
    rouse: PathBuf,
    /// A Python with the peer installed
    #[arg(long, value_name = "FILE")]
    peer: Option<PathBuf>,
    /// Why there is no peer
    #[arg(long, value_name = "TEXT", default_value = "no peer was given")]
    no_peer: String,
    /// Only these works
    #[arg(long, value_name = "WORK")]
    only: Vec<String>,
    /// How much of each work
    #[arg(long, value_enum, default_value_t = Size::Full)]
    size: Size,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    // Beside a master's binary this program stands in for the agent.
    if std::env::args().next().is_some_and(|name| name.ends_with("/rouse-agent")) {
        return agents::stand_in();
    }
    let outcome = match Arguments::parse().verb {
        Verb::Run(run) => measure(&run),
        Verb::List => {
            works::ALL.iter().for_each(|work| println!("{:<10} {}", work.name, work.about));
            Ok(true)
        }
        Verb::Emit { seconds, rate } => lines::emit(seconds, rate).map(|()| true),
        Verb::Simulate { socket, expected } => agents::simulate(&socket, expected).map(|()| true),
        Verb::Draw { results, svg } => picture::draw(&results, &svg).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every work that was asked for could be measured, or said why it cannot be here.
fn measure(run: &Run) -> Result<bool> {
    for name in &run.only {
        anyhow::ensure!(works::ALL.iter().any(|work| work.name == name), "there is no work `{name}`");
    }
    let ground = Ground::prepare(run.rouse.clone(), run.peer.clone(), run.no_peer.clone(), run.size)?;
    let mut rows: Vec<Row> = Vec::new();
    let mut well = true;
    for work in works::ALL.iter().filter(|w| run.only.is_empty() || run.only.iter().any(|n| n == w.name)) {
        ground.check()?;
        eprintln!("{}: {}", work.name, work.about);
        let began = std::time::Instant::now();
        let row = (work.run)(&ground).unwrap_or_else(|error| {
            well = false;
            Row::new(work.name, work.unit).note(format!("failed: {error:#}"))
        });
        eprintln!("  {:.0} s", began.elapsed().as_secs_f64());
        match run.output {
            // As they come: a run that is cut short has still said what it knew.
            Output::Json => println!("{}", row.json()),
            Output::Table => row.notes.iter().for_each(|note| eprintln!("  {note}")),
        }
        rows.push(row);
    }
    ground.check()?;
    if run.output == Output::Table {
        print!("{}", report::table(&rows));
    }
    Ok(well)
}
