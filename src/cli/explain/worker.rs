//! Why a worker is there, or is not any more.

use super::decided;
use crate::api::views::WorkerExplanationView;
use crate::cli::client::{Client, part};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{BOLD, DIM, Out, human};
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Its name or number
    worker: String,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let value = client.get(&format!("/workers/{}/explain", part(&args.worker)), &Vec::new()).await?;
    let name = value.pointer("/worker/name").and_then(serde_json::Value::as_str).map(part);
    out.show(value, text)?;
    if let Some(name) = name {
        out.hint(&format!("rouse worker show {name}"));
    }
    Ok(Exit::Success)
}

fn text(answer: &WorkerExplanationView) -> String {
    let worker = &answer.worker;
    let mut text =
        format!("{BOLD}worker {}{BOLD:#} · pool {} · {}\n", worker.name, worker.pool, worker.state);
    let _ = writeln!(text, "  {} {DIM}[{}]{DIM:#}", answer.sentence, answer.code);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {DIM}{name:<9}{DIM:#} {value}");
    };
    let now = answer.checked_at.0;
    let wished = answer.launched_by.as_ref();
    line(
        "launched",
        wished.map_or_else(|| human::ago(worker.requested, now), |decision| decided(decision, now)),
    );
    let after = |moment: rouse_model::Timestamp| human::span(moment.since(worker.requested.0).as_secs_f64());
    let came = [("accepted", worker.accepted), ("attached", worker.attached)];
    let mut came: Vec<String> =
        came.iter().filter_map(|(word, at)| Some(format!("{word} +{}", after((*at)?.0)))).collect();
    came.push(format!("{} of {} builds", worker.builds_done, worker.max_builds));
    line("since", came.join(" · "));
    if let Some(decision) = &answer.ended_by {
        line("ended", decided(decision, now));
    }
    text
}
