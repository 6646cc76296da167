//! `rouse project`: tenants.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Out, Table};
use crate::api::views::ProjectView;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Projects with what they own
    List,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let Verb::List = verb;
    let items = connect.client()?.whole("/projects", &Vec::new()).await?;
    out.list(items, "no projects", |projects: &[ProjectView], _| {
        let mut table = Table::new(&["project", "share", "codebases", "builders"]);
        for project in projects {
            table.row(vec![
                project.name.clone().into(),
                project.share.to_string().into(),
                project.codebases.join(", ").into(),
                project.builders.join(", ").into(),
            ]);
        }
        table
    })?;
    Ok(Exit::Success)
}
