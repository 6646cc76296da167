//! Demand into launches, and idleness into ends: the loop that makes the fleet what the queue needs.
//!
//! How many is decided by [`rouse_model::scaling`]; what a tag means is asked of the provider once for each buildset; each instance has
//! one driver task, the only writer of its phase. The reaper compares what providers have with what is on record.

mod ahead;
mod boots;
mod breakers;
mod driver;
mod failures;
mod locking;
mod mirrors;
mod placing;
mod provisioning;
mod reaper;
mod resolving;
#[cfg(test)]
mod tests;
mod trees;

use crate::accounts::Accounts;
use crate::config::{Config, Period};
use crate::ctx::{Active, Ctx};
use crate::placing::Taken;
use crate::specs;
use ahead::Expected;
use boots::Boots;
use breakers::Breakers;
use locking::{Gate, Says};
use mirrors::Mirrors;
use placing::Warm;
use provisioning::Specs;
use resolving::Answers;
use rouse_model::build::Lease;
use rouse_model::buildset::Request;
use rouse_model::locks::at_once_on_a_worker;
use rouse_model::matching::ReuseClass;
use rouse_model::scaling::{self, Capacity, Demand, Limits, Reason};
use rouse_model::worker::{Cause, CauseCode, Phase, Wanted, Worker, WorkerEvent};
use rouse_model::{Timestamp, WorkerId};
use std::collections::{BTreeMap, HashMap, HashSet};
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
/// A warm worker whose pool says `idle: auto` waits at least so long.
const IDLE_AUTO: Duration = Duration::from_secs(120);
/// One that serves a single build does not idle. It has this long to be given the build that it was made for, which may have been cancelled.
const IDLE_SINGLE_USE: Duration = Duration::from_secs(10);

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
    answers: Answers,
    warm: Warm,
    breakers: Breakers,
    mirrors: Mirrors,
    boots: Boots,
    /// As it was announced last.
    expected: Mutex<Vec<Expected>>,
    driven: Mutex<HashMap<WorkerId, Driven>>,
    /// Workers that a provider's hint or a list spoke of: their drivers ask the provider itself.
    suspected: Mutex<HashSet<WorkerId>>,
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
            answers: Answers::default(),
            warm: Warm::default(),
            breakers: Breakers::default(),
            boots: Boots::default(),
            expected: Mutex::default(),
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
        let workers = ctx.store.live_workers().await?;
        // Supply before demand: a request that is matched in between is missed as demand, and its worker's change of generation is seen. The
        // other way round it would be launched for once more.
        let leases = ctx.store.leases().await?;
        for worker in workers.iter().filter(|w| w.master == ctx.me) {
            self.ensure_driver(worker, stop);
        }
        let Some(role) = ctx.roles.hold("fleet", "").await? else { return Ok(0) };
        let active = ctx.config();
        let now = ctx.now();
        let queue = ctx.store.queue(WINDOW).await?;
        // A worker is quicker looked at than a request; there may be thousands.
        let length = u32::try_from(queue.len() + workers.len() / WORKERS_FOR_A_REQUEST).unwrap_or(u32::MAX);
        self.end_cancelled(&queue, now).await?;
        self.end_unapproved(now).await?;
        let waiting: Vec<Request> =
            queue.into_iter().filter(|r| r.cancel.is_none() && r.waits_until(now).is_none()).collect();
        self.end_what_is_not_wanted(&active, &workers, &leases).await?;
        let gate = Gate::of(ctx, &role, &active.config, &waiting, &workers, &leases).await?;
        let mut taken = Taken::by(&active.config, &workers);
        let workers = self.within_reach(&active, &workers);
        let (demand, locked) = self.demand(&active, waiting, &workers, &taken, gate).await?;
        self.answers.forget_told();
        self.scale(&active, demand, &workers, &InUse::of(&leases, locked), &mut taken, now).await?;
        Ok(length)
    }

    /// A queued request that somebody cancelled ends here; one that a build runs is ended by that.
    async fn end_cancelled(&self, queue: &[Request], now: Timestamp) -> Result<(), FleetError> {
        for request in queue.iter().filter(|r| r.cancel.is_some()) {
            let mut request = request.clone();
            let mut batch = rouse_store::Batch::new("request.cancel");
            let result = rouse_model::BuildResult::Cancelled;
            crate::requests::finish(&self.ctx.store, None, &mut batch, &mut request, result, now).await?;
            match self.ctx.store.commit(batch).await {
                Ok(()) => self.ctx.nudges.schedulers.notify_one(),
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

    /// Which class each waiting request asks of which pool: the first that accepts it and has room, else the first. Those that wait for a lock
    /// ask for none, only what their images are.
    async fn demand(
        self: &Arc<Self>,
        active: &Active,
        waiting: Vec<Request>,
        workers: &[Worker],
        taken: &Taken,
        mut gate: Option<Gate<'_>>,
    ) -> Result<(BTreeMap<String, Vec<Demand>>, HashMap<WorkerId, usize>), FleetError> {
        let mut asked: BTreeMap<String, Vec<Demand>> = BTreeMap::new();
        let mut load: HashMap<String, usize> = HashMap::new();
        for worker in workers {
            *load.entry(worker.pool.clone()).or_default() += 1;
        }
        for mut request in waiting {
            let Some(builder) = active.config.builders.get(request.builder.as_str()) else {
                failures::without_builder(self, request).await?;
                continue;
            };
            let candidates = specs::candidates(&active.config, builder, &request);
            let wished = |name: &str| asked.get(name).map_or(0, |d| d.iter().map(|d| d.waiting).sum());
            let says = match &mut gate {
                Some(gate) => gate.lets(active, builder, &mut request, &candidates, wished).await?,
                None => Says::Go,
            };
            if says == Says::Never {
                continue;
            }
            let roomy = candidates.iter().find(|(name, pool)| {
                let there = load.get(*name).copied().unwrap_or(0);
                there + wished(name) < pool.max as usize && self.has_room(&active.config, pool, taken)
            });
            let Some((pool_name, pool)) = roomy.or(candidates.first()).copied() else { continue };
            let Some(class) = self.class_of(active, builder, &mut request, pool_name, pool).await? else {
                continue;
            };
            // By the time it has its locks, its image is there.
            if says == Says::Wait {
                continue;
            }
            let there = workers.iter().any(|worker| class_of_worker(worker) == class);
            if !there && let Some(error) = self.without_image(pool, &class) {
                failures::refused(self, builder, &mut request, pool_name, None, &error).await?;
                continue;
            }
            let of_pool = asked.entry(pool_name.to_owned()).or_default();
            let at_once = match pool.slots {
                1 => None,
                _ => at_once_on_a_worker(&crate::requests::needs(&active.config, builder, None)),
            };
            match of_pool.iter_mut().find(|d| d.class == class && d.at_once == at_once) {
                Some(demand) => demand.waiting += 1,
                None => of_pool.push(Demand { class, waiting: 1, at_once }),
            }
        }
        self.add_expected(&active.config, &mut asked);
        Ok((asked, gate.map(Gate::locked).unwrap_or_default()))
    }

    /// Work that comes so soon that its worker has to be launched now. It is counted after what waits already, and until it is there: then it waits itself.
    fn add_expected(&self, config: &Config, asked: &mut BTreeMap<String, Vec<Demand>>) {
        let now = self.ctx.now();
        for coming in self.expected.lock().expect("nothing panics while it is held").iter() {
            let is_there = config.pools.iter().any(|(name, _)| name.as_str() == coming.class.pool);
            if !is_there || now < coming.from || !self.ctx.coming.is_coming(&coming.origin) {
                continue;
            }
            let of_pool = asked.entry(coming.class.pool.clone()).or_default();
            match of_pool.iter_mut().find(|d| d.class == coming.class && d.at_once.is_none()) {
                Some(demand) => demand.waiting += 1,
                None => of_pool.push(Demand { class: coming.class.clone(), waiting: 1, at_once: None }),
            }
        }
    }

    fn expect(&self, expected: Vec<Expected>) {
        *self.expected.lock().expect("nothing panics while it is held") = expected;
    }

    async fn scale(
        self: &Arc<Self>,
        active: &Active,
        mut demand: BTreeMap<String, Vec<Demand>>,
        workers: &[Worker],
        in_use: &InUse,
        taken: &mut Taken,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        for (name, pool) in &active.config.pools {
            let capacity: Vec<Capacity> = workers
                .iter()
                .filter(|w| w.pool == name.as_str())
                .map(|w| capacity_of(w, in_use, now))
                .collect();
            let limits = Limits {
                min: pool.min as usize,
                max: pool.max as usize,
                slots: pool.slots as usize,
                builds: pool.reuse.builds as usize,
                idle: match pool.reuse.idle {
                    _ if pool.reuse.builds == 1 => IDLE_SINGLE_USE,
                    // A worker that is soon wanted again is worth as much as another one takes to come.
                    crate::config::Idle::Auto => {
                        self.boots.of(name.as_str()).unwrap_or_default().max(IDLE_AUTO)
                    }
                    crate::config::Idle::After(period) => period.0,
                },
            };
            let wishes = demand.remove(name.as_str()).unwrap_or_default();
            let decision = scaling::decide(&limits, &wishes, &capacity, now);
            for (id, reason) in &decision.end {
                if let Some(worker) = workers.iter().find(|w| w.id == *id) {
                    self.end_idle(worker, *reason).await?;
                }
            }
            for (class, count) in decision.launch {
                for _ in 0..count {
                    let Some(account) = self.place(&active.config, pool, &class, taken) else { break };
                    taken.add(&account, pool.takes);
                    self.request_worker(active, name.as_str(), pool, &class, account, now).await?;
                }
            }
        }
        Ok(())
    }

    /// Ends workers whose pool is not there any more, and drains those of drained providers.
    async fn end_what_is_not_wanted(
        &self,
        active: &Active,
        workers: &[Worker],
        leases: &[Lease],
    ) -> Result<(), FleetError> {
        let config = &active.config;
        let pools: HashSet<&str> = config.pools.iter().map(|(name, _)| name.as_str()).collect();
        let drained: HashSet<&str> =
            config.providers.iter().filter(|(_, p)| p.drain).map(|(name, _)| name.as_str()).collect();
        let slots_taken = InUse::of(leases, HashMap::new()).slots;
        for worker in workers {
            let message = if !pools.contains(worker.pool.as_str()) {
                format!("pool `{}` was removed", worker.pool)
            } else if drained.contains(worker.provider.as_str()) {
                format!("provider `{}` is drained", worker.provider)
            } else {
                continue;
            };
            let busy = slots_taken.get(&worker.id).copied().unwrap_or_default();
            let cause = Cause { code: CauseCode::PoolChanged, class: None, message };
            self.retire(worker, busy, cause).await?;
        }
        Ok(())
    }

    async fn end_idle(&self, worker: &Worker, reason: Reason) -> Result<(), FleetError> {
        let (code, message) = match reason {
            Reason::Used => {
                (CauseCode::Used, format!("it served {} of {} builds", worker.builds_done, worker.max_builds))
            }
            Reason::Idle => (CauseCode::Idle, "nothing waits for it".to_owned()),
            Reason::Displaced => {
                (CauseCode::Displaced, "nothing waits for its class, and others want its room".to_owned())
            }
        };
        self.retire(worker, 0, Cause { code, class: None, message }).await
    }

    /// Ends a worker, or drains it while it is busy. The generation of the row that was judged is what the change expects, so a build that was
    /// matched meanwhile wins.
    async fn retire(&self, judged: &Worker, busy: usize, cause: Cause) -> Result<(), FleetError> {
        let event = if busy > 0 { WorkerEvent::Drain { cause } } else { WorkerEvent::End { cause } };
        let now = self.ctx.now();
        let rouse_model::worker::Transition::Applied { next, .. } = judged.on(event, now) else {
            return Ok(());
        };
        let mut next = *next;
        let mut batch = rouse_store::Batch::new("worker.end");
        for event in crate::workers::events_of(judged, &next, now) {
            batch.event(event);
        }
        batch.update(&mut next);
        match self.ctx.store.commit(batch).await {
            Ok(()) => {
                self.nudge_driver(judged.id);
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
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

/// What of the workers is in use.
struct InUse {
    slots: HashMap<WorkerId, usize>,
    /// Builds that have a lock that is counted on workers; known where somebody waits for one.
    locked: HashMap<WorkerId, usize>,
}

impl InUse {
    fn of(leases: &[Lease], locked: HashMap<WorkerId, usize>) -> Self {
        let mut slots: HashMap<WorkerId, usize> = HashMap::new();
        for lease in leases {
            *slots.entry(lease.worker).or_default() += 1;
        }
        Self { slots, locked }
    }
}

fn capacity_of(worker: &Worker, in_use: &InUse, now: Timestamp) -> Capacity {
    let of_worker = |map: &HashMap<WorkerId, usize>| map.get(&worker.id).copied().unwrap_or_default();
    let busy = of_worker(&in_use.slots);
    let slots = usize::try_from(worker.slots).unwrap_or(1);
    let uses_left = usize::try_from(worker.max_builds - worker.builds_done).unwrap_or(0);
    let leaving = !matches!(worker.wanted, Wanted::Run)
        || matches!(worker.phase, Phase::Terminating { .. })
        || now >= worker.expires
        || matches!(worker.link, rouse_model::worker::Link::Lost { .. });
    Capacity {
        worker: worker.id,
        class: class_of_worker(worker),
        free: slots.saturating_sub(busy),
        locked: of_worker(&in_use.locked),
        slots,
        leaving,
        idle_since: if busy == 0 && matches!(worker.phase, Phase::Up { .. }) {
            worker.idle_since
        } else {
            None
        },
        uses_left,
    }
}

fn class_of_worker(worker: &Worker) -> ReuseClass {
    ReuseClass {
        pool: worker.pool.clone(),
        spec_digest: worker.spec_digest.clone(),
        trust: worker.trust,
        project: worker.project.clone(),
    }
}
