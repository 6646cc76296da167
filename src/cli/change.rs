//! `rouse change`: commits seen, and word that there are more.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Cell, DIM, Format, Out, Table, human};
use crate::api::views::ChangeView;
use clap::Subcommand;
use rouse_model::Timestamp;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Commits, newest first
    List(ListArgs),
    /// Say that a codebase has changed, as a hook would
    Send(SendArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Of this codebase alone
    #[arg(short, long)]
    codebase: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only their numbers
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SendArgs {
    /// The codebase that has changed
    codebase: String,
    /// Where something was pushed
    #[arg(short, long)]
    branch: Option<String>,
    /// What was pushed
    #[arg(short, long)]
    revision: Option<String>,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    match verb {
        Verb::List(args) => {
            let query = args.codebase.map(|codebase| ("codebase", codebase)).into_iter().collect();
            let items = client.list("/changes", &query, args.limit).await?;
            if args.quiet {
                return out.ids(&items, "id");
            }
            out.list(items, "no changes yet; they come with the first push after the first look", table)?;
        }
        Verb::Send(args) => {
            let body = json!({"codebase": args.codebase, "branch": args.branch, "revision": args.revision});
            let answer = client.post("/changes", &body).await?;
            let known = answer.get("known").and_then(serde_json::Value::as_bool).unwrap_or_default();
            let untrusted = answer.get("trust").and_then(serde_json::Value::as_str) == Some("untrusted");
            let word = match (known, untrusted) {
                (true, _) => "is known to be there already",
                (false, true) => {
                    "is being looked at; its branch is not watched, so what is there is untrusted"
                }
                (false, false) => "is being looked at",
            };
            if out.format() != Format::Table {
                out.data(&answer)?;
            }
            out.note(&format!("codebase {} {word}", args.codebase));
        }
    }
    Ok(Exit::Success)
}

fn table(changes: &[ChangeView], now: Timestamp) -> Table {
    let mut table =
        Table::new(&["change", "codebase", "branch", "revision", "authored", "author", "subject"]);
    for change in changes {
        table.row(vec![
            change.id.to_string().into(),
            change.codebase.clone().into(),
            change.branch.clone().into(),
            human::short(&change.revision).into(),
            Cell::styled(human::ago(change.authored, now), DIM),
            change.author.clone().into(),
            change.subject.clone().into(),
        ]);
    }
    table
}
