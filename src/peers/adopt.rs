//! What a dead master has left. Its workers, with the builds on them, go to this master where this one can reach them: agents come back to the
//! socket that they know, and the builds go on. Those of another host are given up, and their builds are retried by their policy.

use crate::accounts::Accounts;
use crate::ctx::{Ctx, Peer};
use rouse_model::build::Build;
use rouse_model::failure::FailureClass;
use rouse_model::master::Master;
use rouse_model::worker::{Cause, CauseCode, DEAD_MAN, Deadlines, Phase, Worker, WorkerEvent};
use rouse_store::{Batch, CommitError, ReadError};

#[derive(Debug, thiserror::Error)]
pub(super) enum AdoptError {
    #[error("read what it has left")]
    Read(#[from] ReadError),
    #[error("take over what it has left")]
    Commit(#[from] CommitError),
    #[error("give up a worker of another host")]
    Worker(#[from] crate::workers::WorkerError),
}

/// One look at all that the dead have left.
pub(super) async fn pass(ctx: &Ctx, accounts: &Accounts) {
    for peer in ctx.roles.peers().into_iter().filter(|peer| peer.is_dead) {
        if let Err(error) = take_over(ctx, accounts, &peer).await {
            tracing::warn!(
                master = peer.master.name,
                error = crate::supervisor::chain(&error),
                "a dead master's work is taken over later"
            );
        }
    }
}

/// One look at what one of them has left.
pub(super) async fn take_over(ctx: &Ctx, accounts: &Accounts, peer: &Peer) -> Result<(), AdoptError> {
    let gone = &peer.master;
    let workers: Vec<Worker> =
        ctx.store.live_workers().await?.into_iter().filter(|w| w.master == gone.id).collect();
    let builds: Vec<Build> =
        ctx.store.open_builds().await?.into_iter().filter(|b| b.master == gone.id).collect();
    if workers.is_empty() && builds.is_empty() {
        return Ok(());
    }
    // Before anything of it is touched: whatever it still tries to write is refused from now on.
    let Some(fenced) = ctx.store.fence_off(gone, ctx.now()).await? else { return Ok(()) };
    let mut taken = false;
    for worker in &workers {
        let of_worker = builds.iter().filter(|b| b.worker == Some(worker.id));
        if is_in_reach(ctx, accounts, worker, gone).await {
            taken |= adopt(ctx, &fenced, Some(worker), of_worker).await?;
        } else if peer.still >= Deadlines::default().grace {
            taken |= give_up(ctx, peer, &fenced, worker, of_worker).await?;
        }
    }
    // Lost between its worker's end and its own.
    let alone = |b: &&Build| b.worker.is_none_or(|id| workers.iter().all(|w| w.id != id));
    for build in builds.iter().filter(alone) {
        taken |= adopt(ctx, &fenced, None, std::iter::once(build)).await?;
    }
    if taken {
        ctx.nudges.all();
    }
    Ok(())
}

/// Whether this master can act on a worker as the dead one did.
async fn is_in_reach(ctx: &Ctx, accounts: &Accounts, worker: &Worker, gone: &Master) -> bool {
    // Nothing was made yet, and it can be made anywhere.
    if gone.machine == ctx.machine || matches!(worker.phase, Phase::Requested { .. }) {
        return true;
    }
    let Ok(active) = ctx.revisions.get(worker.config).await else { return true };
    // What cannot be reached now may be later: its driver tries.
    accounts
        .get(&active.config, &worker.provider)
        .map_or(true, |account| !account.provider.capabilities().host_bound)
}

/// Moves a worker and the builds on it here, all or nothing; false where somebody was faster.
async fn adopt(
    ctx: &Ctx,
    fenced: &Master,
    worker: Option<&Worker>,
    builds: impl Iterator<Item = &Build>,
) -> Result<bool, AdoptError> {
    let now = ctx.now();
    let mut batch = Batch::new("worker.adopt");
    batch.expect_master(fenced);
    if let Some(worker) = worker {
        let mut next = worker.adopted(ctx.me, now);
        for event in crate::workers::events_of(worker, &next, now) {
            batch.event(event);
        }
        batch.update(&mut next);
    }
    let mut ids = Vec::new();
    for build in builds {
        let mut build = Build { master: ctx.me, ..build.clone() };
        ids.push(build.id.0);
        batch.update(&mut build);
    }
    match ctx.store.commit(batch).await {
        Ok(()) => {
            let worker = worker.map(|w| w.name.as_str());
            tracing::info!(from = fenced.name, worker, builds = ?ids, "taken over");
            Ok(true)
        }
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A worker that only its own host can end: its builds are lost to it now, and come here. The row stays with its host, which ends it when a
/// master is there again; or until nothing can be left of it, as its agent has ended itself by then.
async fn give_up(
    ctx: &Ctx,
    peer: &Peer,
    fenced: &Master,
    worker: &Worker,
    builds: impl Iterator<Item = &Build>,
) -> Result<bool, AdoptError> {
    let message = format!("master {} is dead, and its host is out of reach", fenced.name);
    let cause = Cause::new(CauseCode::Died, Some(FailureClass::AgentLost), message);
    let event = WorkerEvent::InstanceDied { cause };
    let lost = crate::workers::apply(ctx, worker.id, "worker.lost", &event, |_, _| {}).await?;
    if peer.still >= DEAD_MAN + Deadlines::default().grace {
        for event in [WorkerEvent::TerminateIssued, WorkerEvent::AbsenceConfirmed] {
            crate::workers::apply(ctx, worker.id, "worker.gone", &event, |_, _| {}).await?;
        }
    }
    let builds: Vec<&Build> = builds.collect();
    Ok(if builds.is_empty() { lost.changed } else { adopt(ctx, fenced, None, builds.into_iter()).await? })
}
