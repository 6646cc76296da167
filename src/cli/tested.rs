//! `rouse build tests` and `rouse builder tests`: what tests came to.

use super::client::part;
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{BOLD, DIM, Out, Table, human};
use crate::api::views::{TestReportView, TestsView};
use rouse_model::Timestamp;
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(crate) struct OfBuild {
    /// The build's number
    build: i64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OfBuilder {
    /// Its name
    builder: String,
    /// Only builds of this branch
    #[arg(short, long)]
    branch: Option<String>,
    /// The class or suite of the test whose history is asked for
    #[arg(short, long, requires = "test")]
    suite: Option<String>,
    /// The name of that test
    #[arg(short, long)]
    test: Option<String>,
    /// At most so many
    #[arg(short, long)]
    limit: Option<i64>,
}

pub(super) async fn of_build(args: &OfBuild, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let value = connect.client()?.get(&format!("/builds/{}/tests", args.build), &Vec::new()).await?;
    out.show(value, text)?;
    Ok(Exit::Success)
}

pub(super) async fn of_builder(
    args: OfBuilder,
    connect: &ConnectArgs,
    out: &mut Out,
) -> Result<(), CliError> {
    let limit = args.limit.map(|limit| limit.to_string());
    let asked = [("branch", args.branch), ("suite", args.suite), ("test", args.test), ("limit", limit)];
    let query = asked.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let path = format!("/builders/{}/tests", part(&args.builder));
    let items = connect.client()?.whole(&path, &query).await?;
    out.list(items, "no test reports; a step keeps some with `upload: {paths: REPORT.xml, as: junit}`", table)
}

fn text(tests: &TestsView) -> String {
    let mut text = String::new();
    if tests.reports.is_empty() {
        text.push_str("no test reports; a step keeps some with `upload: {paths: REPORT.xml, as: junit}`\n");
    }
    for report in &tests.reports {
        let TestReportView { total, failed, skipped, .. } = report;
        let took = human::span(report.seconds);
        let _ = writeln!(text, "{BOLD}{total} test(s){BOLD:#} in {took}: {failed} failed, {skipped} skipped");
    }
    for result in &tests.results {
        let since = match result.since {
            Some(build) if tests.reports.iter().all(|report| report.build != build) => {
                format!("  {DIM}since build {build}{DIM:#}")
            }
            Some(_) => format!("  {DIM}new{DIM:#}"),
            None => String::new(),
        };
        let _ = writeln!(text, "  {:<7}  {} · {}{since}", result.outcome, result.suite, result.name);
        for line in result.message.lines() {
            let _ = writeln!(text, "           {DIM}{line}{DIM:#}");
        }
    }
    text
}

fn table(reports: &[TestReportView], now: Timestamp) -> Table {
    let mut table = Table::new(&["build", "branch", "when", "tests", "failed", "skipped", "took", "outcome"]);
    for report in reports {
        table.row(vec![
            report.build.to_string().into(),
            report.branch.clone().into(),
            human::ago(report.created, now).into(),
            report.total.to_string().into(),
            report.failed.to_string().into(),
            report.skipped.to_string().into(),
            human::span(report.seconds).into(),
            report.outcome.map_or_else(String::new, |outcome| outcome.to_string()).into(),
        ]);
    }
    table
}
