//! `rouse request approve`.

use crate::api::views::ApprovedView;
use crate::cli::connect::ConnectArgs;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Format, Out};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its number
    request: i64,
    /// Why, for whoever looks at it later
    #[arg(short, long)]
    reason: Option<String>,
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let path = format!("/requests/{}/approve", args.request);
    let value = client.post(&path, &json!({"reason": args.reason})).await?;
    out.show(value, |approved: &ApprovedView| {
        let request = &approved.request;
        let with: Vec<String> = approved.with.iter().map(i64::to_string).collect();
        let with = match with.as_slice() {
            [] => String::new(),
            [one] => format!(", and with it request {one}"),
            several => format!(", and with it requests {}", several.join(", ")),
        };
        format!("request {} of {} is approved{with}\n", request.id, request.builder)
    })?;
    if out.format() == Format::Table {
        out.hint(&format!("rouse explain {}", args.request));
    }
    Ok(Exit::Success)
}
