//! `rouse build list`.

use crate::api::views::{BuildResult, BuildView, SourceView};
use crate::cli::connect::ConnectArgs;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Cell, DIM, Out, Table, human, standing};
use rouse_model::Timestamp;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of this builder alone
    #[arg(short, long)]
    builder: Option<String>,
    /// Of this branch alone
    #[arg(long)]
    branch: Option<String>,
    /// Of this project alone
    #[arg(short, long)]
    project: Option<String>,
    /// With this result alone: success, warnings, failure, skipped, exception, retry, cancelled
    #[arg(short, long)]
    result: Option<BuildResult>,
    /// Only those that are not finished
    #[arg(long)]
    open: bool,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only their numbers
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let mut query = Vec::new();
    query.extend(args.builder.clone().map(|name| ("builder", name)));
    query.extend(args.branch.clone().map(|name| ("branch", name)));
    query.extend(args.project.clone().map(|name| ("project", name)));
    query.extend(args.result.map(|result| ("result", result.to_string())));
    if args.open {
        query.push(("open", "true".to_owned()));
    }
    let items = client.list("/builds", &query, args.limit).await?;
    if args.quiet {
        return out.ids(&items, "id");
    }
    out.list(items, "no builds yet; start one with: rouse force SCHEDULER", table)?;
    Ok(Exit::Success)
}

fn table(builds: &[BuildView], now: Timestamp) -> Table {
    let mut table = Table::new(&["build", "builder", "result", "took", "when", "worker", "what"]);
    for build in builds {
        let running = build.finished.is_none();
        table.row(vec![
            build.id.to_string().into(),
            build.builder.clone().into(),
            standing(build.result, build.phase),
            human::span(build.times.total).into(),
            Cell::styled(human::ago(build.finished.unwrap_or(build.matched), now), DIM),
            build.worker.as_ref().map_or_else(|| "–".to_owned(), |w| w.name.clone()).into(),
            what(&build.sources, if running { &build.reason } else { &build.summary }).into(),
        ]);
    }
    table
}

/// `main 4f1c2aa0 · 2 commits by alice`.
pub(in crate::cli) fn what(sources: &[SourceView], words: &str) -> String {
    let first = sources.iter().find(|s| s.revision.is_some() || s.branch.is_some());
    let source = first.map(|s| {
        let branch = s.branch.as_deref().unwrap_or_default();
        let revision = s.revision.as_deref().map(human::short).unwrap_or_default();
        format!("{branch} {revision}").trim().to_owned()
    });
    match source {
        Some(source) if words.is_empty() => source,
        Some(source) => format!("{source} · {words}"),
        None => words.to_owned(),
    }
}
