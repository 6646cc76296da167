//! `rouse worker`: latent workers, from wish to gone.

mod end;
mod hold;
mod machines;
mod show;

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{ACTIVE, BAD, Cell, DIM, GOOD, ODD, Out, Table, human};
use crate::api::views::{WorkerState, WorkerView};
use clap::Subcommand;
use rouse_model::Timestamp;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Workers that are not gone, newest first
    List(ListArgs),
    /// A worker with its timeline, builds and console
    Show(show::Args),
    /// Give a worker no new builds, and end it once it is free
    Drain(end::DrainArgs),
    /// Keep a worker for a time, without new builds, to look at it
    Hold(hold::HoldArgs),
    /// Hold a worker no longer
    Release(hold::ReleaseArgs),
    /// Enrol a machine that somebody else starts, to run workers on it
    Enroll(machines::EnrollArgs),
    /// Let a machine come no more; its workers end
    Revoke(machines::RevokeArgs),
    /// Machines that are enrolled
    Machines,
    /// End a worker now; its builds are lost and tried again
    Kill(end::KillArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Of this pool alone
    #[arg(short, long)]
    pool: Option<String>,
    /// Those that are gone, too
    #[arg(short, long)]
    all: bool,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Only their names
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(verb: Verb, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    match verb {
        Verb::List(args) => {
            let mut query = vec![("live", (!args.all).to_string())];
            query.extend(args.pool.clone().map(|pool| ("pool", pool)));
            let items = client.list("/workers", &query, args.limit).await?;
            if args.quiet {
                return out.ids(&items, "name");
            }
            let empty = "no workers, since nothing wants one; --all shows those that are gone";
            out.list(items, empty, table)?;
            Ok(Exit::Success)
        }
        Verb::Show(args) => show::run(&args, &client, out).await,
        Verb::Drain(args) => end::drain(&args, &client, out).await,
        Verb::Hold(args) => hold::hold(&args, &client, out).await,
        Verb::Release(args) => hold::release(&args, &client, out).await,
        Verb::Enroll(args) => machines::enroll(&args, &client, out).await,
        Verb::Revoke(args) => machines::revoke(&args, &client, out).await,
        Verb::Machines => machines::list(&client, out).await,
        Verb::Kill(args) => end::kill(&args, &client, out).await,
    }
}

fn table(workers: &[WorkerView], now: Timestamp) -> Table {
    let mut table = Table::new(&["worker", "pool", "state", "builds", "made", "why"]);
    for worker in workers {
        let running: Vec<String> = worker.running.iter().map(ToString::to_string).collect();
        let builds = if running.is_empty() {
            format!("{} of {}", worker.builds_done, worker.max_builds)
        } else {
            format!("on {}", running.join(", "))
        };
        table.row(vec![
            worker.name.clone().into(),
            worker.pool.clone().into(),
            state(worker.state),
            builds.into(),
            Cell::styled(human::ago(worker.requested, now), DIM),
            why(worker, now).into(),
        ]);
    }
    table
}

/// Why it ended or is to end, or for how long who holds it.
fn why(worker: &WorkerView, now: Timestamp) -> String {
    match (&worker.cause, &worker.held) {
        (Some(cause), _) => cause.message.clone(),
        (None, Some(held)) => {
            format!("held for {} by {}", human::span(held.until.0.since(now).as_secs_f64()), held.by)
        }
        (None, None) => String::new(),
    }
}

fn state(state: WorkerState) -> Cell {
    let style = match state {
        WorkerState::Busy => ACTIVE,
        WorkerState::Idle => GOOD,
        WorkerState::Silent => BAD,
        WorkerState::Draining | WorkerState::Held | WorkerState::Ending => ODD,
        WorkerState::Gone => DIM,
        WorkerState::Requested | WorkerState::Launching | WorkerState::Booting | WorkerState::Parked => {
            return state.as_str().into();
        }
    };
    Cell::styled(state.as_str(), style)
}
