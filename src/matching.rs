//! Pairs waiting requests with free slots of attached workers, in order of priority and age.
//!
//! The loop holds the role `matcher`; the judgement is [`rouse_model::matching`]. A pair becomes true in one commit: the request claimed, the
//! build's row, the slot's lease, and the worker's generation moved, so that nobody can end the worker under it unseen.

use crate::config::BuilderConfig;
use crate::ctx::{Active, Ctx};
use crate::requests::{needs, request_event};
use crate::specs;
use crate::switchboard::Matched;
use rouse_model::build::{Build, Lease};
use rouse_model::buildset::{Request, RequestState};
use rouse_model::config_revision::PlanRow;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::locks::{Ledger, has_all, of_workers};
use rouse_model::worker::Worker;
use rouse_model::{BuildId, Timestamp, WorkerId};
use rouse_store::{Batch, CommitError, ReadError};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(5);
/// How far down the queue one pass looks.
const WINDOW: i64 = 1_000;

/// Why a pass was cut short.
#[derive(Debug, thiserror::Error)]
enum MatchError {
    #[error("read the queue")]
    Read(#[from] ReadError),
    #[error("record a match")]
    Commit(#[from] CommitError),
    #[error("take the matcher's role")]
    Role(#[from] rouse_store::HoldError),
}

/// Matches until told to stop.
pub async fn run(ctx: Arc<Ctx>, stop: CancellationToken) {
    loop {
        let next = match pass(&ctx).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(
                    error = crate::supervisor::chain(&error),
                    "matching was cut short; trying again"
                );
                None
            }
        };
        let wait = next.map_or(TICK, |at| at.since(ctx.now()).clamp(Duration::from_millis(5), TICK));
        tokio::select! {
            () = stop.cancelled() => return,
            () = ctx.nudges.matching.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One pass; answers when the next request that waits for a moment can be looked at.
async fn pass(ctx: &Ctx) -> Result<Option<Timestamp>, MatchError> {
    let freed = ctx.switchboard.take_freed();
    let Some(role) = ctx.roles.hold("matcher", "").await? else { return Ok(None) };
    if freed.is_empty() && !ctx.store.has_queue().await? {
        return Ok(None);
    }
    let now = ctx.now();
    let mut slots = free_slots(ctx, freed, now).await?;
    // Mostly a few slots are free and the head of the queue fits them: all of the window is read where it does not.
    let head = i64::try_from(slots.len() * 2 + 4).unwrap_or(WINDOW).min(WINDOW);
    let mut soon = None;
    for window in [head, WINDOW] {
        if slots.is_empty() {
            break;
        }
        let queue = ctx.store.queue(window).await?;
        let all = i64::try_from(queue.len()).unwrap_or(WINDOW) < window;
        soon = queue.iter().filter_map(|r| r.waits_until(now)).min();
        match_queue(ctx, &role, queue, &mut slots, now).await?;
        if all {
            break;
        }
    }
    Ok(soon)
}

/// Takes a slot away for each request that has one, and makes these pairs true: those of one worker in turn, since each moves its generation, and
/// those of different workers at once, so that they share their way to the disk.
async fn match_queue(
    ctx: &Ctx,
    role: &rouse_store::RoleHeld,
    queue: Vec<Request>,
    slots: &mut Vec<(Worker, i64)>,
    now: Timestamp,
) -> Result<(), MatchError> {
    let active = ctx.config();
    // In one order, whoever looks: a simulated seed is the same one again.
    let mut pairs: BTreeMap<WorkerId, Vec<(Request, i64)>> = BTreeMap::new();
    let mut workers: BTreeMap<WorkerId, Worker> = BTreeMap::new();
    // Read where somebody needs a lock that is counted on workers.
    let mut ledger: Option<Ledger> = None;
    for mut request in queue {
        if request.waits_until(now).is_some() || request.cancel.is_some() {
            continue;
        }
        let Some(builder) = active.config.builders.get(request.builder.as_str()) else { continue };
        let needs = match builder.locks.is_empty() && request.locks.is_none() {
            true => Vec::new(),
            false => needs(&active.config, builder, request.branch.as_deref()),
        };
        // The fleet gives locks out, before anybody makes a worker; but those that are counted on workers.
        if !has_all(request.holds(), &needs) {
            continue;
        }
        let needs = of_workers(&needs);
        if !needs.is_empty() && ledger.is_none() {
            let holders = ctx.store.requests_with_locks().await?;
            ledger = Some(Ledger::of(holders.iter().flat_map(|r| r.holds().iter().map(|hold| (r.id, hold)))));
        }
        let mut blocked = None;
        let place = place_for(&active, builder, &request, slots, |worker| {
            let free = |ledger: &Ledger| ledger.try_all(&needs, request.trust, Some(worker.id)).is_ok();
            let free = ledger.as_ref().is_none_or(free);
            if !free {
                blocked.get_or_insert(worker.id);
            }
            free
        });
        let Some(place) = place else {
            if let (Some(ledger), Some(worker)) = (&mut ledger, blocked) {
                ledger.wait(request.id, &needs, Some(worker));
            }
            continue;
        };
        let (worker, slot) = slots.remove(place);
        if let Some(ledger) = ledger.as_mut().filter(|_| !needs.is_empty()) {
            let taken = ledger.take(request.id, &needs, Some(worker.id));
            request.locks.get_or_insert_default().extend(taken);
        }
        pairs.entry(worker.id).or_default().push((request, slot));
        workers.insert(worker.id, worker);
        if slots.is_empty() {
            break;
        }
    }
    let claims = workers.into_values().map(|worker| {
        let pairs = pairs.remove(&worker.id).unwrap_or_default();
        claim_in_turn(ctx, role, &active, worker, pairs)
    });
    futures::future::join_all(claims).await.into_iter().collect()
}

/// The pairs of one worker, as long as it takes work.
async fn claim_in_turn(
    ctx: &Ctx,
    role: &rouse_store::RoleHeld,
    active: &Active,
    mut worker: Worker,
    pairs: Vec<(Request, i64)>,
) -> Result<(), MatchError> {
    for (request, slot) in pairs {
        if !worker.takes_work(ctx.now()) {
            break;
        }
        match claim(ctx, role, active, request, worker.clone(), slot).await {
            Ok(Some(updated)) => worker = updated,
            Ok(None) => {}
            Err(MatchError::Commit(error)) if error.is_conflict() => {
                // Somebody changed the request or the worker: the next pass sees it.
                ctx.nudges.matching.notify_one();
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Free slots of attached workers, one entry for each: those of this master, whose sessions it sees, and those of other masters that are up, as
/// their rows say. A build's driver lives where its agent's session is. Those too that are free once what is on its way to the record is there.
async fn free_slots(ctx: &Ctx, freed: Vec<Worker>, now: Timestamp) -> Result<Vec<(Worker, i64)>, ReadError> {
    let mut workers = ctx.store.workers_with_room().await?;
    for worker in freed {
        if workers.iter().all(|known| known.id != worker.id) {
            workers.push(worker);
        }
    }
    let mut free = Vec::new();
    let is_attached = |worker: &Worker| {
        if worker.master == ctx.me {
            ctx.switchboard.is_attached(worker.id)
        } else {
            ctx.roles.is_living(worker.master)
        }
    };
    for worker in workers.into_iter().filter(|w| w.takes_work(now) && is_attached(w)) {
        if worker.slots == 1 {
            free.push((worker, 0));
            continue;
        }
        let taken = ctx.store.leases_of(worker.id).await?;
        for slot in (0..worker.slots).filter(|slot| taken.iter().all(|lease| lease.slot != *slot)) {
            free.push((worker.clone(), slot));
        }
    }
    in_turn(&mut free);
    Ok(free)
}

/// Those go first that build already, then those that became idle last: so the others are idle for longer, and end (`model::scaling` counts on it).
fn in_turn(free: &mut [(Worker, i64)]) {
    free.sort_by_key(|(worker, slot)| {
        (worker.idle_since.is_some(), Reverse(worker.idle_since), worker.id, *slot)
    });
}

/// The first slot whose worker is of the request's own class, in the order of its pools, and has the locks that are counted on it.
fn place_for(
    active: &Active,
    builder: &BuilderConfig,
    request: &Request,
    slots: &[(Worker, i64)],
    mut lets: impl FnMut(&Worker) -> bool,
) -> Option<usize> {
    for (pool, _) in specs::candidates(&active.config, builder, request) {
        let Some(digest) = request.provision.digests.get(pool) else { continue };
        let found = slots.iter().position(|(w, _)| {
            w.pool == pool
                && w.spec_digest == *digest
                && w.trust == request.trust
                && w.project == request.project
                && lets(w)
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Makes one pair true; answers the worker as it is then.
async fn claim(
    ctx: &Ctx,
    role: &rouse_store::RoleHeld,
    active: &Active,
    mut request: Request,
    mut worker: Worker,
    slot: i64,
) -> Result<Option<Worker>, MatchError> {
    let Some(builder) = active.config.builders.get(request.builder.as_str()) else { return Ok(None) };
    let now = ctx.now();
    let (plan, body) = builder.plan.address();
    let attempt = match request.build {
        None => 1,
        Some(_) => ctx.store.next_attempt(request.id).await?,
    };
    let id: BuildId = ctx.store.next_id().await?;
    let since = request.not_before.unwrap_or(request.created).max(request.created);
    let build = Build {
        id,
        request: request.id,
        buildset: request.buildset,
        builder: request.builder.clone(),
        project: request.project.clone(),
        attempt,
        worker: Some(worker.id),
        slot,
        master: worker.master,
        config: active.revision,
        plan: plan.clone(),
        trust: request.trust,
        summary: "preparing".into(),
        cancel: None,
        result: None,
        class: None,
        requested: request.created,
        provisioned_from: worker.requested.max(since).min(now),
        matched: now,
        running_from: None,
        waiting_from: None,
        finishing_from: None,
        finished: None,
        generation: 0,
    };
    request.state = RequestState::Claimed;
    request.build = Some(id);
    request.claimed_by = Some(worker.master);
    worker.builds_done += 1;
    worker.idle_since = None;
    let mut batch = Batch::new("build.claim");
    batch
        .expect_role(role)
        .update(&mut request)
        .update(&mut worker)
        .insert_or_ignore(&PlanRow { hash: plan, body })
        .insert(&build)
        .insert(&Lease { worker: worker.id, slot, build: id, since: now })
        .event(request_event(EventKind::RequestClaimed, &request, now))
        .event(NewEvent {
            kind: EventKind::BuildStarted,
            version: 1,
            subject: format!("build/{id}"),
            project: build.project.clone(),
            at: now,
            payload: serde_json::json!({
                "builder": build.builder, "request": build.request, "worker": worker.name, "attempt": build.attempt,
            }),
        });
    // The driver begins at once: its first turn comes true after this and not without it.
    let submitted = ctx.store.submit(batch).await?;
    if build.master == ctx.me {
        let plan = builder.plan.clone();
        ctx.switchboard.hand_over(Matched { build, plan, request, worker: worker.clone() });
        ctx.nudges.builds.notify_one();
    }
    submitted.committed().await?;
    ctx.metrics.matched(&worker.pool, now.since(since));
    Ok(Some(worker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::seed::worker;
    use rouse_model::worker::{Link, Phase, ProviderRef};

    #[test]
    fn who_became_idle_last_is_given_the_next_build() {
        let of = |id: i64, idle: Option<i64>| {
            let idle_since = idle.map(Timestamp::from_secs);
            Worker { idle_since, ..worker(id, Phase::Up { at: ProviderRef("p".into()) }, Link::Never) }
        };
        let mut free =
            vec![(of(1, Some(10)), 0), (of(2, None), 1), (of(3, Some(30)), 0), (of(4, Some(20)), 0)];
        in_turn(&mut free);
        let order: Vec<i64> = free.iter().map(|(worker, _)| worker.id.0).collect();
        assert_eq!(order, [2, 3, 4, 1], "the one that builds already has a free slot beside");
    }
}
