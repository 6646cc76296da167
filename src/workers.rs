//! The compare-and-set loop round the model's worker transitions: read, decide, commit, and again where somebody was faster. A service
//! for all who have something to say about a worker; each transition stays the model's.

use crate::ctx::Ctx;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::worker::{Cause, CauseCode, Effect, Link, Phase, Transition, Wanted, Worker, WorkerEvent};
use rouse_model::{Timestamp, WorkerId};
use rouse_store::{Batch, CommitError, ReadError};

/// Why a worker could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("worker {0} is not on record")]
    Unknown(WorkerId),
    #[error("change worker {worker}: {reason}")]
    Conflict { worker: WorkerId, reason: &'static str },
    #[error("change worker {worker}: others were faster too often")]
    Contended { worker: WorkerId },
    #[error("read a worker")]
    Read(#[from] ReadError),
    #[error("change a worker")]
    Commit(#[from] CommitError),
}

/// What came of an event.
#[derive(Debug)]
pub struct Applied {
    pub worker: Worker,
    /// Empty where the worker was as wanted already.
    pub effects: Vec<Effect>,
    pub changed: bool,
}

const TRIES: usize = 50;

/// Applies an event; `also` may change further fields of the next value and add to the batch.
///
/// # Errors
/// Where the event contradicts the record, or the store cannot be reached.
pub async fn apply(
    ctx: &Ctx,
    id: WorkerId,
    name: &'static str,
    event: &WorkerEvent,
    also: impl FnMut(&mut Worker, &mut Batch),
) -> Result<Applied, WorkerError> {
    apply_for(ctx, id, name, event, None, also).await
}

/// The same, with whose wish it was and why, for the worker's timeline, where the worker itself does not keep that: a wish that takes another one back.
///
/// # Errors
/// As for [`apply`].
pub async fn apply_for(
    ctx: &Ctx,
    id: WorkerId,
    name: &'static str,
    event: &WorkerEvent,
    why: Option<&Cause>,
    mut also: impl FnMut(&mut Worker, &mut Batch),
) -> Result<Applied, WorkerError> {
    for _ in 0..TRIES {
        let worker = ctx.store.worker(id).await?.ok_or(WorkerError::Unknown(id))?;
        let now = ctx.now();
        let (mut next, effects) = match worker.on(event.clone(), now) {
            Transition::Applied { next, effects } => (*next, effects),
            Transition::AlreadySatisfied => return Ok(Applied { worker, effects: vec![], changed: false }),
            Transition::Conflict(reason) => return Err(WorkerError::Conflict { worker: id, reason }),
        };
        let mut batch = Batch::new(name);
        also(&mut next, &mut batch);
        batch.update(&mut next);
        for event in events_for(&worker, &next, why, now) {
            batch.event(event);
        }
        match ctx.store.commit(batch).await {
            Ok(()) => {
                ctx.switchboard.look_at_worker(id);
                if !is_of_its_driver(event) {
                    ctx.nudges.fleet.notify_one();
                }
                if next.is_steady() {
                    ctx.nudges.matching.notify_one();
                }
                return Ok(Applied { worker: next, effects, changed: true });
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(WorkerError::Contended { worker: id })
}

/// Whether it only says how far a worker's driver is: what the fleet may count on is the same as before.
fn is_of_its_driver(event: &WorkerEvent) -> bool {
    matches!(event, WorkerEvent::LaunchIssued { .. } | WorkerEvent::TerminateIssued)
}

/// Puts on record, in the worker's timeline, that something on its link was refused. It changes nothing of the worker.
///
/// # Errors
/// Where the store cannot be reached.
pub async fn alarm(ctx: &Ctx, id: WorkerId, message: String) -> Result<(), WorkerError> {
    let worker = ctx.store.worker(id).await?.ok_or(WorkerError::Unknown(id))?;
    let cause = Cause::new(CauseCode::Alarm, None, message);
    let payload = serde_json::json!({"link": "refused", "cause": cause});
    let mut batch = Batch::new("worker.alarm");
    batch.event(event(&worker, EventKind::WorkerLink, ctx.now(), payload));
    Ok(ctx.store.commit(batch).await?)
}

/// One event for each fact that changed.
#[must_use]
pub fn events_of(old: &Worker, new: &Worker, now: Timestamp) -> Vec<NewEvent> {
    events_for(old, new, None, now)
}

fn events_for(old: &Worker, new: &Worker, why: Option<&Cause>, now: Timestamp) -> Vec<NewEvent> {
    let mut events = Vec::new();
    if phase_word(&old.phase) != phase_word(&new.phase) {
        events.push(phase_event(new, now));
    }
    if link_word(&old.link) != link_word(&new.link) {
        events.push(event(
            new,
            EventKind::WorkerLink,
            now,
            serde_json::json!({"link": link_word(&new.link)}),
        ));
    }
    let prolonged = matches!(new.wanted, Wanted::Hold { .. }) && old.wanted != new.wanted;
    if wanted_word(&old.wanted) != wanted_word(&new.wanted) || prolonged {
        events.push(event(new, EventKind::WorkerWanted, now, wanted_payload(&new.wanted, why)));
    }
    events
}

fn wanted_payload(wanted: &Wanted, why: Option<&Cause>) -> serde_json::Value {
    let word = wanted_word(wanted);
    match wanted {
        Wanted::Drain { cause } | Wanted::End { cause } => {
            serde_json::json!({"wanted": word, "cause": cause})
        }
        Wanted::Hold { until, by } => {
            let cause = Cause::new(CauseCode::Operator, None, by.clone());
            serde_json::json!({"wanted": word, "cause": cause, "until": until})
        }
        Wanted::Run | Wanted::Park => serde_json::json!({"wanted": word, "cause": why}),
    }
}

/// The event of a worker's phase.
#[must_use]
pub fn phase_event(worker: &Worker, now: Timestamp) -> NewEvent {
    let cause = match &worker.phase {
        Phase::Terminating { cause, .. } | Phase::Gone { cause } => Some(cause),
        _ => None,
    };
    let payload = serde_json::json!({
        "name": worker.name, "pool": worker.pool, "phase": phase_word(&worker.phase), "cause": cause,
    });
    event(worker, EventKind::WorkerPhase, now, payload)
}

fn event(worker: &Worker, kind: EventKind, now: Timestamp, payload: serde_json::Value) -> NewEvent {
    NewEvent {
        kind,
        version: 1,
        subject: format!("worker/{}", worker.id),
        project: worker.project.clone(),
        at: now,
        payload,
    }
}

#[must_use]
pub fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Requested { .. } => "requested",
        Phase::Launching { .. } => "launching",
        Phase::Booting { .. } => "booting",
        Phase::Up { .. } => "up",
        Phase::Parking { .. } => "parking",
        Phase::Parked { .. } => "parked",
        Phase::Resuming { .. } => "resuming",
        Phase::Terminating { .. } => "terminating",
        Phase::Gone { .. } => "gone",
    }
}

#[must_use]
pub fn link_word(link: &Link) -> &'static str {
    match link {
        Link::Never => "never",
        Link::Attached { .. } => "attached",
        Link::Silent { .. } => "silent",
        Link::Lost { .. } => "lost",
    }
}

#[must_use]
pub fn wanted_word(wanted: &Wanted) -> &'static str {
    match wanted {
        Wanted::Run => "run",
        Wanted::Drain { .. } => "drain",
        Wanted::Hold { .. } => "hold",
        Wanted::Park => "park",
        Wanted::End { .. } => "end",
    }
}
