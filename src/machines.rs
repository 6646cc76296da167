//! Enrolled machines on record: what happened to one, and what is left of its workers. A service for whoever lets them come and go.

use crate::ctx::Ctx;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::worker::Worker;
use rouse_store::{Batch, CommitError, ReadError};

/// The event of a machine, for its timeline: `enrolled`, `revoked`, `connected`, `away`, `refused`.
#[must_use]
pub fn event(ctx: &Ctx, account: &str, name: &str, what: &str, message: &str) -> NewEvent {
    NewEvent {
        kind: EventKind::Machine,
        version: 1,
        subject: format!("machine/{account}/{name}"),
        project: String::new(),
        at: ctx.now(),
        payload: serde_json::json!({"account": account, "name": name, "machine": what, "message": message}),
    }
}

/// Puts that on record.
///
/// # Errors
/// Where the store cannot be reached.
pub async fn tell(
    ctx: &Ctx,
    account: &str,
    name: &str,
    what: &str,
    message: &str,
) -> Result<(), CommitError> {
    let mut batch = Batch::new("machine.event");
    batch.event(event(ctx, account, name, what, message));
    ctx.store.commit(batch).await
}

/// Its workers that are not gone.
///
/// # Errors
/// Where the store cannot be reached.
pub async fn workers_on(ctx: &Ctx, account: &str, name: &str) -> Result<Vec<Worker>, ReadError> {
    let prefix = format!("{name}/");
    let is_there = |worker: &Worker| {
        worker.provider == account && worker.provider_ref().is_some_and(|at| at.0.starts_with(&prefix))
    };
    Ok(ctx.store.live_workers().await?.into_iter().filter(is_there).collect())
}
