//! Launches that failed, as the waiting requests see them: shown under each of their class, retried within the budget, and then the end of
//! the request with a build of result exception that carries them.

use super::{Fleet, FleetError};
use crate::config::BuilderConfig;
use rouse_contract::ProviderError;
use rouse_model::build::Build;
use rouse_model::buildset::{HeldBack, LONGEST_PAUSE, LaunchFailure, Request};
use rouse_model::config_revision::PlanRow;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::failure::FailureClass;
use rouse_model::plan::Plan;
use rouse_model::worker::Worker;
use rouse_model::{BuildId, BuildResult, Timestamp, WorkerId};
use rouse_store::Batch;
use std::time::Duration;

/// Failures kept with a request; older ones stand with their workers.
const KEPT: usize = 10;

/// A launch, or the way to it, failed for one request.
pub(super) async fn refused(
    fleet: &Fleet,
    builder: &BuilderConfig,
    request: &mut Request,
    pool: &str,
    worker: Option<WorkerId>,
    error: &ProviderError,
) -> Result<(), FleetError> {
    let failure = LaunchFailure {
        worker,
        pool: pool.to_owned(),
        class: error.class,
        message: crate::supervisor::chain(error),
        at: fleet.ctx.now(),
    };
    record(fleet, builder, request, failure, error.retry_after).await
}

/// A worker of a class could not be had: all queued requests that wait for that class see it.
pub(super) async fn of_worker(
    fleet: &Fleet,
    worker: &Worker,
    class: FailureClass,
    message: &str,
    again: Option<Duration>,
) -> Result<(), FleetError> {
    let active = fleet.ctx.config();
    for mut request in fleet.ctx.store.queue(super::WINDOW).await? {
        let same = request.provision.digests.get(&worker.pool) == Some(&worker.spec_digest)
            && request.trust == worker.trust
            && request.project == worker.project;
        if !same {
            continue;
        }
        let Some(builder) = active.config.builders.get(request.builder.as_str()) else { continue };
        let failure = LaunchFailure {
            worker: Some(worker.id),
            pool: worker.pool.clone(),
            class,
            message: message.to_owned(),
            at: fleet.ctx.now(),
        };
        record(fleet, builder, &mut request, failure, again).await?;
    }
    Ok(())
}

/// Notes with a request that no account of its pool has room, for whoever asks why it waits; whether that is news. It goes on waiting for a worker.
pub(super) fn holds_back(request: &mut Request, pool: &str, error: &ProviderError, now: Timestamp) -> bool {
    let known = request.provision.held.as_ref().is_some_and(|held| held.pool == pool && held.until > now);
    let Some(wait) = error.retry_after.filter(|_| !known) else { return false };
    let why = crate::supervisor::chain(error);
    request.provision.held = Some(HeldBack { pool: pool.to_owned(), why, until: now + wait });
    true
}

/// Writes that down, of all at once.
pub(super) async fn hold_back(fleet: &Fleet, requests: Vec<Request>) -> Result<(), FleetError> {
    if requests.is_empty() {
        return Ok(());
    }
    let now = fleet.ctx.now();
    let mut batch = Batch::new("request.held-back");
    for mut request in requests {
        batch.update(&mut request).event(crate::requests::request_event(
            EventKind::RequestChanged,
            &request,
            now,
        ));
    }
    match fleet.ctx.store.commit(batch).await {
        Ok(()) => Ok(()),
        // Somebody was faster with one of them: the next pass looks again.
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A request whose builder is no longer configured can never run.
pub(super) async fn without_builder(fleet: &Fleet, mut request: Request) -> Result<(), FleetError> {
    let message = format!("builder `{}` is not configured any more", request.builder);
    give_up(fleet, &Plan::default(), &mut request, FailureClass::User, message).await
}

async fn record(
    fleet: &Fleet,
    builder: &BuilderConfig,
    request: &mut Request,
    failure: LaunchFailure,
    retry_after: Option<Duration>,
) -> Result<(), FleetError> {
    let now = fleet.ctx.now();
    let class = failure.class;
    // Of an image it matters whose options name it.
    let message = match class {
        FailureClass::Image => format!("pool `{}`: {}", failure.pool, failure.message),
        _ => failure.message.clone(),
    };
    // An image that time may mend has as long as a launch.
    let left = retry_after.filter(|_| class == FailureClass::Image).map(|_| {
        let since = *request.provision.imageless_since.get_or_insert(now);
        patience(fleet, &failure.pool).saturating_sub(now.since(since))
    });
    let failed_before = i64::try_from(request.provision.failures.len()).unwrap_or(i64::MAX);
    request.provision.failures.push(failure);
    if request.provision.failures.len() > KEPT {
        request.provision.failures.remove(0);
    }
    // No room or no daemon is waited out; a boot that fails has a budget; what cannot be right the next time ends now.
    let budgeted = matches!(class, FailureClass::Boot | FailureClass::AgentLost | FailureClass::Preempted);
    if budgeted {
        request.attempts += 1;
    }
    let lasting = left.map_or(!class.is_transient(), |left| left.is_zero());
    if lasting || (budgeted && request.attempts > i64::from(builder.plan.retries)) {
        return give_up(fleet, &builder.plan, request, class, message).await;
    }
    let pause = retry_after.unwrap_or_else(|| Duration::from_secs(1 << failed_before.clamp(0, 6)));
    request.not_before = Some(now + pause.min(LONGEST_PAUSE).min(left.unwrap_or(LONGEST_PAUSE)));
    // Others may have them meanwhile.
    request.locks = None;
    let mut batch = Batch::new("request.launch-failed");
    batch.update(request).event(crate::requests::request_event(EventKind::RequestChanged, request, now));
    match fleet.ctx.store.commit(batch).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How long a pool's image may not be had before a request is given up.
fn patience(fleet: &Fleet, pool: &str) -> Duration {
    let active = fleet.ctx.config();
    let pool = active.config.pools.iter().find(|(name, _)| name.as_str() == pool);
    pool.map_or_else(|| crate::config::Deadlines::default().launch.0, |(_, pool)| pool.deadlines.launch.0)
}

/// Ends a request with a build of result exception that says why.
async fn give_up(
    fleet: &Fleet,
    plan: &Plan,
    request: &mut Request,
    class: FailureClass,
    message: String,
) -> Result<(), FleetError> {
    let ctx = &fleet.ctx;
    let now = ctx.now();
    let (hash, body) = plan.address();
    let id: BuildId = ctx.store.next_id().await?;
    let build = Build {
        id,
        request: request.id,
        buildset: request.buildset,
        builder: request.builder.clone(),
        project: request.project.clone(),
        attempt: ctx.store.next_attempt(request.id).await?,
        worker: None,
        slot: 0,
        master: ctx.me,
        config: ctx.config().revision,
        plan: hash.clone(),
        trust: request.trust,
        summary: message.clone(),
        cancel: None,
        result: Some(BuildResult::Exception),
        class: Some(class),
        requested: request.created,
        provisioned_from: request.created,
        matched: now,
        running_from: Some(now),
        waiting_from: None,
        finishing_from: Some(now),
        finished: Some(now),
        generation: 0,
    };
    request.build = Some(id);
    let mut batch = Batch::new("request.give-up");
    batch.insert_or_ignore(&PlanRow { hash, body }).insert(&build).event(NewEvent {
        kind: EventKind::BuildFinished,
        version: 1,
        subject: format!("build/{id}"),
        project: build.project.clone(),
        at: now,
        payload: serde_json::json!({
            "builder": build.builder, "request": build.request, "result": BuildResult::Exception, "summary": message,
            "class": class,
        }),
    });
    let closed =
        crate::requests::finish(&ctx.store, None, &mut batch, request, BuildResult::Exception, now).await?;
    match ctx.store.commit(batch).await {
        Ok(()) => {
            ctx.metrics.ended(&build);
            tracing::warn!(request = %request.id, builder = request.builder, reason = message, "a request was given up");
            closed.iter().for_each(|closed| closed.tell(ctx));
            Ok(())
        }
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
