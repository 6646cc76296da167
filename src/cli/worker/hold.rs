//! `rouse worker hold` and `release`.

use crate::api::views::WorkerView;
use crate::cli::client::{Client, part};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::Out;
use crate::config::Period;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct HoldArgs {
    /// Its name or number
    worker: String,
    /// For how long: `30m`, `2h`
    #[arg(long = "for", value_name = "PERIOD")]
    length: Period,
    /// Why, for whoever looks at it later
    #[arg(short, long, alias = "why")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    /// Its name or number
    worker: String,
}

pub(super) async fn hold(args: &HoldArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let body = json!({"seconds": args.length.0.as_secs_f64(), "reason": args.reason});
    let value = client.post(&format!("/workers/{}/hold", part(&args.worker)), &body).await?;
    out.show(value, |worker: &WorkerView| {
        let until = worker.held.as_ref().map_or_else(String::new, |held| format!(" until {}", held.until));
        format!("worker {} takes no new builds, and is kept{until}\n", worker.name)
    })?;
    Ok(Exit::Success)
}

pub(super) async fn release(args: &ReleaseArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let value = client.post(&format!("/workers/{}/release", part(&args.worker)), &json!({})).await?;
    out.show(value, |worker: &WorkerView| format!("worker {} is held no longer\n", worker.name))?;
    Ok(Exit::Success)
}
