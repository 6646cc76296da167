//! The server side of the agent link: a listener for each live worker of this master, a session for each connection.
//!
//! The socket lies in a folder of the worker's own, so that one worker can never speak through another's. The loop makes the sockets that
//! should be there and drops the others; sessions write what agents say (attached, silent) and hand outcomes to the builds' drivers.
//! It knows no provider and no plan.

mod files;
mod handshake;
mod listener;
mod session;

use crate::accounts::Accounts;
use crate::ctx::Ctx;
use listener::Listener;
use rouse_model::WorkerId;
use rouse_model::worker::{Link, Phase, Worker, WorkerEvent};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Each side says something at least so often.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A side that heard nothing for so long takes the connection for dead.
const QUIET: Duration = Duration::from_secs(20);
/// How often the loop looks by itself.
const TICK: Duration = Duration::from_secs(5);

/// Keeps listeners in step with the workers that are live, until told to stop.
pub async fn run(ctx: Arc<Ctx>, accounts: Arc<Accounts>, stop: CancellationToken) {
    let mut listeners: HashMap<WorkerId, Listener> = HashMap::new();
    let mut unknown = HashMap::new();
    forget_old_sessions(&ctx).await;
    loop {
        if let Err(error) = converge(&ctx, &accounts, &mut listeners, &stop).await {
            tracing::warn!(%error, "agents' listeners could not be brought in step; trying again");
        }
        if let Err(error) = close_unknown_sessions(&ctx, &mut unknown).await {
            tracing::debug!(%error, "sessions could not be compared with the record");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = ctx.nudges.agent_link.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Sessions of the process before this one are over: their workers are silent from now on, and the grace period runs.
async fn forget_old_sessions(ctx: &Ctx) {
    let workers = match ctx.store.live_workers().await {
        Ok(workers) => workers,
        Err(error) => {
            tracing::warn!(%error, "workers could not be read");
            return;
        }
    };
    for worker in workers.into_iter().filter(|w| w.master == ctx.me) {
        if let Link::Attached { session, .. } = &worker.link {
            let event = WorkerEvent::Detached { session: session.clone() };
            if let Err(error) =
                crate::workers::apply(ctx, worker.id, "worker.silent", &event, |_, _| {}).await
            {
                tracing::warn!(%error, worker = worker.name, "an old session could not be closed");
            }
        }
    }
}

/// A session's end that could not be recorded, as the database was away: without it the worker would count as attached for ever. One that has
/// just begun is on record before it is known here, so a session must be unknown twice, at least a tick apart.
async fn close_unknown_sessions(
    ctx: &Ctx,
    unknown: &mut HashMap<WorkerId, (String, Instant)>,
) -> Result<(), rouse_store::ReadError> {
    let live = ctx.store.live_workers().await?;
    let mut seen = HashMap::new();
    for worker in live.iter().filter(|w| w.master == ctx.me && !ctx.switchboard.is_attached(w.id)) {
        let Link::Attached { session, .. } = &worker.link else { continue };
        let since = match unknown.get(&worker.id) {
            Some((known, since)) if known == session => *since,
            _ => Instant::now(),
        };
        seen.insert(worker.id, (session.clone(), since));
        if since.elapsed() < TICK {
            continue;
        }
        let event = WorkerEvent::Detached { session: session.clone() };
        if let Err(error) = crate::workers::apply(ctx, worker.id, "worker.silent", &event, |_, _| {}).await {
            tracing::debug!(%error, worker = worker.name, "a session that is over could not be closed");
        }
    }
    *unknown = seen;
    Ok(())
}

async fn converge(
    ctx: &Arc<Ctx>,
    accounts: &Accounts,
    listeners: &mut HashMap<WorkerId, Listener>,
    stop: &CancellationToken,
) -> Result<(), rouse_store::ReadError> {
    let live = ctx.store.live_workers().await?;
    let wanted: HashSet<WorkerId> = live
        .iter()
        .filter(|w| w.master == ctx.me && !matches!(w.phase, Phase::Requested { .. }))
        .map(|w| w.id)
        .collect();
    listeners.retain(|id, listener| {
        if wanted.contains(id) && listener.is_found() {
            return true;
        }
        listener.stop.cancel();
        false
    });
    for worker in live.iter().filter(|w| wanted.contains(&w.id)) {
        if listeners.contains_key(&worker.id) {
            continue;
        }
        let Some(dir) = link_dir(ctx, accounts, worker).await else { continue };
        match listener::open(ctx, worker.id, &dir, stop.child_token()) {
            Ok(listener) => {
                listeners.insert(worker.id, listener);
            }
            // Its folder is not made yet, or already removed: the next look tells.
            Err(error) => tracing::debug!(%error, worker = worker.name, "no listener yet"),
        }
    }
    Ok(())
}

/// The folder of a worker's link, where it shares this host.
async fn link_dir(ctx: &Ctx, accounts: &Accounts, worker: &Worker) -> Option<PathBuf> {
    let made = async {
        let active = ctx.revisions.get(worker.config).await.map_err(|e| crate::supervisor::chain(&e))?;
        let account =
            accounts.get(&active.config, &worker.provider).map_err(|e| crate::supervisor::chain(&e))?;
        let tag = crate::keys::tag(ctx.store.facts(), worker);
        account.provider.link_dir(&tag).await.map_err(|e| crate::supervisor::chain(&e))
    };
    match made.await {
        Ok(dir) => dir,
        Err(error) => {
            tracing::debug!(error, worker = worker.name, "a worker's link folder cannot be had");
            None
        }
    }
}
