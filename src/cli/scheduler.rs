//! `rouse scheduler`: what makes buildsets.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::force;
use super::output::{Out, Table};
use crate::api::views::SchedulerView;
use clap::Subcommand;
use rouse_model::Timestamp;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Schedulers with what sets them off
    List(ListArgs),
    /// Start builds through a scheduler
    Force(force::Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only their names
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    match verb {
        Verb::List(args) => {
            let items = connect.client()?.whole("/schedulers", &Vec::new()).await?;
            if args.quiet {
                return out.ids(&items, "name");
            }
            out.list(items, "no schedulers; declare one under `schedulers:` in the configuration", table)?;
            Ok(Exit::Success)
        }
        Verb::Force(args) => force::run(args, connect, out).await,
    }
}

fn table(schedulers: &[SchedulerView], _now: Timestamp) -> Table {
    let mut table = Table::new(&["scheduler", "project", "by", "builders", "parameters"]);
    for scheduler in schedulers {
        let parameters: Vec<String> = scheduler
            .parameters
            .iter()
            .map(|p| if p.required { format!("{} (required)", p.name) } else { p.name.clone() })
            .collect();
        table.row(vec![
            scheduler.name.clone().into(),
            scheduler.project.clone().into(),
            scheduler.kind.as_str().into(),
            scheduler.builders.join(", ").into(),
            parameters.join(", ").into(),
        ]);
    }
    table
}
