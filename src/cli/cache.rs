//! `rouse cache`: what builds have kept for those after them.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Out, Table, human};
use crate::api::views::CacheView;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Caches with their keys, sizes and last use
    List,
    /// Remove one: the next build begins without it
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Its id
    id: i64,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    match verb {
        Verb::List => {
            let items = client.whole("/caches", &Vec::new()).await?;
            out.list(items, "no caches", |caches: &[CacheView], now| {
                let mut table =
                    Table::new(&["id", "project", "cache", "key", "size", "build", "kept", "used"]);
                for cache in caches {
                    table.row(vec![
                        cache.id.to_string().into(),
                        cache.project.clone().into(),
                        cache.name.clone().into(),
                        cache.key.clone().into(),
                        human::size(cache.bytes).into(),
                        cache.build.to_string().into(),
                        human::ago(cache.created, now).into(),
                        human::ago(cache.used, now).into(),
                    ]);
                }
                table
            })?;
        }
        Verb::Remove(args) => {
            client.delete(&format!("/caches/{}", args.id)).await?;
            out.note(&format!("cache {} is removed", args.id));
        }
    }
    Ok(Exit::Success)
}
