//! Workers that lie stopped at their provider: how one comes there, how long it stays, and how it comes back.

use super::deadlines::{Moments, resume_within};
use super::driver::{CALM, LOOK, RETRY, Step, account, apply};
use super::inspecting::{died, inspect};
use super::{Fleet, FleetError, joining};
use crate::config::{Config, Park, Period};
use crate::supervisor::chain;
use crate::workers::{self, WorkerError};
use rouse_contract::{ObservedState, ProviderError, Turned};
use rouse_model::Timestamp;
use rouse_model::budget::Parking;
use rouse_model::failure::FailureClass;
use rouse_model::money::Price;
use rouse_model::worker::{Cause, CauseCode, Phase, ProviderRef, Wanted, Worker, WorkerEvent};
use rouse_store::Batch;
use std::sync::Arc;
use std::time::Duration;

/// How long a provider may need to stop one, with all tries.
const WITHIN: Duration = Duration::from_secs(600);
const AWAY: &str = "its provider does not have it any more";

/// One whose instance is at its provider, where that is asked to stop or to start it.
#[derive(Clone, Copy)]
pub(super) struct There<'a> {
    pub fleet: &'a Arc<Fleet>,
    pub worker: &'a Worker,
    pub at: &'a ProviderRef,
}

/// What a pool says of its parked workers now; where it says nothing of any, they cost nothing and stay no longer.
fn of_pool(config: &Config, pool: &str) -> Park {
    let pool = config.pools.iter().find(|(name, _)| name.as_str() == pool);
    let none = Park { keep: 0, price: None, length: Period(Duration::ZERO) };
    pool.and_then(|(_, pool)| pool.park).unwrap_or(none)
}

/// What an hour of a worker costs that lies parked; `None` where it does not.
pub(super) fn price(config: &Config, worker: &Worker) -> Option<Price> {
    let lies = matches!(worker.phase, Phase::Parked { .. });
    lies.then(|| of_pool(config, &worker.pool).cost().min(worker.price))
}

/// It is to be parked. From here on it can be given nothing to do; whoever wants it back before this is on record has it at once.
pub(super) async fn begin(fleet: &Arc<Fleet>, worker: &Worker) -> Result<Step, FleetError> {
    let event = match fleet.ctx.store.leases_of(worker.id).await?.is_empty() {
        true => WorkerEvent::ParkIssued,
        false => WorkerEvent::Resume,
    };
    fleet.decide(worker, "worker.park_issued", event).await?;
    Ok(Step::Again)
}

/// Asks its provider to stop it, until it is or cannot be.
pub(super) async fn stop(
    there: There<'_>,
    since: Timestamp,
    moments: &mut Moments,
) -> Result<Step, FleetError> {
    let There { fleet, worker, at } = there;
    let left = moments.until(since + WITHIN, fleet.ctx.now(), WITHIN);
    let parked = async { account(fleet, worker).await?.provider.park(at).await };
    match fleet.ctx.store.deed("provider.park", parked).await {
        Ok(Turned::Done) => {
            let rests = of_pool(&fleet.ctx.config().config, &worker.pool).cost();
            let spares = Price((worker.price.0 - rests.0).max(0));
            let note = |next: &mut Worker, batch: &mut Batch| {
                if let (Phase::Parked { since, .. }, true) = (&next.phase, spares > Price::NONE) {
                    let (worker, nth, since) = (next.id, next.resumes, *since);
                    batch.upsert(&Parking { worker, nth, since, until: None, spares });
                }
            };
            tell(fleet, worker, "worker.parked", WorkerEvent::ParkConfirmed, note).await?;
            Ok(Step::Again)
        }
        Ok(Turned::Absent) => lost(there, CauseCode::Died, AWAY.to_owned()).await,
        Err(error) if error.class.is_transient() && !left.is_zero() => {
            tracing::debug!(worker = worker.name, error = chain(&error), "a worker is parked later");
            Ok(Step::Wait(RETRY))
        }
        Err(error) => {
            let message = format!("it could not be parked: {}", chain(&error));
            let cause = Cause::new(CauseCode::ParkFailed, Some(error.class), message);
            apply(fleet, worker.id, "worker.park_failed", WorkerEvent::End { cause }).await?;
            Ok(Step::Again)
        }
    }
}

/// It lies until it is wanted, or its time is up.
pub(super) async fn lie(
    There { fleet, worker, at }: There<'_>,
    since: Timestamp,
    moments: &mut Moments,
) -> Result<Step, FleetError> {
    let now = fleet.ctx.now();
    if matches!(worker.wanted, Wanted::Run) {
        return rise(fleet, worker, now).await;
    }
    let length = of_pool(&fleet.ctx.config().config, &worker.pool).length.0;
    let over = moments.until(since + length, now, length);
    let cause = if now >= worker.expires {
        Cause::new(CauseCode::Age, None, "it reached its maximum age while it was parked")
    } else if over.is_zero() {
        let length = Period(length);
        Cause::new(CauseCode::Idle, None, format!("nothing wanted it in the {length} that it may be parked"))
    } else {
        if (fleet.is_suspected(worker.id) || moments.misses_it())
            && let Some(step) = inspect(fleet, worker, at, moments).await?
        {
            return Ok(step);
        }
        let most = if moments.misses_it() { LOOK } else { CALM };
        return Ok(Step::Wait(over.min(worker.expires.since(now)).min(most)));
    };
    // By the row that was read: whoever wants it since then has it.
    fleet.decide(worker, "worker.end", WorkerEvent::End { cause }).await?;
    Ok(Step::Again)
}

/// It is wanted again: from now on it costs what it did, and its agent has its time to come.
async fn rise(fleet: &Arc<Fleet>, worker: &Worker, now: Timestamp) -> Result<Step, FleetError> {
    let lay = fleet.ctx.store.parking(worker.id, worker.resumes).await?;
    let deadline = now + resume_within(fleet, worker);
    let note = |_: &mut Worker, batch: &mut Batch| {
        if let Some(lay) = lay {
            batch.upsert(&Parking { until: Some(fleet.ctx.now()), ..lay });
        }
    };
    tell(fleet, worker, "worker.resume_issued", WorkerEvent::ResumeIssued { deadline }, note).await?;
    Ok(Step::Again)
}

/// Asks its provider to start it again, and waits for its agent.
pub(super) async fn start(
    there: There<'_>,
    left: Duration,
    moments: &mut Moments,
) -> Result<Step, FleetError> {
    let There { fleet, worker, at } = there;
    if left.is_zero() {
        let message = "its agent did not come back in time when it was resumed".to_owned();
        return lost(there, CauseCode::ResumeFailed, message).await;
    }
    if moments.was_resumed(worker.resumes) {
        let suspected = fleet.is_suspected(worker.id) || moments.misses_it();
        if suspected && fell_back(there).await {
            moments.is_resumed(-1);
            return Ok(Step::Again);
        }
        if suspected && let Some(step) = inspect(fleet, worker, at, moments).await? {
            return Ok(step);
        }
        return Ok(Step::Wait(left.min(LOOK)));
    }
    let resumed = async {
        let account = account(fleet, worker).await?;
        match joining::item(fleet, worker, &account).await? {
            Ok(item) => account.provider.resume(at, &item).await,
            Err(reason) => Err(ProviderError::new(FailureClass::User, "resume", reason)),
        }
    };
    match fleet.ctx.store.deed("provider.resume", resumed).await {
        Ok(Turned::Done) => {
            moments.is_resumed(worker.resumes);
            // Only now is there something to open streams to.
            fleet.ctx.nudges.agent_link.notify_one();
            Ok(Step::Wait(left.min(LOOK)))
        }
        Ok(Turned::Absent) => lost(there, CauseCode::Died, AWAY.to_owned()).await,
        Err(error) if error.class.is_transient() => {
            tracing::debug!(worker = worker.name, error = chain(&error), "a worker is resumed later");
            Ok(Step::Wait(RETRY.min(left)))
        }
        Err(error) => {
            let message = format!("it could not be resumed: {}", chain(&error));
            lost(there, CauseCode::ResumeFailed, message).await
        }
    }
}

/// Whether one that was resumed lies again: what was asked before it came late.
async fn fell_back(There { fleet, worker, at }: There<'_>) -> bool {
    let seen = async { account(fleet, worker).await?.provider.inspect(at).await };
    matches!(seen.await, Ok(Some(seen)) if seen.state == ObservedState::Parked)
}

/// Nobody is there who could serve anybody.
async fn lost(
    There { fleet, worker, at }: There<'_>,
    code: CauseCode,
    message: String,
) -> Result<Step, FleetError> {
    died(fleet, worker, at, code, FailureClass::AgentLost, message).await
}

/// An event with what is to be written beside it. A conflict means only that somebody was faster.
async fn tell(
    fleet: &Fleet,
    worker: &Worker,
    name: &'static str,
    event: WorkerEvent,
    note: impl FnMut(&mut Worker, &mut Batch),
) -> Result<(), FleetError> {
    match workers::apply(&fleet.ctx, worker.id, name, &event, note).await {
        Ok(_) | Err(WorkerError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
