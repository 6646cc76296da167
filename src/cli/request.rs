//! `rouse request`: wishes to build.

mod approve;
pub(super) mod cancel;

use super::build;
use super::client::Client;
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::explain;
use super::output::{ACTIVE, BOLD, Cell, DIM, HINT, Out, Table, human, result_style};
use crate::api::views::{ApprovalView, RequestState, RequestView};
use clap::Subcommand;
use rouse_model::Timestamp;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Requests, newest first
    List(ListArgs),
    /// One request
    Show(ShowArgs),
    /// Why a request waits
    Explain(explain::request::Args),
    /// Let a request be built that waits for a person
    Approve(approve::Args),
    /// End a request, and the build that runs it
    Cancel(cancel::Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Of this builder alone
    #[arg(short, long)]
    builder: Option<String>,
    /// Of this project alone
    #[arg(short, long)]
    project: Option<String>,
    /// In this state alone: unapproved, queued, claimed, done
    #[arg(long, value_name = "STATE")]
    phase: Option<RequestState>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only their numbers
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Its number
    request: i64,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    match verb {
        Verb::List(args) => list(&args, &connect.client()?, out).await,
        Verb::Show(args) => show(&args, &connect.client()?, out).await,
        Verb::Explain(args) => explain::request::run(&args, &connect.client()?, out).await,
        Verb::Approve(args) => approve::run(&args, connect, out).await,
        Verb::Cancel(args) => cancel::run(&args, connect, out).await,
    }
}

async fn list(args: &ListArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let mut query = Vec::new();
    query.extend(args.builder.clone().map(|name| ("builder", name)));
    query.extend(args.project.clone().map(|name| ("project", name)));
    query.extend(args.phase.map(|state| ("state", state.to_string())));
    let items = client.list("/requests", &query, args.limit).await?;
    if args.quiet {
        return out.ids(&items, "id");
    }
    out.list(items, "no requests; make one with: rouse force SCHEDULER", table)?;
    Ok(Exit::Success)
}

fn table(requests: &[RequestView], now: Timestamp) -> Table {
    let mut table = Table::new(&["request", "builder", "state", "build", "when", "what"]);
    for request in requests {
        table.row(vec![
            request.id.to_string().into(),
            request.builder.clone().into(),
            state(request),
            request.build.map_or_else(|| "–".to_owned(), |id| id.to_string()).into(),
            Cell::styled(human::ago(request.created, now), DIM),
            build::what(&request.sources, &request.reason).into(),
        ]);
    }
    table
}

fn state(request: &RequestView) -> Cell {
    match (request.result, request.cancel.is_some()) {
        (Some(result), _) => Cell::styled(result.as_str(), result_style(result)),
        (None, true) => "cancelling".into(),
        (None, false) if request.state == RequestState::Claimed => Cell::styled("building", ACTIVE),
        (None, false) if request.state == RequestState::Unapproved => Cell::styled("to approve", HINT),
        (None, false) => "waiting".into(),
    }
}

async fn show(args: &ShowArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let value = client.get(&format!("/requests/{}", args.request), &Vec::new()).await?;
    let state = value.get("state").and_then(|s| s.as_str());
    let waits = [RequestState::Queued, RequestState::Unapproved].iter().any(|s| state == Some(s.as_str()));
    out.show_at(value, text)?;
    if waits {
        out.hint(&format!("rouse explain {}", args.request));
    }
    Ok(Exit::Success)
}

fn text(request: &RequestView, now: Timestamp) -> String {
    let mut text = format!(
        "{BOLD}request {}{BOLD:#} · builder {} · project {}\n",
        request.id, request.builder, request.project
    );
    let mut line = |name: &str, value: String| text.push_str(&format!("  {DIM}{name:<10}{DIM:#} {value}\n"));
    line("state", request.result.map_or_else(|| request.state.to_string(), |result| result.to_string()));
    line("because", request.reason.clone());
    for source in &request.sources {
        line("source", build::what(std::slice::from_ref(source), &source.codebase));
    }
    line("trust", request.trust.to_string());
    line("priority", request.priority.to_string());
    line("made", format!("{} ({})", human::ago(request.created, now), request.created));
    if let Some(build) = request.build {
        line("build", build.to_string());
    }
    if let Some(approval) = &request.approval {
        line("approval", approval_words(approval));
    }
    if let Some(wish) = &request.cancel {
        line("cancelled", wish.clone());
    }
    text
}

/// `api (token alice): looks harmless (2026-01-01 10:00:00 UTC)`; or until when somebody may say so.
pub(super) fn approval_words(approval: &ApprovalView) -> String {
    match (&approval.by, approval.at, approval.until) {
        (Some(by), Some(at), _) => {
            let reason = approval.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            format!("by {by}{reason} ({at})")
        }
        (_, _, Some(until)) => format!("none yet; it is waited for until {until}"),
        _ => "none".to_owned(),
    }
}
