//! Demand into launches, and idleness into ends: the loop that makes the fleet what the queue needs.
//!
//! How many is decided by [`rouse_model::scaling`]; what a tag means is asked of the provider once for each buildset; each instance has
//! one driver task, the only writer of its phase. The reaper compares what providers have with what is on record.

mod ahead;
mod breakers;
mod budgets;
mod choosing;
mod deadlines;
mod decided;
mod driver;
mod failures;
mod inspecting;
mod joining;
mod kept;
mod learned;
mod locking;
mod measured;
mod mirrors;
mod parking;
mod placing;
mod provisioning;
mod reaper;
mod reckoned;
mod resolving;
mod retiring;
mod sizing;
#[cfg(test)]
mod tests;
mod trees;

use crate::accounts::Accounts;
use crate::budgets::Ledger;
use crate::config::Period;
use crate::ctx::Ctx;
use crate::placing::Taken;
use ahead::Expected;
use breakers::{Breakers, Offerings};
use decided::Decided;
use learned::Learned;
use locking::Gate;
use mirrors::Mirrors;
use placing::Warm;
use provisioning::{Specs, Unsettled};
use resolving::Answers;
use rouse_model::buildset::Request;
use rouse_model::scaling::Reason;
use rouse_model::worker::{Cause, CauseCode, Worker};
use rouse_model::{DecisionId, Timestamp, WorkerId};
use sizing::{Filled, InUse, Seen};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(1);
/// Between two passes, for each request that waits: so a long queue, which each end of a build has counted anew, takes a small share of a processor.
const REST: Duration = Duration::from_micros(300);
/// So many workers are looked at in the time of one request.
const WORKERS_FOR_A_REQUEST: usize = 8;
const LEAST_REST: Duration = Duration::from_millis(5);
/// How far down the queue demand is counted.
const WINDOW: i64 = 1_000;

/// Why a pass was cut short.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    #[error("read the fleet's state")]
    Read(#[from] rouse_store::ReadError),
    #[error("record a decision of the fleet")]
    Commit(#[from] rouse_store::CommitError),
    #[error("take the fleet's role")]
    Role(#[from] rouse_store::HoldError),
    #[error("change a worker")]
    Worker(#[from] crate::workers::WorkerError),
}

/// The fleet's own memory: nothing that could not be found again.
#[derive(Debug)]
pub struct Fleet {
    pub(crate) ctx: Arc<Ctx>,
    pub(crate) accounts: Arc<Accounts>,
    specs: Specs,
    unsettled: Unsettled,
    answers: Answers,
    warm: Warm,
    breakers: Breakers,
    offerings: Offerings,
    mirrors: Mirrors,
    learned: Learned,
    decided: Decided,
    ledger: Ledger,
    /// As it was announced last.
    expected: Mutex<Vec<Expected>>,
    /// A pass has it from its beginning to its end.
    known: tokio::sync::Mutex<Known>,
    driven: Mutex<HashMap<WorkerId, Driven>>,
    /// Workers that a provider's hint or a list spoke of: their drivers ask the provider itself.
    suspected: Mutex<HashSet<WorkerId>>,
}

/// What the last pass has read: the next one reads what has changed. Thousands of workers at rest are not read each second.
#[derive(Debug, Default)]
struct Known {
    workers: Vec<Worker>,
    queue: Vec<Request>,
}

/// A driver that runs, and which state of its worker it was last woken for.
#[derive(Debug)]
struct Driven {
    nudge: Arc<tokio::sync::Notify>,
    generation: i64,
}

impl Fleet {
    #[must_use]
    pub fn new(ctx: Arc<Ctx>, accounts: Arc<Accounts>) -> Self {
        let mirrors = Mirrors::in_folder(&ctx.state);
        Self {
            ctx,
            accounts,
            mirrors,
            specs: Specs::default(),
            unsettled: Unsettled::default(),
            answers: Answers::default(),
            warm: Warm::default(),
            breakers: Breakers::default(),
            offerings: Offerings::default(),
            learned: Learned::default(),
            decided: Decided::default(),
            ledger: Ledger::default(),
            expected: Mutex::default(),
            known: tokio::sync::Mutex::default(),
            driven: Mutex::default(),
            suspected: Mutex::default(),
        }
    }

    /// Converges until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let reaper = Arc::clone(&self);
        let reaper_stop = stop.clone();
        crate::supervisor::spawn("reaper", async move { reaper::run(reaper, reaper_stop).await });
        crate::supervisor::spawn("mirrors", mirrors::run(Arc::clone(&self), stop.clone()));
        crate::supervisor::spawn("ahead", ahead::run(Arc::clone(&self), stop.clone()));
        loop {
            let waiting = match self.pass(&stop).await {
                Ok(waiting) => waiting,
                Err(error) => {
                    tracing::warn!(
                        error = crate::supervisor::chain(&error),
                        "the fleet's pass was cut short; trying again"
                    );
                    0
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.rest(waiting) => {}
            }
        }
    }

    /// Until somebody asks for the next pass, or it is due.
    async fn rest(&self, waiting: u32) {
        tokio::time::sleep((REST * waiting).max(LEAST_REST)).await;
        let _ = tokio::time::timeout(TICK, self.ctx.nudges.fleet.notified()).await;
    }

    /// Answers how many requests it has looked at, or what took as long.
    async fn pass(self: &Arc<Self>, stop: &CancellationToken) -> Result<u32, FleetError> {
        let ctx = &self.ctx;
        ctx.metrics.breakers(self.breakers.open(), self.offerings.open());
        // Before a driver asks how long it may wait.
        self.learn_boots().await?;
        let mut known = self.known.lock().await;
        let Known { workers, queue } = &mut *known;
        *workers = ctx.store.live_workers_anew(std::mem::take(workers)).await?;
        let workers = &*workers;
        // Supply before demand: a request that is matched in between is missed as demand, and its worker's change of generation is seen. The
        // other way round it would be launched for once more.
        let leases = ctx.store.leases().await?;
        let waiting_builds = ctx.store.waiting_builds().await?;
        for worker in workers.iter().filter(|w| w.master == ctx.me) {
            self.ensure_driver(worker, stop);
        }
        let Some(role) = ctx.roles.hold("fleet", "").await? else {
            ctx.metrics.fleet_saw(None);
            self.decided.forget();
            self.offerings.read_anew();
            return Ok(0);
        };
        self.read_offerings().await?;
        let active = ctx.config();
        let now = ctx.now();
        let arrived = ctx.coming.arrived();
        *queue = ctx.store.queue_anew(WINDOW, std::mem::take(queue)).await?;
        // A worker is quicker looked at than a request; there may be thousands.
        let length = u32::try_from(queue.len() + workers.len() / WORKERS_FOR_A_REQUEST).unwrap_or(u32::MAX);
        self.end_cancelled(queue, now).await?;
        self.end_unapproved(now).await?;
        let is_waiting = |r: &&Request| r.cancel.is_none() && r.waits_until(now).is_none();
        let waiting: Vec<Request> = queue.iter().filter(is_waiting).cloned().collect();
        self.end_what_is_not_wanted(&active, workers, &leases).await?;
        let gate = Gate::of(ctx, &role, &active.config, &waiting, workers, &leases).await?;
        let budgets = self.budgets(&active, workers, &leases).await?;
        let mut taken = Taken::by(&active.config, workers);
        let price = |worker: &Worker| parking::price(&active.config, worker).unwrap_or(worker.price);
        let levels = measured::levels(workers, &leases, price);
        let workers = self.within_reach(&active, workers);
        let waiting_workers = rouse_model::build::waiting_workers(&leases, &waiting_builds);
        let full = Filled { taken: &taken, budgets: &budgets, waiting: &waiting_workers };
        let mut wishes = self.demand(&active, waiting, &workers, full, gate).await?;
        ctx.metrics.fleet_saw(Some(measured::with_demand(levels, wishes.waiting(), &budgets)));
        self.answers.forget_told();
        // What was announced when the queue was read, and is not any more, was counted by neither: nobody is idle for want of work then.
        let whole = arrived == ctx.coming.arrived();
        let in_use = InUse::of(leases, waiting_workers, std::mem::take(&mut wishes.locked));
        let seen = Seen { workers: &workers, in_use: &in_use, budgets: &budgets };
        self.scale(&active, wishes, seen, &mut taken, whole, stop).await?;
        Ok(length)
    }

    /// A queued request that somebody cancelled ends here; one that a build runs is ended by that.
    async fn end_cancelled(&self, queue: &[Request], now: Timestamp) -> Result<(), FleetError> {
        for request in queue.iter().filter(|r| r.cancel.is_some()) {
            let mut request = request.clone();
            let mut batch = rouse_store::Batch::new("request.cancel");
            let result = rouse_model::BuildResult::Cancelled;
            let finish = crate::requests::finish;
            let closed = finish(&self.ctx.store, None, &mut batch, &mut request, result, now).await?;
            match self.ctx.store.commit(batch).await {
                Ok(()) => closed.iter().for_each(|closed| closed.tell(&self.ctx)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What nobody has approved in its time, or somebody cancelled before that, ends too.
    async fn end_unapproved(&self, now: Timestamp) -> Result<(), FleetError> {
        let mut lapsed = self.ctx.store.lapsed_requests(now, WINDOW).await?;
        for request in &mut lapsed {
            let within = Period(request.lapses.unwrap_or(now).since(request.created));
            request.cancel.get_or_insert_with(|| format!("nobody approved it within {within}"));
        }
        self.end_cancelled(&lapsed, now).await
    }

    /// Ends a worker for what was decided of it, once it is idle.
    async fn end_for(
        &self,
        worker: &Worker,
        busy: usize,
        reason: Reason,
        decision: Option<DecisionId>,
    ) -> Result<(), FleetError> {
        let (code, message) = match reason {
            Reason::Used => {
                (CauseCode::Used, format!("it served {} of {} builds", worker.builds_done, worker.max_builds))
            }
            Reason::Idle => (CauseCode::Idle, "nothing waits for it".to_owned()),
            Reason::Budget => (
                CauseCode::Budget,
                "what it could still be given to do costs more than its pool may spend".to_owned(),
            ),
            Reason::Displaced => {
                (CauseCode::Displaced, "nothing waits for its class, and others want its room".to_owned())
            }
        };
        self.retire(worker, busy, Cause { decision, ..Cause::new(code, None, message) }).await
    }

    /// Sees to it that a worker is driven, and wakes its driver where the worker has changed: woken at each pass, thousands of idle ones would
    /// read their rows all the time.
    fn ensure_driver(self: &Arc<Self>, worker: &Worker, stop: &CancellationToken) {
        let id = worker.id;
        let mut driven = self.driven.lock().expect("nothing panics while it is held");
        if let Some(driver) = driven.get_mut(&id) {
            let changed = driver.generation != worker.generation;
            driver.generation = worker.generation;
            // One that works or waits for work needs nothing before its driver looks by itself.
            if changed && !worker.is_steady() {
                driver.nudge.notify_one();
            }
            return;
        }
        let nudge = Arc::new(tokio::sync::Notify::new());
        driven.insert(id, Driven { nudge: Arc::clone(&nudge), generation: worker.generation });
        drop(driven);
        let (fleet, stop) = (Arc::clone(self), stop.clone());
        crate::supervisor::spawn("instance", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = driver::drive(&fleet, id, &nudge) => {}
            }
            fleet.driven.lock().expect("nothing panics while it is held").remove(&id);
        });
    }

    /// Something may have happened to an instance.
    pub(crate) fn look_at(&self, id: WorkerId) {
        self.suspected.lock().expect("nothing panics while it is held").insert(id);
        self.nudge_driver(id);
    }

    /// Whether somebody spoke of it since the last call.
    pub(crate) fn is_suspected(&self, id: WorkerId) -> bool {
        self.suspected.lock().expect("nothing panics while it is held").remove(&id)
    }

    pub(crate) fn nudge_driver(&self, id: WorkerId) {
        if let Some(driver) = self.driven.lock().expect("nothing panics while it is held").get(&id) {
            driver.nudge.notify_one();
        }
    }
}
