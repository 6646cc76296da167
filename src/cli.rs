//! The command line: nouns, then verbs; a file for each. It uses the API and nothing else, but for the verbs that run or check something
//! on this very machine: `serve`, `host`, `demo`, `init`, `doctor`, `backup`, `restore`, `config check`, `config schema`, `completion`.
//!
//! Data goes to stdout, all else to stderr; the exit codes are those of `docs/reference/cli.md`.

mod api_call;
mod artifacts;
mod backup;
mod build;
mod builder;
mod cache;
mod change;
mod client;
mod codebase;
mod completion;
mod config;
mod connect;
mod demo;
mod doctor;
mod error;
mod events;
mod exit;
mod explain;
mod force;
mod host;
mod init;
mod lock;
mod logs;
mod output;
mod pool;
mod project;
mod reference;
mod request;
mod restore;
mod scheduler;
mod secret;
mod serve;
mod settings;
mod simulate;
mod sse;
mod stop;
mod tested;
mod token;
mod version;
mod watch;
mod worker;

pub use error::CliError;
pub use exit::Exit;
pub use serve::ServeArgs;
pub use settings::{default_state, default_token_file};

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use connect::ConnectArgs;
use output::{Format, Out};
use std::process::ExitCode;

/// A CI master in which no worker exists until a build wants one.
#[derive(Debug, Parser)]
#[command(
    name = "rouse",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 done, 1 error, 3 not found, 4 not allowed, 10 build failed, 11 cancelled, 12 infrastructure, \
13 timed out, 14 can never run, 64 wrong usage. All of them: docs/reference/cli.md"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// How data is written to stdout.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    /// Colours; `auto` goes by the terminal and NO_COLOR, CLICOLOR, CLICOLOR_FORCE.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: output::Colour,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a master
    Serve(ServeArgs),
    /// Be a machine on which a master runs workers
    Host(host::Args),
    /// End a master; what runs goes on on its workers, for the next one
    Stop(stop::Args),
    /// Show a push becoming a green build, with nothing set up before
    Demo(demo::Demo),
    /// Write a first configuration
    Init(init::Args),
    /// Look at what a master stands on, and say how to mend it
    Doctor(doctor::Args),
    /// Write a backup of the database, the logs and the artifacts, while masters run or not
    Backup(backup::Args),
    /// Put a backup back, as the beginning of a new time
    Restore(restore::Args),
    /// Check, show, plan and reload the configuration
    #[command(subcommand)]
    Config(config::Verb),
    /// Builds: list, show, logs, watch, start, cancel, rebuild, artifacts
    #[command(subcommand)]
    Build(build::Verb),
    /// Requests: list, show, explain, approve, cancel
    #[command(subcommand)]
    Request(request::Verb),
    /// Workers: list, show, drain, hold, kill; and the machines that are enrolled for them
    #[command(subcommand)]
    Worker(worker::Verb),
    /// Pools: list, show
    #[command(subcommand)]
    Pool(pool::Verb),
    /// Builders: list, show
    #[command(subcommand)]
    Builder(builder::Verb),
    /// Changes: list, send
    #[command(subcommand)]
    Change(change::Verb),
    /// Schedulers: list, force
    #[command(subcommand)]
    Scheduler(scheduler::Verb),
    /// Codebases: list, show, poll
    #[command(subcommand)]
    Codebase(codebase::Verb),
    /// Projects: list
    #[command(subcommand)]
    Project(project::Verb),
    /// Locks: list
    #[command(subcommand)]
    Lock(lock::Verb),
    /// Caches: list, remove
    #[command(subcommand)]
    Cache(cache::Verb),
    /// Secrets: list
    #[command(subcommand)]
    Secret(secret::Verb),
    /// API tokens: list, create, remove
    #[command(subcommand)]
    Token(token::Verb),
    /// What happened, and with -f what happens
    Events(events::Args),
    /// Call the API by hand; `rouse api openapi` prints its description
    Api(api_call::Args),
    /// Start a build through a scheduler, or of a builder
    Force(force::Args),
    /// A build's logs
    Logs(logs::Args),
    /// Files kept from a build
    Artifacts(artifacts::Args),
    /// What a fleet would cost and how long builds would wait, by policy
    Simulate(simulate::Args),
    /// Why a request waits, a worker is there, a pool has as many as it has
    Explain(explain::Args),
    /// Cancel a build or request
    Cancel(build::cancel::AliasArgs),
    /// Build once more what a build has built
    Retry(build::rebuild::Args),
    /// Completions for a shell
    Completion(completion::Args),
    /// Versions of this program and of the master
    Version(version::Args),
    /// The reference of this command line, or of the metrics, as Markdown
    #[command(hide = true)]
    Reference {
        #[command(subcommand)]
        page: Option<reference::Page>,
    },
}

/// Parses, runs, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    cli.global.color.apply();
    let mut out = Out::new(cli.global.output);
    match run(cli, &mut out) {
        Ok(exit) => exit.into(),
        Err(error) => error.tell().into(),
    }
}

/// Help and versions that were asked for are no error; everything else about flags is 64.
fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // A closed pipe loses the text, and nobody is there to be told.
    let _ = error.print();
    if asked { Exit::Success.into() } else { Exit::Usage.into() }
}

fn run(cli: Cli, out: &mut Out) -> Result<Exit, CliError> {
    let Cli { global, verb } = cli;
    // A master wants all cores; whoever asks it something wants to be quick.
    let runtime = match verb {
        Verb::Serve(_) | Verb::Host(_) | Verb::Demo(_) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()
        }
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build(),
    };
    let runtime = runtime.map_err(|source| CliError::Io { what: "start the runtime".into(), source })?;
    let result = runtime.block_on(dispatch(verb, &global, out));
    // A blocked read of a name server or a terminal must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn dispatch(verb: Verb, global: &Global, out: &mut Out) -> Result<Exit, CliError> {
    let connect = &global.connect;
    match verb {
        Verb::Serve(args) => serve::run(args, connect.state()).await,
        Verb::Host(args) => host::run(&args).await,
        Verb::Stop(args) => stop::run(&args, connect, out).await,
        Verb::Demo(args) => demo(args, out).await,
        Verb::Init(args) => init::run(&args, out),
        Verb::Doctor(args) => doctor::run(&args, connect, out).await,
        Verb::Backup(args) => backup::run(&args, connect.state(), out).await,
        Verb::Restore(args) => restore::run(&args, connect.state(), out).await,
        Verb::Config(verb) => config::run(verb, connect, out).await,
        Verb::Build(verb) => build::run(verb, connect, out).await,
        Verb::Request(verb) => request::run(verb, connect, out).await,
        Verb::Worker(verb) => worker::run(verb, connect, out).await,
        Verb::Pool(verb) => pool::run(verb, connect, out).await,
        Verb::Builder(verb) => builder::run(verb, connect, out).await,
        Verb::Change(verb) => change::run(verb, connect, out).await,
        Verb::Scheduler(verb) => scheduler::run(verb, connect, out).await,
        Verb::Codebase(verb) => codebase::run(verb, connect, out).await,
        Verb::Project(verb) => project::run(verb, connect, out).await,
        Verb::Lock(verb) => lock::run(verb, connect, out).await,
        Verb::Cache(verb) => cache::run(verb, connect, out).await,
        Verb::Secret(verb) => secret::run(verb, connect, out).await,
        Verb::Token(verb) => token::run(verb, connect, out).await,
        Verb::Events(args) => events::run(&args, connect, out).await,
        Verb::Api(args) => api_call::run(args, connect, out).await,
        Verb::Force(args) => force::run(args, connect, out).await,
        Verb::Logs(args) => logs::run(&args, connect, out).await,
        Verb::Artifacts(args) => artifacts::run(&args, connect, out).await,
        Verb::Simulate(args) => simulate::run(args, connect, out).await,
        Verb::Explain(args) => explain::run(&args, connect, out).await,
        Verb::Cancel(args) => build::cancel::alias(args, connect, out).await,
        Verb::Retry(args) => build::rebuild::run(&args, connect, out).await,
        Verb::Completion(args) => completion::run(&args, out),
        Verb::Version(args) => version::run(&args, connect, out).await,
        Verb::Reference { page } => reference::run(page, out),
    }
}

async fn demo(args: demo::Demo, out: &Out) -> Result<Exit, CliError> {
    let code = demo::run(args, out.format() != Format::Table).await?;
    Exit::ALL
        .into_iter()
        .map(|(exit, _)| exit)
        .find(|exit| *exit as u8 == code)
        .ok_or_else(|| CliError::Other(anyhow::anyhow!("the demo ended with the unknown code {code}")))
}

#[cfg(test)]
mod tests;
