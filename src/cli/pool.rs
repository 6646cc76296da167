//! `rouse pool`: where work can run.

use super::client::part;
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{BOLD, DIM, Out, Table, human};
use crate::api::views::{PoolDetail, PoolView};
use clap::Subcommand;
use rouse_model::Timestamp;
use std::fmt::Write;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Pools with what they have and what waits for them
    List(ListArgs),
    /// A pool with its workers and failed launches
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only their names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Its name
    pool: String,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    match verb {
        Verb::List(args) => {
            let items = client.whole("/pools", &Vec::new()).await?;
            if args.quiet {
                return out.ids(&items, "name");
            }
            out.list(items, "no pools; declare one under `pools:` in the configuration", table)?;
        }
        Verb::Show(args) => {
            let value = client.get(&format!("/pools/{}", part(&args.pool)), &Vec::new()).await?;
            out.show_at(value, text)?;
        }
    }
    Ok(Exit::Success)
}

fn table(pools: &[PoolView], _now: Timestamp) -> Table {
    let mut table =
        Table::new(&["pool", "kind", "workers", "coming", "idle", "busy", "waiting", "accepts", "boot"]);
    for pool in pools {
        table.row(vec![
            pool.name.clone().into(),
            pool.kind.clone().into(),
            format!("{} of {}", pool.live, pool.max).into(),
            pool.counts.coming.to_string().into(),
            pool.counts.idle.to_string().into(),
            pool.counts.busy.to_string().into(),
            pool.waiting.to_string().into(),
            pool.accepts.to_string().into(),
            pool.usual_boot.map_or_else(|| "–".to_owned(), human::span).into(),
        ]);
    }
    table
}

fn text(detail: &PoolDetail, now: Timestamp) -> String {
    let pool = &detail.pool;
    let mut text = format!("{BOLD}pool {}{BOLD:#} · {} on {}\n", pool.name, pool.kind, pool.on.join(", "));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {DIM}{name:<10}{DIM:#} {value}");
    };
    line("workers", format!("{} of {} (min {}), {} slot(s) each", pool.live, pool.max, pool.min, pool.slots));
    let counts = &pool.counts;
    line(
        "of which",
        format!(
            "{} coming, {} idle, {} busy, {} silent, {} leaving",
            counts.coming, counts.idle, counts.busy, counts.silent, counts.leaving
        ),
    );
    line("waiting", format!("{} request(s) that it can run", pool.waiting));
    line("accepts", format!("{} builds at least", pool.accepts));
    let idle = pool.reuse_idle.map_or_else(|| "a learned time".to_owned(), human::span);
    line("reuse", format!("{} build(s) per worker, idle for {idle}", pool.reuse_builds));
    line(
        "boot",
        pool.usual_boot.map_or_else(|| "never seen".to_owned(), |s| format!("usually {}", human::span(s))),
    );
    for worker in &detail.workers {
        let _ = writeln!(text, "  {} {}", worker.name, worker.state);
    }
    if !detail.failures.is_empty() {
        let _ = writeln!(text, "\nfailed launches");
        for failure in &detail.failures {
            let _ =
                writeln!(text, "  {}  {}: {}", human::ago(failure.at, now), failure.class, failure.message);
        }
    }
    text
}
