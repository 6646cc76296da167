//! `rouse build rebuild` and the daily `rouse retry`.

use crate::cli::connect::ConnectArgs;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::force::{self, WaitArgs};
use crate::cli::output::Out;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The number of the build to repeat: the same sources, properties and images, under the configuration in force
    build: i64,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(in crate::cli) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    force::make(&client, &format!("/builds/{}/rebuild", args.build), &json!({}), &args.wait, out).await
}
