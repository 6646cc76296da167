//! `rouse builder`: recipes.

use super::client::part;
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{BOLD, DIM, Out, Table, human, mark, standing};
use super::tested;
use crate::api::views::{BuilderDetail, BuilderView};
use clap::Subcommand;
use rouse_model::Timestamp;
use std::fmt::Write;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Builders with their latest builds
    List(ListArgs),
    /// A builder with its steps, and the pools that would take it
    Show(ShowArgs),
    /// What its tests came to from build to build, or what became of one of them
    Tests(tested::OfBuilder),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Of this project alone
    #[arg(short, long)]
    project: Option<String>,
    /// Only their names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Its name
    builder: String,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    match verb {
        Verb::Tests(args) => tested::of_builder(args, connect, out).await?,
        Verb::List(args) => {
            let query = args.project.map(|project| ("project", project)).into_iter().collect();
            let items = client.whole("/builders", &query).await?;
            if args.quiet {
                return out.ids(&items, "name");
            }
            out.list(items, "no builders; declare one under `builders:` in the configuration", table)?;
        }
        Verb::Show(args) => {
            let value = client.get(&format!("/builders/{}", part(&args.builder)), &Vec::new()).await?;
            out.show(value, text)?;
        }
    }
    Ok(Exit::Success)
}

fn table(builders: &[BuilderView], now: Timestamp) -> Table {
    let mut table = Table::new(&["builder", "project", "last", "build", "when", "took", "schedulers"]);
    for builder in builders {
        let last = builder.recent.first();
        table.row(vec![
            builder.name.clone().into(),
            builder.project.clone().into(),
            last.map_or_else(|| "never built".into(), |b| standing(b.result, b.phase)),
            last.map_or_else(|| "–".to_owned(), |b| b.id.to_string()).into(),
            last.map_or_else(String::new, |b| human::ago(b.finished.unwrap_or(b.matched), now)).into(),
            last.map_or_else(String::new, |b| human::span(b.times.total)).into(),
            builder.schedulers.join(", ").into(),
        ]);
    }
    table
}

fn text(detail: &BuilderDetail) -> String {
    let builder = &detail.builder;
    let mut text = format!("{BOLD}builder {}{BOLD:#} · project {}\n", builder.name, builder.project);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {DIM}{name:<10}{DIM:#} {value}");
    };
    line("steps", builder.steps.join(" → "));
    line("codebases", builder.codebases.join(", "));
    line(
        "schedulers",
        if builder.schedulers.is_empty() { "none".into() } else { builder.schedulers.join(", ") },
    );
    line("waiting", format!("{} request(s)", detail.waiting));
    let _ = writeln!(text, "\npools");
    for pool in &detail.matches {
        let word =
            pool.why.as_deref().map_or_else(|| "would take it".to_owned(), |why| format!("cannot: {why}"));
        let _ = writeln!(text, "  {}, {} build: {word}", pool.pool, pool.trust);
    }
    if !builder.recent.is_empty() {
        let _ = writeln!(text, "\nlatest builds");
        for build in &builder.recent {
            let _ = writeln!(
                text,
                "  {} {}  {}  {}",
                mark(build.result),
                build.id,
                human::span(build.times.total),
                build.summary
            );
        }
    }
    text
}
