//! `rouse version`.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Format, Out};
use crate::api::views::MasterView;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of this program alone; no master is asked
    #[arg(long)]
    client: bool,
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = env!("CARGO_PKG_VERSION");
    let master = if args.client { None } else { asked(connect).await };
    if out.format() != Format::Table {
        let master = master.map(
            |m| json!({"version": m.version, "name": m.name, "url": m.url, "installation": m.installation}),
        );
        out.data(&json!({"client": client, "master": master}))?;
        return Ok(Exit::Success);
    }
    out.print(&format!("rouse {client}\n"))?;
    match master {
        Some(master) => out.print(&format!(
            "master {} ({}, installation {})\n",
            master.version, master.name, master.installation
        ))?,
        None if args.client => {}
        None => out.note("no master answers, or none lets us in"),
    }
    Ok(Exit::Success)
}

/// A version is told also where no master is.
async fn asked(connect: &ConnectArgs) -> Option<MasterView> {
    connect.client().ok()?.view("/master").await.ok()
}
