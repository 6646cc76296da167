//! `rouse logs`: what a build's steps have printed.

use super::client::{Client, as_view};
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{BAD, BOLD, DIM, Format, Out};
use super::watch::{Backoff, interruptible};
use crate::api::views::{BuildDetail, BuildResult, LineView, LinesView, LogView, StepView};
use serde_json::Value;
use std::collections::HashSet;

/// Lines asked for at once.
const PAGE: usize = 5_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The build's number
    build: i64,
    /// Go on as it grows, until the build ends
    #[arg(short, long, conflicts_with_all = ["failed", "raw"])]
    follow: bool,
    /// Of failed steps alone, with the first error marked
    #[arg(long)]
    failed: bool,
    /// Of this step alone
    #[arg(short, long, value_name = "NAME")]
    step: Option<String>,
    /// This log alone: `stdio`, or the name of a file among the step's `logs`
    #[arg(short, long, value_name = "NAME")]
    log: Option<String>,
    /// The moment of each line before it
    #[arg(short, long)]
    timestamps: bool,
    /// The bytes as they came, escape sequences and all
    #[arg(long, conflicts_with_all = ["timestamps"])]
    raw: bool,
}

impl Args {
    fn wants(&self, step: &StepView) -> bool {
        let named = self.step.as_deref().is_none_or(|name| step.name == name);
        named && (!self.failed || is_bad(step))
    }

    /// The wanted logs of a step.
    fn logs<'a>(&self, step: &'a StepView) -> impl Iterator<Item = &'a LogView> {
        step.logs.iter().filter(|log| self.log.as_deref().is_none_or(|name| log.name == name))
    }
}

fn is_bad(step: &StepView) -> bool {
    matches!(step.result, Some(BuildResult::Failure | BuildResult::Exception | BuildResult::Retry))
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    if args.follow {
        let back = format!("rouse logs {} -f", args.build);
        return interruptible(follow(args, &client, out), &back).await;
    }
    let detail: BuildDetail = client.view(&format!("/builds/{}", args.build)).await?;
    check_step(args, &detail)?;
    let wanted: Vec<&StepView> = detail.steps.iter().filter(|step| args.wants(step)).collect();
    if wanted.is_empty() {
        out.note(nothing(args, &detail));
        return Ok(Exit::Success);
    }
    let logs = wanted.iter().map(|step| args.logs(step).count()).sum::<usize>();
    if logs == 0 && args.log.is_some() {
        return Err(no_log(args, &wanted));
    }
    if out.format() != Format::Table {
        return data(args, &wanted, &client, out).await;
    }
    let several = logs > 1;
    for step in wanted {
        for log in args.logs(step) {
            if several {
                heading(step, log, out)?;
            }
            if args.raw {
                raw(log, &client, out).await?;
            } else {
                print_log(args, step, log, &client, out).await?;
            }
        }
    }
    Ok(Exit::Success)
}

fn check_step(args: &Args, detail: &BuildDetail) -> Result<(), CliError> {
    let Some(name) = &args.step else { return Ok(()) };
    if detail.planned.iter().any(|planned| planned == name)
        || detail.steps.iter().any(|step| step.name == *name)
    {
        return Ok(());
    }
    Err(CliError::NotFound {
        message: format!("build {} has no step `{name}`", args.build),
        help: Some(format!("its steps: {}", detail.planned.join(", "))),
    })
}

fn no_log(args: &Args, steps: &[&StepView]) -> CliError {
    let mut names: Vec<&str> =
        steps.iter().flat_map(|step| &step.logs).map(|log| log.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    CliError::NotFound {
        message: format!("there is no log `{}`", args.log.as_deref().unwrap_or_default()),
        help: Some(format!("there are: {}", names.join(", "))),
    }
}

/// Says why there is nothing to see.
fn nothing(args: &Args, detail: &BuildDetail) -> &'static str {
    match (args.failed, detail.build.result, detail.steps.is_empty()) {
        (true, Some(_), false) => "no step has failed",
        (_, Some(_), true) => "no step was begun; `rouse build show` says why",
        (_, None, _) => "nothing yet; the build goes on (-f follows it)",
        (false, Some(_), false) => "the step was not begun",
    }
}

fn heading(step: &StepView, log: &LogView, out: &mut Out) -> Result<(), CliError> {
    let name = if log.name == "stdio" { String::new() } else { format!(" · {}", log.name) };
    out.print(&format!("{BOLD}── {}{name}{BOLD:#}\n", step.name))
}

async fn raw(log: &LogView, client: &Client, out: &mut Out) -> Result<(), CliError> {
    let mut body = client.body(&format!("/logs/{}/raw", log.id), &Vec::new()).await?;
    while let Some(chunk) = body.chunk().await.map_err(CliError::Transport)? {
        out.raw(&chunk)?;
    }
    Ok(())
}

async fn print_log(
    args: &Args,
    step: &StepView,
    log: &LogView,
    client: &Client,
    out: &mut Out,
) -> Result<(), CliError> {
    let mut marker = Marker::new(args.failed, step);
    let mut from = 0;
    loop {
        let page = page(client, log.id, from).await?;
        for line in &page.lines {
            out.print(&shown(line, args.timestamps, &mut marker))?;
        }
        if page.lines.is_empty() || page.end || page.next == from {
            break;
        }
        from = page.next;
    }
    if let Some(note) = &log.note {
        out.note(&format!("{DIM}[{note}]{DIM:#}"));
    }
    Ok(())
}

async fn page(client: &Client, log: i64, from: i64) -> Result<LinesView, CliError> {
    let query = vec![("from", from.to_string()), ("limit", PAGE.to_string())];
    as_view(client.get(&format!("/logs/{log}/lines"), &query).await?)
}

/// All wanted logs as data: a step, a log, its lines.
async fn data(args: &Args, steps: &[&StepView], client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let mut all = Vec::new();
    for step in steps {
        for log in args.logs(step) {
            let mut lines: Vec<LineView> = Vec::new();
            loop {
                let from = lines.last().map_or(0, |line| line.n + 1);
                let page = page(client, log.id, from).await?;
                let done = page.end || page.lines.is_empty() || page.next <= from;
                lines.extend(page.lines);
                if done {
                    break;
                }
            }
            all.push(serde_json::json!({"step": step.name, "log": log, "lines": lines}));
        }
    }
    out.data(&Value::Array(all))?;
    Ok(Exit::Success)
}

/// Finds the line that the step's summary speaks of.
struct Marker {
    /// What is left to be found.
    telling: Option<String>,
}

impl Marker {
    fn new(wanted: bool, step: &StepView) -> Self {
        Self { telling: (wanted && is_bad(step) && !step.summary.is_empty()).then(|| step.summary.clone()) }
    }

    fn marks(&mut self, line: &LineView) -> bool {
        let Some(summary) = &self.telling else { return false };
        let plain = anstream::adapter::strip_str(&line.text).to_string();
        let plain = plain.trim();
        // Summaries are cut; a line of a word or two proves nothing.
        let start: String = plain.chars().take(100).collect();
        let is_it = start.chars().count() >= 4 && summary.contains(&start);
        if is_it {
            self.telling = None;
        }
        is_it
    }
}

fn shown(line: &LineView, timestamps: bool, marker: &mut Marker) -> String {
    let at = if timestamps { format!("{DIM}{}{DIM:#} ", line.at) } else { String::new() };
    if marker.marks(line) {
        let plain = anstream::adapter::strip_str(&line.text).to_string();
        let loud = BAD.bold();
        return format!("{at}{loud}→ {plain}{loud:#}\n");
    }
    format!("{at}{}\n", line.text)
}

/// One log after another as they are made, each to its end, until the build has ended.
async fn follow(args: &Args, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let mut told: HashSet<i64> = HashSet::new();
    let mut backoff = Backoff::default();
    loop {
        let detail: BuildDetail = match client.view(&format!("/builds/{}", args.build)).await {
            Ok(detail) => detail,
            Err(error) => {
                backoff.wait(error, out).await?;
                continue;
            }
        };
        backoff.reset();
        check_step(args, &detail)?;
        let next = detail
            .steps
            .iter()
            .filter(|step| args.wants(step))
            .find_map(|step| args.logs(step).find(|log| !told.contains(&log.id)).map(|log| (step, log)));
        if let Some((step, log)) = next {
            heading(step, log, out)?;
            follow_log(args, log, client, out).await?;
            told.insert(log.id);
            continue;
        }
        if let Some(result) = detail.build.result {
            out.note(&format!("build {} ended: {result}", args.build));
            return Ok(Exit::Success);
        }
        super::watch::something_happens(client, args.build, &detail).await?;
    }
}

/// To the end of one log; a broken connection goes on at the line where it broke.
async fn follow_log(args: &Args, log: &LogView, client: &Client, out: &mut Out) -> Result<(), CliError> {
    let path = format!("/logs/{}/follow", log.id);
    let mut marker = Marker { telling: None };
    let mut place: Option<String> = None;
    let mut backoff = Backoff::default();
    loop {
        let mut stream = match client.events(&path, &Vec::new(), place.as_deref()).await {
            Ok(stream) => stream,
            Err(error) => {
                backoff.wait(error, out).await?;
                continue;
            }
        };
        loop {
            match stream.next().await {
                Ok(Some(message)) if message.event == "end" => return Ok(()),
                Ok(Some(message)) if message.event == "line" => {
                    backoff.reset();
                    let line: LineView = serde_json::from_str(&message.data).map_err(CliError::Answer)?;
                    // An open line is said again when it is whole.
                    if !line.open {
                        out.print(&shown(&line, args.timestamps, &mut marker))?;
                        place = message.id;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(CliError::Transport(_)) => break,
                Err(error) => return Err(error),
            }
        }
        backoff.pause().await;
    }
}
