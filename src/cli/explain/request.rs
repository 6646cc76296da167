//! Why a request waits.

use crate::api::views::{ExplanationView, RequestState};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{BAD, BOLD, DIM, Format, HINT, Out, human};
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Its number
    pub(super) request: i64,
}

pub(in crate::cli) async fn run(args: &Args, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let value = client.get(&format!("/requests/{}/explain", args.request), &Vec::new()).await?;
    let build = value.pointer("/request/build").and_then(serde_json::Value::as_i64);
    out.show(value, text)?;
    if let Some(build) = build.filter(|_| out.format() == Format::Table) {
        out.hint(&format!("rouse build show {build}"));
    }
    Ok(Exit::Success)
}

fn text(answer: &ExplanationView) -> String {
    let request = &answer.request;
    let mut text = format!(
        "{BOLD}request {}{BOLD:#} · builder {} · project {}",
        request.id, request.builder, request.project
    );
    if let Some(waiting) = answer.waiting {
        let _ = write!(text, " · waiting {}", human::span(waiting));
    }
    text.push('\n');
    let never =
        if answer.primary.permanent { format!("  {BAD}waiting will not help{BAD:#}") } else { String::new() };
    let _ = writeln!(text, "  {} {DIM}[{}]{DIM:#}{never}", answer.primary.sentence, answer.primary.code);
    if let Some(help) = &answer.primary.help {
        let _ = writeln!(text, "  {HINT}→{HINT:#} {help}");
    }
    if let Some(starts) = answer.starts.filter(|starts| starts.at_worst > 0.0) {
        let (after, at_worst) = (human::span(starts.after), human::span(starts.at_worst));
        let _ = writeln!(text, "  starts in about {after}, nine of ten within {at_worst}");
    }
    for reason in &answer.secondary {
        let _ = writeln!(text, "  also: {} {DIM}[{}]{DIM:#}", reason.sentence, reason.code);
    }
    let waits = matches!(request.state, RequestState::Queued | RequestState::Unapproved);
    if waits && answer.pools.len() > 1 {
        let _ = writeln!(text, "  pools");
        let width = answer.pools.iter().map(|pool| pool.pool.chars().count()).max().unwrap_or(0);
        for pool in &answer.pools {
            let cannot = if pool.fits { "" } else { "cannot: " };
            let _ = writeln!(text, "    {:<width$}  {cannot}{}", pool.pool, pool.sentence);
        }
    }
    if !answer.failures.is_empty() {
        let _ = writeln!(text, "  failed launches");
        for failure in answer.failures.iter().rev().take(3) {
            let when = human::ago(failure.at, answer.checked_at.0);
            let _ =
                writeln!(text, "    {when}, pool {}, {}: {}", failure.pool, failure.class, failure.message);
        }
    }
    text
}
