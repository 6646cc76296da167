//! One instance's driver: the only writer of its phase, from the wish to the confirmed end.

use super::deadlines::{Moments, attach_within, launch_within};
use super::inspecting::{died, inspect, with_console};
use super::{Fleet, FleetError, failures, joining, mirrors, parking};
use crate::accounts::Account;
use crate::switchboard::ToSession;
use crate::workers::{self, WorkerError};
use rouse_contract::{EndedBy, LaunchOutcome, LaunchSpec, ProviderError, Tag};
use rouse_model::WorkerId;
use rouse_model::failure::FailureClass;
use rouse_model::offering::Scarce;
use rouse_model::worker::{Cause, CauseCode, Link, Phase, ProviderRef, Wanted, Worker, WorkerEvent};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Between looks at an instance on its way.
pub(super) const LOOK: Duration = Duration::from_secs(10);
/// Between looks at one that needs nothing: whatever happens to it nudges its driver.
pub(super) const CALM: Duration = Duration::from_secs(60);
/// How long an agent may be silent before its builds are lost.
const GRACE: Duration = Duration::from_secs(60);
/// Between tries of a call that failed.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// What to do next.
pub(super) enum Step {
    /// Look again at once.
    Again,
    /// Something will nudge, or the time is up.
    Wait(Duration),
    Done,
}

/// Drives one worker until it is gone.
pub(super) async fn drive(fleet: &Arc<Fleet>, id: WorkerId, nudge: &Notify) {
    let mut moments = Moments::default();
    loop {
        // Boxed, so that thousands of drivers that wait take no room for a turn.
        let wait = match Box::pin(turn(fleet, id, &mut moments)).await {
            Ok(Step::Done) => return,
            Ok(Step::Again) => continue,
            Ok(Step::Wait(wait)) => wait,
            Err(error) => {
                tracing::warn!(worker = %id, error = crate::supervisor::chain(&error), "a worker's driver tries again");
                RETRY
            }
        };
        tokio::select! {
            () = nudge.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn turn(fleet: &Arc<Fleet>, id: WorkerId, moments: &mut Moments) -> Result<Step, FleetError> {
    let Some(worker) = fleet.ctx.store.worker(id).await? else { return Ok(Step::Done) };
    if let Wanted::End { .. } = worker.wanted {
        return end(fleet, &worker).await;
    }
    if let (Wanted::Drain { cause }, 0) = (&worker.wanted, fleet.ctx.store.leases_of(id).await?.len()) {
        // By the row that was read: whoever has taken the drain back since then, or has given it a build, wins.
        let event = WorkerEvent::End { cause: cause.clone() };
        fleet.decide(&worker, "worker.drained", event).await?;
        return Ok(Step::Again);
    }
    let there = |at| parking::There { fleet, worker: &worker, at };
    match &worker.phase {
        Phase::Requested { .. } => {
            let shelves = mirrors::for_worker(fleet, &worker).await;
            let deadline = fleet.ctx.now() + launch_within(fleet, &worker);
            let event = WorkerEvent::LaunchIssued { deadline };
            apply_with(fleet, id, "worker.launch", event, |next| mirrors::note(next, &shelves)).await?;
            Ok(Step::Again)
        }
        Phase::Launching { deadline, since, .. } => {
            let left = moments.until(*deadline, fleet.ctx.now(), deadline.since(*since));
            launch(fleet, &worker, left).await
        }
        Phase::Booting { deadline, at } => {
            let most = deadline.since(worker.accepted.unwrap_or(worker.requested));
            let left = moments.until(*deadline, fleet.ctx.now(), most);
            if left.is_zero() {
                let message = "its agent did not attach in time".to_owned();
                let step = died(fleet, &worker, at, CauseCode::Deadline, FailureClass::Boot, message).await;
                // The next one may have longer.
                fleet.learned.look_anew();
                return step;
            }
            if (fleet.is_suspected(id) || moments.misses_it())
                && let Some(step) = inspect(fleet, &worker, at, moments).await?
            {
                return Ok(step);
            }
            Ok(Step::Wait(left.min(LOOK)))
        }
        Phase::Up { at } => up(fleet, &worker, at, moments).await,
        Phase::Gone { .. } => Ok(Step::Done),
        Phase::Terminating { .. } => end(fleet, &worker).await,
        Phase::Parking { at, since } => parking::stop(there(at), *since, moments).await,
        Phase::Parked { at, since } => parking::lie(there(at), *since, moments).await,
        Phase::Resuming { at, since, deadline } => {
            let left = moments.until(*deadline, fleet.ctx.now(), deadline.since(*since));
            parking::start(there(at), left, moments).await
        }
    }
}

async fn up(
    fleet: &Arc<Fleet>,
    worker: &Worker,
    at: &ProviderRef,
    moments: &mut Moments,
) -> Result<Step, FleetError> {
    let now = fleet.ctx.now();
    let silent = matches!(worker.link, Link::Silent { .. });
    if (fleet.is_suspected(worker.id) || silent)
        && let Some(step) = inspect(fleet, worker, at, moments).await?
    {
        return Ok(step);
    }
    if let Link::Silent { since } = worker.link {
        let left = moments.until(since + GRACE, now, GRACE);
        if left.is_zero() {
            apply(fleet, worker.id, "worker.lost", WorkerEvent::GraceOver).await?;
            return Ok(Step::Again);
        }
        return Ok(Step::Wait(left.min(LOOK)));
    }
    if let Wanted::Park = worker.wanted {
        return parking::begin(fleet, worker).await;
    }
    if let Wanted::Hold { until, by } = &worker.wanted {
        let left = until.since(now);
        if left.is_zero() {
            return release(fleet, worker, by).await;
        }
        return Ok(Step::Wait(left.min(CALM)));
    }
    if now >= worker.expires && matches!(worker.wanted, Wanted::Run) {
        let cause = Cause::new(CauseCode::Age, None, "it reached its maximum age");
        fleet.decide(worker, "worker.drain", WorkerEvent::Drain { cause }).await?;
        return Ok(Step::Again);
    }
    Ok(Step::Wait(match worker.wanted {
        Wanted::Run => worker.expires.since(now).min(CALM),
        _ => LOOK,
    }))
}

/// A hold is over by itself; what the pool makes of its worker then is the scaler's affair.
async fn release(fleet: &Fleet, worker: &Worker, by: &str) -> Result<Step, FleetError> {
    let message = format!("its time is over, of the hold by {by}");
    let cause = Cause::new(CauseCode::Operator, None, message);
    let event = WorkerEvent::Release;
    workers::apply_for(&fleet.ctx, worker.id, "worker.release", &event, Some(&cause), |_, _| {}).await?;
    Ok(Step::Again)
}

pub(super) async fn account(fleet: &Fleet, worker: &Worker) -> Result<Account, ProviderError> {
    let failed = |e: &dyn std::error::Error| {
        ProviderError::new(FailureClass::Master, "find the worker's provider", crate::supervisor::chain(e))
    };
    let active = fleet.ctx.revisions.get(worker.config).await.map_err(|e| failed(&e))?;
    fleet.accounts.get(&active.config, &worker.provider)
}

async fn launch(fleet: &Arc<Fleet>, worker: &Worker, left: Duration) -> Result<Step, FleetError> {
    let call = {
        let (fleet, worker) = (Arc::clone(fleet), worker.clone());
        async move { try_launch(&fleet, &worker).await }
    };
    let outcome = match fleet.accounts.to_its_end(call).await.unwrap_or_else(broke_off) {
        Ok(outcome) => outcome,
        Err(error) if error.class.is_transient() => {
            LaunchOutcome::Unknown { reason: crate::supervisor::chain(&error) }
        }
        Err(error) => LaunchOutcome::Invalid { class: error.class, reason: crate::supervisor::chain(&error) },
    };
    let mut again = None;
    let (class, message, console) = match outcome {
        LaunchOutcome::Accepted { at } => {
            let attach_deadline = fleet.ctx.now() + attach_within(fleet, worker);
            fleet.note_warm(worker);
            fleet.write_offerings().await;
            apply(fleet, worker.id, "worker.accepted", WorkerEvent::Accepted { at, attach_deadline }).await?;
            fleet.ctx.metrics.launched(&worker.pool, None);
            // Only now is there something to open streams to.
            fleet.ctx.nudges.agent_link.notify_one();
            return Ok(Step::Again);
        }
        LaunchOutcome::Pending => return Ok(Step::Wait(RETRY)),
        // It goes on waiting for its turn; nothing is wrong with it.
        LaunchOutcome::Throttled { retry_after } if !left.is_zero() => {
            return Ok(Step::Wait(retry_after.min(left)));
        }
        // The token makes asking again safe: it is the very lookup.
        LaunchOutcome::Unknown { reason } => {
            if !left.is_zero() {
                tracing::debug!(
                    worker = worker.name,
                    reason,
                    "the outcome of a launch is unknown; asking again"
                );
                return Ok(Step::Wait(RETRY));
            }
            (FailureClass::Boot, format!("the launch was not answered in time: {reason}"), None)
        }
        LaunchOutcome::Quota { scope, retry_after } => {
            return give_back(fleet, worker, Scarce::Quota(scope), Some(retry_after)).await;
        }
        LaunchOutcome::NoCapacity { offering } => {
            return give_back(fleet, worker, Scarce::Offering(offering), None).await;
        }
        LaunchOutcome::Throttled { .. } => (
            FailureClass::Throttle,
            "the provider is asked too much, and did not come to it".to_owned(),
            None,
        ),
        LaunchOutcome::NoImage { image, reason, retry_after } => {
            let error = ProviderError::new(FailureClass::Image, "launch a worker", reason.clone());
            again = Some(fleet.image_failed(worker, &image, error.retry_after(retry_after)));
            (FailureClass::Image, reason, None)
        }
        LaunchOutcome::Invalid { class, reason } => (class, reason, None),
        LaunchOutcome::Died { reason, by: EndedBy::Preemption, console, .. } => {
            (FailureClass::Preempted, reason, console)
        }
        LaunchOutcome::Died { reason, console, .. } => (FailureClass::Boot, reason, console),
    };
    let cause = Cause::new(CauseCode::LaunchRefused, Some(class), message.clone());
    let shown = with_console(&message, console.as_deref());
    // What may have been made meanwhile is taken away before the row says that it is gone.
    let event = WorkerEvent::End { cause };
    workers::apply(&fleet.ctx, worker.id, "worker.refused", &event, |next, _| {
        next.console.clone_from(&console)
    })
    .await?;
    fleet.ctx.metrics.launched(&worker.pool, Some(class));
    failures::of_worker(fleet, worker, class, &shown, again).await?;
    Ok(Step::Again)
}

/// There is no room for it now. Whoever waits for it goes on waiting, perhaps for another account, and is not charged.
async fn give_back(
    fleet: &Arc<Fleet>,
    worker: &Worker,
    what: Scarce,
    after: Option<Duration>,
) -> Result<Step, FleetError> {
    let ProviderError { class, message, .. } = fleet.offering_refused(worker, what, after);
    fleet.write_offerings().await;
    let cause = Cause::new(CauseCode::LaunchRefused, Some(class), message);
    apply(fleet, worker.id, "worker.refused", WorkerEvent::End { cause }).await?;
    fleet.ctx.metrics.launched(&worker.pool, Some(class));
    Ok(Step::Again)
}

fn broke_off() -> Result<LaunchOutcome, ProviderError> {
    Ok(LaunchOutcome::Unknown { reason: "the call broke off".into() })
}

async fn try_launch(fleet: &Arc<Fleet>, worker: &Worker) -> Result<LaunchOutcome, ProviderError> {
    let account = account(fleet, worker).await?;
    let broken = |what: &str, why: String| ProviderError::new(FailureClass::Master, what.to_owned(), why);
    let mut spec: LaunchSpec = serde_json::from_str(&worker.spec)
        .map_err(|e| broken("read the worker's launch spec", e.to_string()))?;
    // As they are now: a login may have changed since the worker was wished for.
    spec.secrets = crate::secrets::keyring(fleet.ctx.config(), &worker.project);
    if let Some(tree) = &mut spec.tree {
        tree.reader = super::trees::reader(Arc::clone(&fleet.ctx));
    }
    let item = match joining::item(fleet, worker, &account).await? {
        Ok(item) => item,
        // Asking again would change nothing.
        Err(reason) => return Ok(LaunchOutcome::Invalid { class: FailureClass::Master, reason }),
    };
    let launch = account.provider.launch(&spec, std::slice::from_ref(&item));
    let mut outcomes = fleet.ctx.store.deed("provider.launch", launch).await;
    outcomes.pop().ok_or_else(|| broken("launch", "the provider gave no answer".into()))
}

/// Ends an instance: says it to the agent, asks the provider until it confirms, then closes the record.
async fn end(fleet: &Arc<Fleet>, worker: &Worker) -> Result<Step, FleetError> {
    if matches!(worker.phase, Phase::Gone { .. }) {
        return Ok(Step::Done);
    }
    let Wanted::End { cause } = &worker.wanted else { return Ok(Step::Wait(LOOK)) };
    if !matches!(worker.phase, Phase::Terminating { .. }) {
        fleet.ctx.switchboard.to_session(worker.id, ToSession::End { reason: cause.message.clone() });
        apply(fleet, worker.id, "worker.terminate", WorkerEvent::TerminateIssued).await?;
        return Ok(Step::Again);
    }
    let gone = match account(fleet, worker).await {
        Ok(account) => {
            let tag = crate::keys::tag(fleet.ctx.store.facts(), worker);
            fleet.ctx.store.deed("provider.terminate", take_away(&account, worker, &tag)).await
        }
        Err(error) => Err(error),
    };
    match gone {
        Ok(()) => {
            apply(fleet, worker.id, "worker.gone", WorkerEvent::AbsenceConfirmed).await?;
            fleet.offering_freed(worker);
            fleet.ctx.nudges.agent_link.notify_one();
            fleet.ctx.nudges.matching.notify_one();
            Ok(Step::Done)
        }
        Err(error) => {
            tracing::warn!(
                worker = worker.name,
                error = crate::supervisor::chain(&error),
                "a worker could not be ended yet"
            );
            Ok(Step::Wait(RETRY))
        }
    }
}

/// By its reference, or, where its launch was never answered, by its token in the list.
async fn take_away(account: &Account, worker: &Worker, tag: &Tag) -> Result<(), ProviderError> {
    if let Some(at) = worker.provider_ref() {
        return account.provider.terminate(at).await;
    }
    let of_worker = account
        .provider
        .list()
        .await?
        .into_iter()
        .filter(|o| o.tag.as_ref().is_some_and(|t| t.token == tag.token));
    for seen in of_worker {
        account.provider.terminate(&seen.at).await?;
    }
    Ok(())
}

/// An event whose conflict means only that somebody was faster.
pub(super) async fn apply(
    fleet: &Fleet,
    id: WorkerId,
    name: &'static str,
    event: WorkerEvent,
) -> Result<(), FleetError> {
    apply_with(fleet, id, name, event, |_| {}).await
}

/// The same, with more to write down of the worker.
async fn apply_with(
    fleet: &Fleet,
    id: WorkerId,
    name: &'static str,
    event: WorkerEvent,
    also: impl Fn(&mut Worker),
) -> Result<(), FleetError> {
    match workers::apply(&fleet.ctx, id, name, &event, |next, _| also(next)).await {
        Ok(_) => Ok(()),
        Err(WorkerError::Conflict { reason, .. }) => {
            tracing::debug!(worker = %id, batch = name, reason, "a worker had moved on");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
