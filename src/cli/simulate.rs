//! `rouse simulate`: what a fleet would have cost, and how long builds would have waited, under one policy or another.

mod pool;

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Cell, Out, Table};
use crate::api::views::BuildView;
use crate::simulate::{Job, Offer, Outcome, Policy, Trace, World, picture, simulate};
use clap::builder::NonEmptyStringValueParser;
use rouse_contract::units::Span;
use rouse_model::Timestamp;
use serde_json::Value;
use std::path::PathBuf;

/// How far back the master's own history is read.
const BUILDS: usize = 200_000;

const HELP: &str = "A trace is CSV: `arrival_ms,duration_ms`, and `class` where it wants several kinds of worker. Policies: rouse (as the fleet scales), lean and eager \
(the same with less and more in reserve), demand (no look ahead), idle-15m (idle workers are kept), single-use. Settings after a colon: rouse:reserve=1.5,min=10,idle=5m,park=3. \
An offer: spot:price=0.05,interrupted=0.1,out=2h-5h,try_for=5m; what is as good after a slash";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    of_pool: pool::OfPool,
    /// The usual time from the launch of a worker until it takes builds
    #[arg(long, default_value = "120s", value_name = "TIME")]
    boot: Span,
    /// How much longer than usual one boot of a hundred takes: 3 is three times as long
    #[arg(long, default_value_t = 1.0, value_name = "TIMES", value_parser = at_least_one)]
    boot_spread: f64,
    /// The share of launches that come to nothing
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    boot_failures: f64,
    /// The share of requests that schedulers announce
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    announced: f64,
    /// So long ahead
    #[arg(long, default_value = "120s", value_name = "TIME")]
    lead: Span,
    /// So many announcements that come to nothing, in parts of those that come true
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    false_alarms: f64,
    /// Builds that one worker serves in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_uses: Option<u64>,
    /// Builds that one worker runs at the same time
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    slots: u64,
    /// Of one worker for an hour, in any currency; offers have their own
    #[arg(long, default_value_t = 1.0, value_name = "AMOUNT", value_parser = amount)]
    price: f64,
    /// What workers may be launched as, in order, each with its price; may be given several times
    #[arg(long, value_name = "OFFER")]
    offer: Vec<Offer>,
    /// The time until a parked worker takes builds again (policies with park=N)
    #[arg(long, default_value = "10s", value_name = "TIME")]
    resume: Span,
    /// Of one parked worker for an hour, no more than of one that runs
    #[arg(long, default_value_t = 0.0, value_name = "AMOUNT", value_parser = amount)]
    park_price: f64,
    /// A policy to compare; may be given several times. Default: all of them
    #[arg(long, value_name = "NAME")]
    policy: Vec<Policy>,
    /// What is drawn by chance is drawn from it: the same seed, the same answer
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw capacity against demand to this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Where work is taken from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// A trace
    #[arg(long, value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
    trace: Option<String>,
    /// What the master itself has built
    #[arg(long)]
    history: bool,
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1.0).ok_or_else(|| "a share is a number from 0 to 1".to_owned())
}

fn at_least_one(text: &str) -> Result<f64, String> {
    number(text, 1.0, 1_000.0).ok_or_else(|| "a number from 1 to 1000".to_owned())
}

fn amount(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1e9).ok_or_else(|| "a number from 0 on".to_owned())
}

fn number(text: &str, least: f64, most: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

pub(super) async fn run(args: Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let trace = match &args.source.trace {
        Some(file) => read(file)?,
        None => history(connect).await?,
    };
    let most = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut world = World {
        boot: args.boot.0,
        boot_spread: args.boot_spread,
        boot_failures: args.boot_failures,
        announced: args.announced,
        lead: args.lead.0,
        false_alarms: args.false_alarms,
        slots: most(args.slots),
        max_uses: args.max_uses.map_or(usize::MAX, most),
        price: args.price,
        offers: args.offer,
        resume: args.resume.0,
        park_price: args.park_price,
        seed: args.seed,
    };
    let mut policies = match args.policy.is_empty() {
        true => Policy::usual(),
        false => args.policy,
    };
    if let Some(name) = &args.of_pool.pool {
        policies.insert(0, args.of_pool.apply(name, &mut world)?);
    }
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(policies.len());
    for policy in &policies {
        outcomes.push(simulate(&trace, &world, policy));
    }
    if let Some(path) = &args.svg {
        let drawn = picture(&trace, &outcomes).map_err(|error| CliError::Other(error.into()))?;
        std::fs::write(path, drawn).map_err(|source| CliError::Io {
            what: format!("write the picture {}", path.display()),
            source,
        })?;
        out.note(&format!("{}: capacity against demand", path.display()));
    }
    let items = outcomes.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>();
    out.list(items.map_err(CliError::Answer)?, "no policies", |_: &[Value], _| table(&outcomes))?;
    Ok(Exit::Success)
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut columns =
        vec!["policy", "overhead", "of bound", "cost", "mean wait", "p95 wait", "boots", "peak"];
    let parks = outcomes.iter().any(|outcome| outcome.parked_s > 0.0);
    let sells = outcomes.iter().any(|outcome| !outcome.per_offering.is_empty());
    columns.extend(parks.then_some(["resumes", "parked"]).into_iter().flatten());
    columns.extend(sells.then_some(["launched as", "taken back", "given up"]).into_iter().flatten());
    let mut table = Table::new(&columns);
    for outcome in outcomes {
        let mut row: Vec<Cell> = vec![
            outcome.policy.clone().into(),
            format!("{:.1} %", outcome.overhead * 100.0).into(),
            format!("{:.2}", outcome.overhead / outcome.bound_overhead.max(f64::MIN_POSITIVE)).into(),
            format!("{:.2}", outcome.cost).into(),
            format!("{:.1} s", outcome.mean_wait_s).into(),
            format!("{:.1} s", outcome.p95_wait_s).into(),
            outcome.boots.to_string().into(),
            outcome.peak.to_string().into(),
        ];
        if parks {
            row.push(outcome.resumes.to_string().into());
            row.push(format!("{:.1} h", outcome.parked_s / 3600.0).into());
        }
        if sells {
            let launched = outcome.per_offering.iter().map(|of| format!("{} {}", of.launched, of.offering));
            row.push(launched.collect::<Vec<_>>().join(", ").into());
            row.push(outcome.per_offering.iter().map(|of| of.interrupted).sum::<usize>().to_string().into());
            row.push(outcome.given_up.to_string().into());
        }
        table.row(row);
    }
    table
}

fn read(file: &str) -> Result<Trace, CliError> {
    let opened = std::fs::File::open(file)
        .map_err(|source| CliError::Io { what: format!("read the trace {file}"), source })?;
    Trace::read(file, opened).map_err(|error| CliError::usage(crate::supervisor::chain(&error)))
}

/// Each build that a worker ran to its end, by pool.
async fn history(connect: &ConnectArgs) -> Result<Trace, CliError> {
    let items = connect.client()?.list("/builds", &Vec::new(), BUILDS).await?;
    let builds: Vec<BuildView> = super::client::as_view(Value::Array(items))?;
    let ran = builds.iter().filter_map(|build| {
        // POOL-xxxx
        let (pool, _) = build.worker.as_ref()?.name.rsplit_once('-')?;
        Some((pool, build.requested.0, build.finished?.0.since(build.matched.0)))
    });
    let ran: Vec<_> = ran.collect();
    let Some(first) = ran.iter().map(|(_, requested, _)| *requested).min() else {
        let message = "this master has run no build yet".to_owned();
        let help = "give it time, or a trace of another one: --trace FILE".to_owned();
        return Err(CliError::NotFound { message, help: Some(help) });
    };
    let mut trace = Trace::default();
    for (pool, requested, takes) in ran {
        let class = trace.class(pool);
        trace.jobs.push(Job { arrives: Timestamp(0) + requested.since(first), takes, class });
    }
    trace.jobs.sort_by_key(|job| job.arrives);
    Ok(trace)
}
