//! `rouse worker show`.

use crate::api::views::WorkerDetail;
use crate::cli::client::{Client, part};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{BOLD, DIM, Out, human, mark};
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name or number
    worker: String,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let value = client.get(&format!("/workers/{}", part(&args.worker)), &Vec::new()).await?;
    out.show(value, text)?;
    Ok(Exit::Success)
}

fn text(detail: &WorkerDetail) -> String {
    let worker = &detail.worker;
    let mut text = format!(
        "{BOLD}worker {}{BOLD:#} · pool {} · {} · provider {}\n",
        worker.name, worker.pool, worker.state, worker.provider
    );
    let _ = writeln!(
        text,
        "  {DIM}class{DIM:#}  project {}, {}, spec {}",
        worker.project,
        worker.trust,
        human::short(&worker.spec_digest)
    );
    if let Some(offering) = &worker.offering {
        let _ = writeln!(text, "  {DIM}as{DIM:#}     {offering}");
    }
    if let Some(at) = &detail.provider_ref {
        let _ = writeln!(text, "  {DIM}there{DIM:#}  {at}");
    }
    if let Some(held) = &worker.held {
        let _ = writeln!(text, "  {DIM}held{DIM:#}   until {}, by {}", held.until, held.by);
    }
    let _ = writeln!(text, "\ntimeline");
    for moment in &detail.timeline {
        let what = if moment.fact == "build" {
            moment.what.clone()
        } else {
            format!("{} {}", moment.fact, moment.what)
        };
        let why = moment
            .cause
            .as_ref()
            .map_or_else(String::new, |cause| format!("  {DIM}{}{DIM:#}", cause.message));
        let _ = writeln!(text, "  +{:<9} {what}{why}", human::span(moment.after));
    }
    if !detail.builds.is_empty() {
        let _ = writeln!(text, "\nbuilds");
        for build in &detail.builds {
            let took = human::span(build.times.total);
            let _ = writeln!(
                text,
                "  {} {} {}  {took}  {}",
                mark(build.result),
                build.id,
                build.builder,
                build.summary
            );
        }
    }
    if let Some(console) = detail.console.as_deref().filter(|console| !console.is_empty()) {
        let _ = writeln!(text, "\nthe last that it printed");
        for line in console.lines() {
            let _ = writeln!(text, "  {}", line.replace(char::is_control, " "));
        }
    }
    text
}
