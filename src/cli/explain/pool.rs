//! Why a pool has as many workers as it has: what the fleet came to, newest first.

use crate::api::views::PoolExplanationView;
use crate::cli::client::{Client, part};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{BOLD, DIM, Out, human};
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Its name
    pool: String,
    /// At most so many decisions
    #[arg(long, default_value_t = 10)]
    limit: u32,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let query = vec![("limit", args.limit.to_string())];
    let value = client.get(&format!("/pools/{}/explain", part(&args.pool)), &query).await?;
    out.show(value, text)?;
    Ok(Exit::Success)
}

fn text(answer: &PoolExplanationView) -> String {
    let counts = &answer.counts;
    let live = counts.coming + counts.idle + counts.busy + counts.silent + counts.parked + counts.leaving;
    let mut text = format!("{BOLD}pool {}{BOLD:#} · {live} of {} workers", answer.pool, answer.max);
    let parts = [
        (counts.coming, "coming"),
        (counts.idle, "idle"),
        (counts.busy, "busy"),
        (counts.silent, "silent"),
        (counts.parked, "parked"),
        (counts.leaving, "leaving"),
    ];
    for (count, word) in parts.iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, " · {count} {word}");
    }
    text.push('\n');
    if answer.decisions.items.is_empty() {
        text.push_str("  nothing was decided yet: nothing was wanted of it\n");
    }
    for decision in &answer.decisions.items {
        let when = human::ago(decision.at, answer.checked_at.0);
        let lasted = decision.until.0.since(decision.at.0).as_secs_f64();
        let lasted = if lasted >= 1.0 { format!(" for {}", human::span(lasted)) } else { String::new() };
        let _ = writeln!(
            text,
            "  {when:<12} {:<14} {}{lasted} {DIM}#{}{DIM:#}",
            decision.code, decision.sentence, decision.id
        );
    }
    text
}
