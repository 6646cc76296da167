//! `rouse build show`.

use crate::api::views::{BuildDetail, BuildResult, PhaseSeconds, StepView, TriggeredView};
use crate::cli::connect::ConnectArgs;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{BOLD, DIM, Out, human, mark, result_style};
use crate::cli::request::approval_words;
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its number
    build: i64,
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let value = client.get(&format!("/builds/{}", args.build), &Vec::new()).await?;
    let failed =
        value.get("result").and_then(|r| r.as_str()).is_some_and(|r| r == BuildResult::Failure.as_str());
    out.show(value, text)?;
    if failed {
        out.hint(&format!("rouse logs {} --failed", args.build));
    }
    Ok(Exit::Success)
}

fn text(detail: &BuildDetail) -> String {
    let build = &detail.build;
    let mut text =
        format!("{BOLD}build {}{BOLD:#} · builder {} · project {}\n", build.id, build.builder, build.project);
    let word = match build.result {
        Some(result) => {
            let style = result_style(result);
            format!("{} {style}{result}{style:#}", mark(Some(result)))
        }
        None => format!("{} {}", mark(None), build.phase),
    };
    line(&mut text, "result", &format!("{word}  {}", build.summary));
    line(&mut text, "because", &build.reason);
    for source in &build.sources {
        let revision = source.revision.as_deref().map(human::short).unwrap_or("(its tip)");
        let branch = source.branch.as_deref().unwrap_or_default();
        line(&mut text, "source", &format!("{} {branch} {revision} ({})", source.codebase, source.trust));
    }
    if let Some(worker) = &build.worker {
        line(&mut text, "worker", &worker.name);
    }
    line(&mut text, "request", &format!("{} (attempt {})", build.request, build.attempt));
    if let Some(approval) = &detail.approval {
        line(&mut text, "approved", &approval_words(approval));
    }
    if let Some(parent) = detail.parent {
        line(&mut text, "parent", &format!("build {parent}"));
    }
    line(&mut text, "config", &format!("revision {}", build.config));
    line(&mut text, "times", &times(&build.times));
    if let Some(wish) = &build.cancel {
        line(&mut text, "cancelled", wish);
    }
    steps(&mut text, detail);
    if !detail.properties.is_empty() {
        let _ = writeln!(text, "\nproperties");
        for property in &detail.properties {
            let tainted = if property.tainted { ", untrusted" } else { "" };
            let value = property.value.as_str().map_or_else(|| property.value.to_string(), str::to_owned);
            let _ =
                writeln!(text, "  {} = {value}  {DIM}({}{tainted}){DIM:#}", property.name, property.source);
        }
    }
    if !detail.artifacts.is_empty() {
        let _ = writeln!(text, "\nartifacts");
        for artifact in &detail.artifacts {
            let _ = writeln!(
                text,
                "  {}/{}  {DIM}{}{DIM:#}",
                artifact.set,
                artifact.path,
                human::size(artifact.bytes)
            );
        }
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    if !value.trim().is_empty() {
        let _ = writeln!(text, "  {DIM}{name:<10}{DIM:#} {value}");
    }
}

/// `queued 0.0 · provisioning 0.4 · preparing 0.1 · running 1.2 · finishing 0.1 s`, as everywhere.
pub(in crate::cli) fn times(times: &PhaseSeconds) -> String {
    let parts = [
        ("queued", times.queued),
        ("provisioning", times.provisioning),
        ("preparing", times.preparing),
        ("running", times.running),
        ("finishing", times.finishing),
    ];
    parts.map(|(name, seconds)| format!("{name} {}", human::span(seconds))).join(" · ")
}

fn steps(text: &mut String, detail: &BuildDetail) {
    let _ = writeln!(text, "\nsteps");
    let width = detail.planned.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
    for step in &detail.steps {
        let _ = writeln!(text, "  {}", step_line(step, width));
        for started in detail.triggered.iter().filter(|started| started.step == step.seq) {
            let _ = writeln!(text, "    {}", triggered_line(started));
        }
    }
    for name in detail.planned.iter().skip(detail.steps.len()) {
        let _ = writeln!(text, "  {DIM}· {name:<width$}  not begun{DIM:#}");
    }
}

/// `✓ build 17 of smoke  success`.
fn triggered_line(started: &TriggeredView) -> String {
    let which = match started.build {
        Some(build) => format!("build {build}"),
        None => format!("request {}", started.request),
    };
    let word = started.result.map_or(started.state.as_str(), |result| result.as_str());
    format!("{} {which} of {}  {word}", mark(started.result), started.builder)
}

/// `✓ test  success  1.2 s  ok 14 of 14`.
pub(in crate::cli) fn step_line(step: &StepView, width: usize) -> String {
    let word = step.result.map_or("running", |result| result.as_str());
    let summary = if step.summary == word { "" } else { step.summary.as_str() };
    let line = format!(
        "{} {:<width$}  {word:<9}  {:>7}  {summary}",
        mark(step.result),
        step.name,
        human::span(step.seconds)
    );
    line.trim_end().to_owned()
}
