//! The server side of the agent link: a door for each live worker of this master, a session for each connection.
//!
//! A worker on this host has a socket in a folder of its own, so that it can never speak through another's; those of pools that are advertised
//! come by one listener with TLS; to all others this master opens streams by the way on which their provider is reached. The loop makes the doors that should be there and closes the others; sessions write what agents say (attached, silent) and hand outcomes to the builds' drivers.
//! It knows no provider and no plan.

mod doors;
mod files;
mod guard;
mod handshake;
mod listener;
mod machines;
mod opened;
mod session;
mod tls;

use crate::accounts::Accounts;
use crate::ctx::Ctx;
use doors::{Doors, Entry};
use listener::Listener;
use rouse_agent_protocol::{CommandId, OPENED_NAME};
use rouse_model::worker::{Link, Worker, WorkerEvent};
use rouse_model::{BuildId, LogId, StepId, WorkerId};
use rouse_store::{ReadError, Store};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tls::Certificate;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Each side says something at least so often.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A side that heard nothing for so long takes the connection for dead.
const QUIET: Duration = Duration::from_secs(20);
/// How long sessions may take to say goodbye when the master stops.
const GOODBYE: Duration = Duration::from_secs(3);
/// Between two looks at most, where they take long.
const REST: Duration = Duration::from_millis(500);
/// How often the loop looks by itself.
const TICK: Duration = Duration::from_secs(5);

/// Keeps listeners in step with the workers that are live, until told to stop. `agents` is for those that come by TLS.
pub async fn run(
    ctx: Arc<Ctx>,
    accounts: Arc<Accounts>,
    agents: Option<TcpListener>,
    stop: CancellationToken,
) {
    let doors = Arc::new(Doors::new(stop.clone()));
    let certificate = Arc::new(Certificate::default());
    // Of a name that no listener has.
    let of_streams = Arc::new(Certificate::default());
    let mut listeners: HashMap<WorkerId, Listener> = HashMap::new();
    let mut unknown = HashMap::new();
    forget_old_sessions(&ctx).await;
    let mut agents = agents;
    loop {
        let began = tokio::time::Instant::now();
        match converge(&ctx, &accounts, &mut listeners, &doors, &certificate, &of_streams, &stop).await {
            Ok(live) => {
                close_unknown_sessions(&ctx, &live, &mut unknown).await;
                // Not before it knows whom to expect.
                if let Some(listener) = agents.take() {
                    let entry = Entry::Any {
                        ctx: Arc::clone(&ctx),
                        accounts: Arc::clone(&accounts),
                        doors: Arc::clone(&doors),
                    };
                    tls::serve(entry, listener, Arc::clone(&certificate), stop.clone());
                }
            }
            Err(error) => {
                tracing::warn!(%error, "agents' listeners could not be brought in step; trying again");
            }
        }
        // Each launch asks for a look at all; a long one is not begun again at once.
        let rest = (began.elapsed() * 3).min(REST);
        tokio::select! {
            () = stop.cancelled() => break,
            () = async {
                tokio::time::sleep(rest).await;
                let _ = tokio::time::timeout(TICK, ctx.nudges.agent_link.notified()).await;
            } => {}
        }
    }
    // Each session says goodbye: its agent then knows that it is to wait, and for whom.
    let patience = tokio::time::Instant::now() + GOODBYE;
    while ctx.switchboard.sessions() > 0 && tokio::time::Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
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
    live: &[Worker],
    unknown: &mut HashMap<WorkerId, (String, Instant)>,
) {
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
}

/// Answers the workers that it saw live.
async fn converge(
    ctx: &Arc<Ctx>,
    accounts: &Accounts,
    listeners: &mut HashMap<WorkerId, Listener>,
    doors: &Doors,
    certificate: &Certificate,
    of_streams: &Arc<Certificate>,
    stop: &CancellationToken,
) -> Result<Vec<Worker>, rouse_store::ReadError> {
    // A door that opens while the store is read is for a worker that the reading may not show.
    let seen = doors.all();
    let live = ctx.store.live_workers().await?;
    let ours: Vec<&Worker> = live.iter().filter(|w| doors::is_ours(ctx, w)).collect();
    let wanted: HashSet<WorkerId> = ours.iter().map(|w| w.id).collect();
    doors.close_all_but(&wanted, &seen);
    listeners.retain(|id, listener| {
        if wanted.contains(id) && listener.is_found() {
            return true;
        }
        listener.stop.cancel();
        false
    });
    if ctx.agents.is_some() {
        let names = names(ctx, &ours).await;
        if let Err(error) = certificate.keep(&ctx.authority, names, ctx.now()) {
            tracing::error!(
                error = crate::supervisor::chain(&error),
                "agents cannot come by TLS, or only as before"
            );
        }
    }
    for worker in ours {
        if listeners.contains_key(&worker.id) || comes_by_tls(ctx, worker).await {
            continue;
        }
        let opened = match way(ctx, accounts, worker).await {
            Ok(Way::Folder(dir)) => {
                let (_, guard) = doors.open(worker.id);
                listener::open(ctx, worker.id, &dir, stop.child_token(), guard)
                    // Its folder is not made yet, or already removed: the next look tells.
                    .map_err(|error| error.to_string())
            }
            Ok(Way::Streams(to)) => {
                let names = BTreeSet::from([OPENED_NAME.to_owned()]);
                of_streams
                    .keep(&ctx.authority, names, ctx.now())
                    .map_err(|e| crate::supervisor::chain(&e))
                    .map(|()| {
                        let (stop, (_, guard)) = (stop.child_token(), doors.open(worker.id));
                        opened::serve(ctx, to, of_streams, &stop, guard);
                        Listener::of_streams(stop)
                    })
            }
            Ok(Way::None) => continue,
            Err(error) => Err(error),
        };
        match opened {
            Ok(listener) => {
                listeners.insert(worker.id, listener);
            }
            Err(error) => tracing::debug!(error, worker = worker.name, "no listener yet"),
        }
    }
    Ok(live)
}

/// The hosts that agents know this master by: those that are advertised, and those that live workers were told earlier.
async fn names(ctx: &Ctx, ours: &[&Worker]) -> BTreeSet<String> {
    let active = ctx.config();
    let advertised = active.config.server.agents.advertise.values();
    let mut names: BTreeSet<String> = advertised.map(|address| address.host().to_owned()).collect();
    let told: HashSet<_> = ours.iter().map(|worker| (worker.config, worker.pool.as_str())).collect();
    for (config, pool) in told {
        if config != active.revision
            && let Ok(older) = ctx.revisions.get(config).await
        {
            names.extend(older.config.server.agents.address(pool).map(|address| address.host().to_owned()));
        }
    }
    names
}

/// By what its join document says, which the revision said that it was launched under.
async fn comes_by_tls(ctx: &Ctx, worker: &Worker) -> bool {
    let told = ctx.revisions.get(worker.config).await;
    told.is_ok_and(|told| told.config.server.agents.address(&worker.pool).is_some())
}

/// How a worker's agent and this master come together, where it does not come by TLS.
enum Way {
    /// It shares this host: by a socket in this folder.
    Folder(PathBuf),
    /// By streams that this master opens.
    Streams(opened::To),
    /// There is nothing yet to open streams to, or no way.
    None,
}

async fn way(ctx: &Ctx, accounts: &Accounts, worker: &Worker) -> Result<Way, String> {
    let active = ctx.revisions.get(worker.config).await.map_err(|e| crate::supervisor::chain(&e))?;
    let account = accounts.get(&active.config, &worker.provider).map_err(|e| crate::supervisor::chain(&e))?;
    let tag = crate::keys::tag(ctx.store.facts(), worker);
    let dir = account.provider.link_dir(&tag).await.map_err(|e| crate::supervisor::chain(&e))?;
    Ok(match (dir, worker.provider_ref()) {
        (Some(dir), _) => Way::Folder(dir),
        (None, Some(at)) if account.provider.streams().is_some() => {
            let (at, socket) = (at.clone(), crate::keys::opened_socket(&tag));
            Way::Streams(opened::To { worker: worker.id, account, at, socket })
        }
        (None, _) => Way::None,
    })
}

/// The folder of a worker's link, where it shares this host.
async fn link_dir(ctx: &Ctx, accounts: &Accounts, worker: &Worker) -> Option<PathBuf> {
    match way(ctx, accounts, worker).await {
        Ok(Way::Folder(dir)) => Some(dir),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(error, worker = worker.name, "a worker's link folder cannot be had");
            None
        }
    }
}

/// The logs of the files that commands have followed, each with its command: those of its step that are not sealed, as no two commands of a
/// step write at a time.
async fn files_of(
    store: &Store,
    commands: &[(CommandId, BuildId, StepId)],
) -> Result<Vec<(LogId, CommandId)>, ReadError> {
    let mut found = Vec::new();
    for (command, build, step) in commands {
        let logs = store.logs_of(*build).await?;
        found
            .extend(logs.iter().filter(|log| log.step == *step && !log.sealed).map(|log| (log.id, *command)));
    }
    Ok(found)
}
