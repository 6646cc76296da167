//! `rouse token`: who may call the API.

use super::client::part;
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Format, Out, Table, human};
use crate::api::views::{MadeTokenView, Role, TokenView};
use clap::Subcommand;
use rouse_model::Timestamp;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Tokens, without the tokens
    List,
    /// Make a token; it is shown this once
    Create(CreateArgs),
    /// Remove a token
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// For whom or what
    name: String,
    /// What it allows: read, operate, admin
    #[arg(short, long, default_value_t = Role::Read)]
    role: Role,
    /// The one project that it may see. Default: all
    #[arg(short, long)]
    project: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Its name
    name: String,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    match verb {
        Verb::List => {
            let items = client.whole("/tokens", &Vec::new()).await?;
            out.list(items, "no tokens", table)?;
        }
        Verb::Create(args) => {
            let body = json!({"name": args.name, "role": args.role, "project": args.project});
            let value = client.post("/tokens", &body).await?;
            out.show(value, |made: &MadeTokenView| format!("{}\n", made.token))?;
            if out.format() == Format::Table {
                out.hint("it is not shown again; use it with ROUSE_TOKEN or --token-file");
            }
        }
        Verb::Remove(args) => {
            client.delete(&format!("/tokens/{}", part(&args.name))).await?;
            out.note(&format!("token {} is removed", args.name));
        }
    }
    Ok(Exit::Success)
}

fn table(tokens: &[TokenView], now: Timestamp) -> Table {
    let mut table = Table::new(&["token", "role", "project", "made"]);
    for token in tokens {
        table.row(vec![
            token.name.clone().into(),
            token.role.map_or_else(|| "unknown".to_owned(), |role| role.to_string()).into(),
            token.project.clone().unwrap_or_else(|| "all".to_owned()).into(),
            human::ago(token.created, now).into(),
        ]);
    }
    table
}
