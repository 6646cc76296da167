//! `rouse secret`: that they exist; their values are shown to nobody.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Out, Table};
use crate::api::views::SecretView;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Secrets with whom they are for
    List,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let Verb::List = verb;
    let items = connect.client()?.whole("/secrets", &Vec::new()).await?;
    out.list(items, "no secrets", |secrets: &[SecretView], _| {
        let mut table = Table::new(&["secret", "source", "projects", "builders", "used by"]);
        for secret in secrets {
            let all = secret.projects.is_empty() && secret.builders.is_empty();
            table.row(vec![
                secret.name.clone().into(),
                secret.source.clone().into(),
                if all { "all".into() } else { secret.projects.join(", ").into() },
                secret.builders.join(", ").into(),
                secret.used_by.join(", ").into(),
            ]);
        }
        table
    })?;
    Ok(Exit::Success)
}
