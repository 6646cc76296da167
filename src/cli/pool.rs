//! `rouse pool`: where work can run.

mod grant;

use super::client::part;
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{BOLD, DIM, Out, Table, human};
use crate::api::views::{OfferingView, PoolDetail, PoolView, RefusedView};
use clap::Subcommand;
use rouse_model::Timestamp;
use std::fmt::Write;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Pools with what they have and what waits for them
    List(ListArgs),
    /// A pool with its workers and failed launches
    Show(ShowArgs),
    /// Let a pool spend more than its budget for a time
    Grant(grant::GrantArgs),
    /// What was granted to a pool beyond its budget, newest first
    Grants(grant::GrantsArgs),
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
        Verb::Grant(args) => grant::grant(&args, &client, out).await?,
        Verb::Grants(args) => grant::list(&args, &client, out).await?,
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
            "{} coming, {} idle, {} busy, {} silent, {} parked, {} leaving",
            counts.coming, counts.idle, counts.busy, counts.silent, counts.parked, counts.leaving
        ),
    );
    line("waiting", format!("{} request(s) that it can run", pool.waiting));
    if let Some(ramp) = pool.ramp {
        line("ramp", format!("{ramp} on their way at one time"));
    }
    if pool.park > 0 {
        line("park", format!("{} at most, instead of being ended", pool.park));
    }
    if let Some(price) = &pool.price {
        line("price", format!("{price} for each worker"));
    }
    for offering in &detail.offerings {
        line("offered", offered(offering));
    }
    for refused in &detail.refused {
        line("refused", refusal(refused, now));
    }
    for budget in &detail.budget {
        let anew = human::span(budget.until.0.since(now).as_secs_f64());
        let granted = if budget.limit.starts_with(&format!("{:.2} ", budget.amount)) {
            String::new()
        } else {
            format!(" ({:.2} with what is granted)", budget.amount)
        };
        line("budget", format!("{}{granted}: {:.2} spent, anew in {anew}", budget.limit, budget.spent));
    }
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

/// `1. spot a, 0.14 USD/h, for 5m before the next`.
fn offered(OfferingView { offer, name, price, try_for }: &OfferingView) -> String {
    let mut text = format!("{offer}. {name}");
    if let Some(price) = price {
        let _ = write!(text, ", {price}");
    }
    if let Some(seconds) = try_for {
        let _ = write!(text, ", tried for {}", human::span(*seconds));
    }
    text
}

/// `no capacity for spot a on aws for 3m, asked again in 40s`.
fn refusal(refused: &RefusedView, now: Timestamp) -> String {
    let mut text = format!("{} on {}", refused.what, refused.account);
    if let Some(since) = refused.since {
        let _ = write!(text, " for {}", human::span(now.since(since.0).as_secs_f64()));
    }
    let wait = refused.until.0.since(now);
    match wait.is_zero() {
        true => text.push_str(", the next launch finds out"),
        false => _ = write!(text, ", asked again in {}", human::span(wait.as_secs_f64())),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_and_refused_is_a_line_each() {
        let spot = OfferingView {
            offer: 1,
            name: "spot a".into(),
            price: Some("0.14 USD/h".into()),
            try_for: Some(300.0),
        };
        assert_eq!(offered(&spot), "1. spot a, 0.14 USD/h, tried for 5m 00s");
        let last = OfferingView { offer: 2, name: "on demand".into(), price: None, try_for: None };
        assert_eq!(offered(&last), "2. on demand");
        let now = Timestamp::from_secs(1_000);
        let refused = RefusedView {
            account: "aws".into(),
            what: "no capacity for spot a".into(),
            offerings: vec!["spot a".into()],
            since: Some(Timestamp::from_secs(400).into()),
            failures: 9,
            until: Timestamp::from_secs(1_040).into(),
        };
        assert_eq!(refusal(&refused, now), "no capacity for spot a on aws for 10m 00s, asked again in 40 s");
        let open = RefusedView { since: None, until: Timestamp::from_secs(990).into(), ..refused };
        assert_eq!(refusal(&open, now), "no capacity for spot a on aws, the next launch finds out");
    }
}
