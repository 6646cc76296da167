//! `rouse build`: attempts on attached workers.

pub(super) mod cancel;
mod list;
pub(super) mod rebuild;
pub(super) mod show;

pub(super) use list::what;

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::Out;
use super::{artifacts, force, logs, tested, watch};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Builds, newest first
    List(list::Args),
    /// A build with its steps, times and properties
    Show(show::Args),
    /// A build's logs
    Logs(logs::Args),
    /// Follow a build until it ends
    Watch(watch::Args),
    /// Start a build of a builder, with no scheduler in between
    Start(force::StartArgs),
    /// End a build
    Cancel(cancel::Args),
    /// Build once more what a build has built
    Rebuild(rebuild::Args),
    /// Files kept from a build: list them, or fetch them with --to
    Artifacts(artifacts::Args),
    /// What its tests came to, as the files say that it uploads as `junit`
    Tests(tested::OfBuild),
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    match verb {
        Verb::List(args) => list::run(&args, connect, out).await,
        Verb::Show(args) => show::run(&args, connect, out).await,
        Verb::Logs(args) => logs::run(&args, connect, out).await,
        Verb::Watch(args) => watch::run(&args, connect, out).await,
        Verb::Start(args) => force::start(args, connect, out).await,
        Verb::Cancel(args) => cancel::run(&args, connect, out).await,
        Verb::Rebuild(args) => rebuild::run(&args, connect, out).await,
        Verb::Artifacts(args) => artifacts::run(&args, connect, out).await,
        Verb::Tests(args) => tested::of_build(&args, connect, out).await,
    }
}
