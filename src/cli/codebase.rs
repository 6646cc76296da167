//! `rouse codebase`: what can change.

use super::client::part;
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{BAD, BOLD, Cell, DIM, GOOD, Out, Table, human};
use crate::api::views::{CodebaseDetail, CodebaseView};
use clap::Subcommand;
use rouse_model::Timestamp;
use serde_json::json;
use std::fmt::Write;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Codebases, and how their pollers get on
    List,
    /// A codebase with its branches
    Show(NameArgs),
    /// Look at a codebase now
    Poll(NameArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// Its name
    codebase: String,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    match verb {
        Verb::List => {
            let items = client.whole("/codebases", &Vec::new()).await?;
            out.list(items, "no codebases; declare one under `codebases:` in the configuration", table)?;
        }
        Verb::Show(args) => {
            let value = client.get(&format!("/codebases/{}", part(&args.codebase)), &Vec::new()).await?;
            out.show_at(value, text)?;
        }
        Verb::Poll(args) => {
            client.post(&format!("/codebases/{}/poll", part(&args.codebase)), &json!({})).await?;
            out.note(&format!("codebase {} is being looked at", args.codebase));
        }
    }
    Ok(Exit::Success)
}

fn table(codebases: &[CodebaseView], now: Timestamp) -> Table {
    let mut table = Table::new(&["codebase", "project", "state", "looked", "git"]);
    for codebase in codebases {
        let state = match (&codebase.error, codebase.looked) {
            (Some(error), _) => Cell::styled(format!("failing: {error}"), BAD),
            (None, Some(_)) => Cell::styled("fine", GOOD),
            (None, None) => "not seen yet".into(),
        };
        table.row(vec![
            codebase.name.clone().into(),
            codebase.project.clone().into(),
            state,
            codebase.looked.map_or_else(|| "never".to_owned(), |at| human::ago(at, now)).into(),
            codebase.git.clone().into(),
        ]);
    }
    table
}

fn text(detail: &CodebaseDetail, now: Timestamp) -> String {
    let codebase = &detail.codebase;
    let mut text = format!(
        "{BOLD}codebase {}{BOLD:#} · project {} · {}\n",
        codebase.name, codebase.project, codebase.git
    );
    if let Some(error) = &codebase.error {
        let since =
            codebase.failing_since.map_or_else(String::new, |at| format!(" (since {})", human::ago(at, now)));
        let _ = writeln!(text, "  {BAD}failing{BAD:#}{since}: {error}");
    }
    for head in &detail.heads {
        let revision = head.revision.as_deref().map_or("deleted", human::short);
        let when = human::ago(head.seen, now);
        let _ = writeln!(text, "  {revision}  {}  {DIM}{when}{DIM:#}", head.branch);
    }
    text
}
