//! Enrolled machines on record: what happened to one, and what is left of its workers. A service for whoever lets them come and go.

use crate::ctx::Ctx;
use rouse_model::Timestamp;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::worker::{Cause, CauseCode, Phase, Wanted, Worker, WorkerEvent};
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

/// Ends the workers of a machine that was revoked then; how many are not gone, or may be there without anybody knowing it yet.
///
/// # Errors
/// Where the store cannot be reached.
pub async fn end_workers(
    ctx: &Ctx,
    account: &str,
    name: &str,
    revoked: Timestamp,
) -> Result<usize, ReadError> {
    let prefix = format!("{name}/");
    let mut there: Vec<Worker> = ctx.store.live_workers().await?;
    there.retain(|worker| worker.provider == account);
    // Which machine one was asked of is known once it has answered.
    let asked = |worker: &&Worker| {
        let unanswered =
            matches!(worker.phase, Phase::Launching { .. } | Phase::Terminating { at: None, .. });
        unanswered && worker.requested <= revoked
    };
    let asked = there.iter().filter(asked).count();
    there.retain(|worker| worker.provider_ref().is_some_and(|at| at.0.starts_with(&prefix)));
    for worker in there.iter().filter(|worker| !matches!(worker.wanted, Wanted::End { .. })) {
        let message = format!("its machine `{name}` of `{account}` was revoked");
        let end = WorkerEvent::End { cause: Cause::new(CauseCode::Operator, None, message) };
        // One that moved on meanwhile ends by what it moved on to.
        if let Err(error) = crate::workers::apply(ctx, worker.id, "machine.end", &end, |_, _| {}).await {
            tracing::warn!(
                worker = worker.name,
                error = crate::supervisor::chain(&error),
                "a worker of a revoked machine could not be ended"
            );
        }
    }
    Ok(there.len() + asked)
}
