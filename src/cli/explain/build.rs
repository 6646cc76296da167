//! Why a build's request waited: a build itself waits for nothing, and its worker can be asked about.

use super::request;
use crate::api::views::BuildView;
use crate::cli::client::{Client, as_view};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Format, Out};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Its number
    build: i64,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let build: BuildView = as_view(client.get(&format!("/builds/{}", args.build), &Vec::new()).await?)?;
    let exit = request::run(&request::Args { request: build.request }, client, out).await?;
    if let Some(worker) = build.worker.filter(|_| out.format() == Format::Table) {
        out.hint(&format!("rouse explain worker {}", worker.name));
    }
    Ok(exit)
}
