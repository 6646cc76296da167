//! `rouse explain`: why a request waits.

use crate::api::views::{ExplanationView, RequestState};
use crate::cli::connect::ConnectArgs;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{BAD, BOLD, DIM, Format, HINT, Out, human};
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `request` may stand before the number
    #[arg(required = true, num_args = 1..=2, value_name = "[request] NUMBER")]
    what: Vec<String>,
}

impl Args {
    fn request(&self) -> Result<i64, CliError> {
        let number = match self.what.as_slice() {
            [number] => number,
            [noun, number] if noun == "request" => number,
            [noun, ..] => {
                return Err(CliError::usage(format!(
                    "`{noun}` cannot be explained; requests can: rouse explain request 5"
                )));
            }
            [] => return Err(CliError::usage("which request?")),
        };
        number.parse().map_err(|_| CliError::usage(format!("`{number}` is no request's number")))
    }
}

pub(in crate::cli) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let request = args.request()?;
    let client = connect.client()?;
    let value = client.get(&format!("/requests/{request}/explain"), &Vec::new()).await?;
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
