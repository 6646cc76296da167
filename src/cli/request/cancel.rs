//! `rouse request cancel`.

use crate::api::views::RequestView;
use crate::cli::connect::ConnectArgs;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::Out;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its number
    pub(in crate::cli) request: i64,
    /// Why, for whoever looks at it later
    #[arg(short, long)]
    pub(in crate::cli) reason: Option<String>,
}

pub(in crate::cli) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let path = format!("/requests/{}/cancel", args.request);
    let value = client.post(&path, &json!({"reason": args.reason})).await?;
    out.show(value, |request: &RequestView| {
        format!("request {} of {} is being cancelled\n", request.id, request.builder)
    })?;
    Ok(Exit::Success)
}
