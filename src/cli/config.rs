//! `rouse config`: `check` and `schema` need no master; the others ask it.

mod check;
mod history;
mod reload;

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Format, Out};
use crate::api::views::ConfigView;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check a configuration; no master is needed
    Check(check::Args),
    /// The JSON Schema, for editors
    Schema,
    /// Apply the master's file again, all or nothing
    Reload,
    /// The configuration in force
    Show,
    /// What a reload would change
    Plan(reload::PlanArgs),
    /// Applied configurations, with who applied them and when
    History(history::HistoryArgs),
    /// What differs between two applied configurations
    Diff(history::DiffArgs),
    /// Put an older configuration in force again
    Rollback(history::RollbackArgs),
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    match verb {
        Verb::Check(args) => check::run(&args, out),
        Verb::Schema => {
            let schema = crate::config::schema(&crate::boot::provider_kinds());
            // Always JSON: it is a file for editors.
            let mut text = serde_json::to_string_pretty(&schema).map_err(CliError::Answer)?;
            text.push('\n');
            out.print(&text)?;
            Ok(Exit::Success)
        }
        Verb::Reload => reload::run(&connect.client()?, out).await,
        Verb::History(args) => history::run(&args, &connect.client()?, out).await,
        Verb::Diff(args) => history::diff(&args, &connect.client()?, out).await,
        Verb::Rollback(args) => history::roll_back(&args, &connect.client()?, out).await,
        Verb::Plan(args) => reload::plan(&args, &connect.client()?, out).await,
        Verb::Show => {
            let value = connect.client()?.get("/config", &Vec::new()).await?;
            let is_text = out.format() == Format::Table;
            let head = value.get("revision").and_then(serde_json::Value::as_i64).unwrap_or_default();
            let author = value.get("author").and_then(|a| a.as_str()).unwrap_or_default().to_owned();
            out.show(value, text)?;
            if is_text {
                out.note(&format!("revision {head}, by {author}"));
            }
            Ok(Exit::Success)
        }
    }
}

fn text(config: &ConfigView) -> String {
    let several = config.files.len() > 1;
    let mut text = String::new();
    for file in &config.files {
        if several {
            text.push_str(&format!("# {}\n", file.name));
        }
        text.push_str(&file.text);
        if !file.text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}
