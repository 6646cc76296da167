//! `rouse config reload` and `plan`: the master reads its own file.

use crate::api::views::{PlanView, ReloadView};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Format, Out};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Exit with 2 where something would change
    #[arg(long)]
    detailed_exitcode: bool,
}

pub(super) async fn run(client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let value = client.post("/config/reload", &json!({})).await?;
    out.show(value, |done: &ReloadView| outcome(done, "the files are as they were"))?;
    Ok(Exit::Success)
}

/// What is in force now and what that changed; `why_not` where it changed nothing.
pub(super) fn outcome(done: &ReloadView, why_not: &str) -> String {
    let mut text = if done.changed {
        format!("revision {} is in force\n", done.revision)
    } else {
        format!("{why_not}; revision {} stays in force\n", done.revision)
    };
    for change in &done.changes {
        text.push_str(&format!("{}\n", change.sentence));
    }
    text
}

pub(super) async fn plan(args: &PlanArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let value = client.post("/config/plan", &json!({})).await?;
    let plan: PlanView = crate::cli::client::as_view(value.clone())?;
    if out.format() == Format::Table && !plan.check.text.is_empty() {
        out.note(plan.check.text.trim_end());
    }
    if out.format() == Format::Table && !plan.check.ok {
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let (errors, warnings) = (count(plan.check.errors, "error"), count(plan.check.warnings, "warning"));
        out.note(&format!("{errors}, {warnings}; a reload would change nothing"));
    }
    out.show(value, text)?;
    Ok(match (plan.check.ok, plan.changes.is_empty(), args.detailed_exitcode) {
        (false, ..) => Exit::Error,
        (true, false, true) => Exit::Changes,
        (true, ..) => Exit::Success,
    })
}

fn text(plan: &PlanView) -> String {
    if !plan.check.ok {
        return String::new();
    }
    if plan.changes.is_empty() {
        return format!("nothing would change against revision {}\n", plan.base);
    }
    plan.changes.iter().map(|change| format!("{}\n", change.sentence)).collect()
}
