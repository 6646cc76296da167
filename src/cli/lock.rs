//! `rouse lock`: what builds share.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Out, Table};
use crate::api::views::{HolderView, LockView};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Locks with those who have them
    List,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let Verb::List = verb;
    let items = connect.client()?.whole("/locks", &Vec::new()).await?;
    out.list(items, "no locks; declare one under `locks:` in the configuration", |locks: &[LockView], _| {
        let mut table = Table::new(&["lock", "count", "accepts", "held by", "waiting"]);
        for lock in locks {
            let per = match (lock.per_worker, lock.per_branch) {
                (true, _) => " per worker",
                (_, true) => " per branch",
                _ => "",
            };
            let held: Vec<String> = lock.held.iter().map(holder).collect();
            table.row(vec![
                lock.name.clone().into(),
                format!("{}{per}", lock.count).into(),
                lock.accepts.to_string().into(),
                held.join(", ").into(),
                lock.waiting.to_string().into(),
            ]);
        }
        table
    })?;
    Ok(Exit::Success)
}

/// `build 12 (package), all`.
fn holder(holder: &HolderView) -> String {
    let who =
        holder.build.map_or_else(|| format!("request {}", holder.request), |build| format!("build {build}"));
    let much = match holder.count {
        Some(1) => String::new(),
        Some(count) => format!(" ×{count}"),
        None => " all of it".to_owned(),
    };
    let branch = holder.branch.as_ref().filter(|branch| !branch.is_empty());
    let branch = branch.map_or_else(String::new, |branch| format!(" of {branch}"));
    format!("{who} ({}){much}{branch}", holder.builder)
}
