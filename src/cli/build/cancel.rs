//! `rouse build cancel`, and the daily `rouse cancel`, which takes requests too.

use crate::api::views::BuildView;
use crate::cli::client::Client;
use crate::cli::connect::ConnectArgs;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Format, Out};
use crate::cli::request;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its number
    build: i64,
    /// Why, for whoever looks at it later
    #[arg(short, long)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AliasArgs {
    /// A build's number, or with --request a request's
    number: i64,
    /// It is a request's number
    #[arg(long)]
    request: bool,
    /// Why, for whoever looks at it later
    #[arg(short, long)]
    reason: Option<String>,
}

pub(in crate::cli) async fn alias(
    args: AliasArgs,
    connect: &ConnectArgs,
    out: &mut Out,
) -> Result<Exit, CliError> {
    if args.request {
        return request::cancel::run(
            &request::cancel::Args { request: args.number, reason: args.reason },
            connect,
            out,
        )
        .await;
    }
    run(&Args { build: args.number, reason: args.reason }, connect, out).await
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let value = cancel(&client, args).await?;
    let id = args.build;
    out.show(value, |build: &BuildView| format!("build {id} of {} is being cancelled\n", build.builder))?;
    if out.format() == Format::Table {
        out.hint(&format!("rouse build watch {id}"));
    }
    Ok(Exit::Success)
}

async fn cancel(client: &Client, args: &Args) -> Result<serde_json::Value, CliError> {
    client.post(&format!("/builds/{}/cancel", args.build), &json!({"reason": args.reason})).await
}
