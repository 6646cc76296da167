//! `rouse config history`, `diff` and `rollback`: configurations that were applied.

use super::reload;
use crate::api::views::{ConfigView, DiffView, ReloadView};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Cell, DIM, Out, Table, human};
use rouse_model::Timestamp;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// At most so many, the newest first
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print only the revisions' numbers
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// A revision's number
    from: i64,
    /// Another one. Default: the one in force
    to: Option<i64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// The revision to go back to
    revision: i64,
}

pub(super) async fn run(args: &HistoryArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let items = client.list("/config/revisions", &Vec::new(), args.limit).await?;
    if args.quiet {
        return out.ids(&items, "revision");
    }
    out.list(items, "nothing was applied yet", table)?;
    Ok(Exit::Success)
}

fn table(revisions: &[ConfigView], now: Timestamp) -> Table {
    let mut table = Table::new(&["revision", "applied", "by", "text"]);
    for revision in revisions {
        table.row(vec![
            revision.revision.to_string().into(),
            Cell::styled(human::ago(revision.effective, now), DIM),
            revision.author.clone().into(),
            human::short(&revision.hash).into(),
        ]);
    }
    table
}

pub(super) async fn diff(args: &DiffArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let mut query = vec![("from", args.from.to_string())];
    query.extend(args.to.map(|to| ("to", to.to_string())));
    let value = client.get("/config/diff", &query).await?;
    out.show(value, |diff: &DiffView| match (diff.changes.is_empty(), diff.same_text) {
        (true, true) => format!("revisions {} and {} are the same\n", diff.from, diff.to),
        (true, false) => {
            format!("revisions {} and {} differ in how they are written alone\n", diff.from, diff.to)
        }
        (false, _) => diff.changes.iter().map(|change| format!("{}\n", change.sentence)).collect(),
    })?;
    Ok(Exit::Success)
}

pub(super) async fn roll_back(args: &RollbackArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let value = client.post("/config/rollback", &json!({"revision": args.revision})).await?;
    let why_not = format!("revision {} is what is in force", args.revision);
    out.show(value, |done: &ReloadView| reload::outcome(done, &why_not))?;
    Ok(Exit::Success)
}
