//! `rouse stop`: ends a master; what runs goes on on its workers, until the next one is there.

use super::client::Query;
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::Out;
use crate::api::views::StopView;
use serde_json::json;
use std::time::Duration;

/// How long a master that stops may still answer.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Another master takes its place, as a newer binary: agents wait for it with what they run
    #[arg(long)]
    handover: bool,
    /// How long agents wait for the next master
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "handover",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    within: u64,
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let body = json!({"handover_s": args.handover.then_some(args.within)});
    let value = client.post("/master/stop", &body).await?;
    let gone = tokio::time::timeout(PATIENCE, async {
        while client.body("/livez", &Query::new()).await.is_ok() {
            tokio::time::sleep(PAUSE).await;
        }
    });
    if gone.await.is_err() {
        out.note("it still answers; it may wait for a provider");
    }
    out.show(value, |stop: &StopView| {
        let builds = match stop.running {
            0 => "it ran no build".to_owned(),
            1 => format!("1 build goes on on its worker; start a master within {} s", stop.waits_s),
            n => format!("{n} builds go on on their workers; start a master within {} s", stop.waits_s),
        };
        format!("master {} ends: {builds}\n", stop.name)
    })?;
    Ok(Exit::Success)
}
