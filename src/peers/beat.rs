//! This master's own heartbeat, by which the others know that it is alive.

use crate::ctx::Ctx;
use rouse_model::master::Master;
use rouse_store::CommitError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(2);
/// A master that has not moved for so long is dead to the others.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// Moves this master's counter; a master that was fenced stops at once.
pub(crate) async fn beat(
    ctx: Arc<Ctx>,
    mut master: Master,
    fenced: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BEAT) => {}
        }
        match ctx.store.beat(&mut master).await {
            Ok(()) => {}
            Err(CommitError::Conflict { .. }) if is_still_ours(&ctx, &mut master).await => {}
            Err(error @ (CommitError::Fenced { .. } | CommitError::Conflict { .. })) => {
                tracing::error!(%error, "another master has taken this one's place; stopping");
                fenced.store(true, Ordering::Relaxed);
                stop.cancel();
                return;
            }
            Err(error) => {
                master.counter -= 1;
                tracing::debug!(error = crate::supervisor::chain(&error), "no heartbeat could be written");
                // Whoever cannot write cannot tell whether others could.
                continue;
            }
        }
        if let Err(error) = ctx.roles.observe().await {
            tracing::warn!(%error, "the other masters could not be looked at");
        }
    }
}

/// A beat that the database took and never answered has moved the counter under our own term: then we go on from there. Where the row cannot be
/// read, the next beat tells.
async fn is_still_ours(ctx: &Ctx, master: &mut Master) -> bool {
    let Ok(all) = ctx.store.masters().await else {
        master.counter -= 1;
        return true;
    };
    match all.into_iter().find(|row| row.id == master.id) {
        Some(row) if row.term == master.term && !row.stopped => {
            *master = row;
            true
        }
        _ => false,
    }
}
