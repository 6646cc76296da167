//! `rouse explain`: why a request waits, or that of a build did, why a worker is there, why a pool has as many as it has.

mod build;
mod pool;
pub(super) mod request;
mod worker;

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{DIM, Out, human};
use crate::api::views::DecisionView;
use clap::Subcommand;
use rouse_model::Timestamp;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_required = false)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// A request's number: `rouse explain 5` is `rouse explain request 5`
    #[arg(required = true)]
    request: Option<i64>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Why a request waits, and when it will likely start
    Request(request::Args),
    /// Why the request of a build waited
    Build(build::Args),
    /// Why a worker is there, or is not any more
    Worker(worker::Args),
    /// Why a pool has as many workers as it has
    Pool(pool::Args),
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    match (&args.what, args.request) {
        (Some(What::Worker(args)), _) => worker::run(args, &client, out).await,
        (Some(What::Pool(args)), _) => pool::run(args, &client, out).await,
        (Some(What::Build(args)), _) => build::run(args, &client, out).await,
        (Some(What::Request(args)), _) => request::run(args, &client, out).await,
        (None, Some(request)) => request::run(&request::Args { request }, &client, out).await,
        (None, None) => Err(CliError::usage("which request, build, worker or pool?")),
    }
}

/// `4 min ago (decision 12): launched 2: …`.
fn decided(decision: &DecisionView, now: Timestamp) -> String {
    let when = human::ago(decision.at, now);
    format!("{when} {DIM}(decision {}){DIM:#}: {}", decision.id, decision.sentence)
}
