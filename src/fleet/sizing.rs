//! From requests to demand, from workers to capacity, and what the scaler makes of both.

use super::ahead::Expected;
use super::budgets::{Budgets, Counted, spares};
use super::choosing::{Left, Unplaced};
use super::decided::Now;
use super::locking::{Gate, Says};
use super::reckoned::{Launches, reckoning_of};
use super::{Fleet, FleetError, failures};
use crate::config::{PoolConfig, Warm};
use crate::ctx::Active;
use crate::placing::Taken;
use crate::specs;
use rouse_model::build::Lease;
use rouse_model::buildset::Request;
use rouse_model::decision::{DecisionCode, Reckoning, Short};
use rouse_model::locks::at_once_on_a_worker;
use rouse_model::matching::ReuseClass;
use rouse_model::money::{Money, Price};
use rouse_model::scaling::{self, Answer, Bound, Capacity, Coming, Demand, Limits, Reason, Running, Tally};
use rouse_model::worker::{Link, Phase, Wanted, Worker, WorkerEvent};
use rouse_model::{DecisionId, Timestamp, WorkerId, arrivals};
use rouse_store::Batch;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Launches are decided on by looks that lie so far apart.
const MARGIN: Duration = Duration::from_secs(3);

/// So long a request may need to find out what its image is before workers that may be of its class idle for nothing.
const SETTLING: Duration = Duration::from_secs(60);

/// What is wanted of each pool.
type Asked = BTreeMap<String, Tally>;

/// What sets a limit to what may be launched.
#[derive(Clone, Copy)]
pub(super) struct Filled<'a> {
    pub taken: &'a Taken,
    pub budgets: &'a Budgets,
    /// Workers whose builds only wait for others.
    pub waiting: &'a HashSet<WorkerId>,
}

/// What is there.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub workers: &'a [Worker],
    pub in_use: &'a InUse,
    pub budgets: &'a Budgets,
}

pub(super) struct Wishes {
    asked: Asked,
    /// Pools of which something is wanted that is not known yet.
    unsettled: HashSet<String>,
    /// Builds that have a lock that is counted on workers; known where somebody waits for one.
    pub locked: HashMap<WorkerId, usize>,
}

impl Wishes {
    /// How many builds wait for each pool.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&str, usize)> {
        self.asked.iter().map(|(name, tally)| (name.as_str(), tally.all_waiting()))
    }
}

impl Fleet {
    /// Which class each waiting request asks of which pool: the first that accepts it and has room, else the first. Those that wait for a lock
    /// ask for none, only what their images are.
    pub(super) async fn demand(
        self: &Arc<Self>,
        active: &Active,
        waiting: Vec<Request>,
        workers: &[Worker],
        Filled { taken, budgets, waiting: waiting_workers }: Filled<'_>,
        mut gate: Option<Gate<'_>>,
    ) -> Result<Wishes, FleetError> {
        let now = self.ctx.now();
        let mut unsettled = HashSet::new();
        let mut asked = Asked::new();
        let mut load: HashMap<String, usize> = HashMap::new();
        let mut held = Vec::new();
        // One that lies parked is resumed for its class, or makes room for another.
        for worker in workers.iter().filter(|worker| !worker.is_parked()) {
            *load.entry(worker.pool.clone()).or_default() += 1;
        }
        let mut beside: HashMap<&str, usize> = HashMap::new();
        for worker in workers.iter().filter(|worker| waiting_workers.contains(&worker.id)) {
            *beside.entry(&worker.pool).or_default() += 1;
        }
        // The same for all that wait for a pool.
        let (mut rooms, mut closed) = (HashMap::new(), HashMap::new());
        let there: HashSet<ReuseClass> = workers.iter().map(class_of_worker).collect();
        for mut request in waiting {
            let Some(builder) = active.config.builders.get(request.builder.as_str()) else {
                failures::without_builder(self, request).await?;
                continue;
            };
            let candidates = specs::candidates(&active.config, builder, &request);
            let wished = |name: &str| asked.get(name).map_or(0, Tally::all_waiting);
            let says = match &mut gate {
                Some(gate) => gate.lets(active, builder, &mut request, &candidates, wished).await?,
                None => Says::Go,
            };
            if says == Says::Never {
                continue;
            }
            let roomy = candidates.iter().find(|(name, pool)| {
                let beside = beside.get(*name).copied().unwrap_or(0).min(pool.beside_max());
                let there = load.get(*name).copied().unwrap_or(0) - beside;
                there + wished(name) < pool.at(now).max as usize
                    && budgets.get(*name).is_none_or(|budget| budget.purse().affords() > wished(name))
                    && *rooms.entry(*name).or_insert_with(|| self.has_room(&active.config, pool, taken))
            });
            let Some((pool_name, pool)) = roomy.or(candidates.first()).copied() else { continue };
            let Some(class) = self.class_of(active, builder, &mut request, pool_name, pool).await? else {
                if now.since(request.created) < SETTLING {
                    unsettled.insert(pool_name.to_owned());
                }
                continue;
            };
            // By the time it has its locks, its image is there.
            if says == Says::Wait {
                continue;
            }
            self.learned.asks(&request.builder, &class);
            if !there.contains(&class)
                && let Some(error) = self.without_image(pool, &class)
            {
                failures::refused(self, builder, &mut request, pool_name, None, &error).await?;
                continue;
            }
            let closed = closed.entry(pool_name).or_insert_with(|| self.without_offering(pool, pool_name));
            if let Some(error) = closed
                && failures::holds_back(&mut request, pool_name, error, now)
            {
                held.push(request.clone());
            }
            let at_once = match pool.slots {
                1 => None,
                _ => at_once_on_a_worker(&crate::requests::needs(&active.config, builder, None)),
            };
            asked.entry(pool_name.to_owned()).or_default().waits(&class, at_once);
        }
        failures::hold_back(self, held).await?;
        self.look_ahead(active, &mut asked);
        let locked = gate.map(Gate::locked).unwrap_or_default();
        Ok(Wishes { asked, unsettled, locked })
    }

    /// Adds what is to come: what is announced, until it is there and waits itself, and what comes without a word. After what waits already.
    fn look_ahead(&self, active: &Active, asked: &mut Asked) {
        let now = self.ctx.now();
        self.ctx.coming.look_back(|come| {
            for expected in self.expected.lock().expect("nothing panics while it is held").iter() {
                let pool = &expected.class.pool;
                let is_there = active.config.pools.iter().any(|(name, _)| name.as_str() == pool);
                if is_there && self.ctx.coming.is_coming(&expected.origin) {
                    let slow = self.learned.slow_boot(pool).and_then(|_| come.get(&expected.builder));
                    let beside = slow.map_or(0.0, |arrivals| arrivals.beside());
                    wish(asked, &expected.class).coming.push(Coming { beside, ..expected.coming });
                }
            }
            for (builder, class, boot) in self.learned.slow() {
                let more = come.get(&builder).map_or(0.0, |arrivals| arrivals.again(now, boot));
                if more > 0.0 {
                    wish(asked, &class).unforeseen += more;
                }
            }
        });
    }

    pub(super) fn expect(&self, expected: Vec<Expected>) {
        *self.expected.lock().expect("nothing panics while it is held") = expected;
    }

    /// `whole`: whether all that is wanted was counted; where it may not have been, nothing ends for idleness.
    pub(super) async fn scale(
        self: &Arc<Self>,
        active: &Active,
        mut wishes: Wishes,
        Seen { workers, in_use, budgets }: Seen<'_>,
        taken: &mut Taken,
        whole: bool,
        stop: &CancellationToken,
    ) -> Result<(), FleetError> {
        let now = self.ctx.now();
        let running = self.look_at_builds(active, workers, &in_use.leases).await?;
        let mut of_pools: HashMap<&str, Vec<Capacity>> = HashMap::new();
        for worker in workers {
            let mut capacity = self.capacity_of(worker, in_use, &running, now);
            if let Some(budget) = budgets.get(&worker.pool) {
                let busy = in_use.slots.contains_key(&worker.id);
                capacity.spares = spares(worker, busy, budget.build, now);
            }
            of_pools.entry(&worker.pool).or_default().push(capacity);
        }
        for (name, pool) in &active.config.pools {
            let capacity = of_pools.remove(name.as_str()).unwrap_or_default();
            let budget = budgets.get(name.as_str());
            let limits = self.limits(name.as_str(), pool, budget);
            let demand = wishes.asked.remove(name.as_str()).unwrap_or_default().into_wishes();
            let mut answer = scaling::decide(&limits, &demand, &capacity, now);
            let whole = whole && !wishes.unsettled.contains(name.as_str());
            answer.end.retain(|(_, reason)| whole || *reason != Reason::Idle);
            answer.park.retain(|_| whole);
            let mut left = Left::of(budget);
            let held_back = self.resume(active, pool, workers, &mut answer, (taken, &mut left)).await?;
            let mut launched = self.launches(active, name.as_str(), pool, &answer, (taken, left)).await?;
            launched.held_back.extend(held_back);
            let mut reckoning = reckoning_of(&limits, &capacity, &answer, &launched);
            reckoning.1.budget = budget.map(|budget| budget.standing.clone());
            let decision = self.decided(active, name.as_str(), reckoning, launched.workers, stop).await?;
            for id in answer.park {
                if let Some(worker) = workers.iter().find(|w| w.id == id) {
                    self.decide(worker, "worker.park", WorkerEvent::Park).await?;
                }
            }
            for (id, reason) in answer.end {
                if let Some(worker) = workers.iter().find(|w| w.id == id) {
                    let busy = in_use.slots.get(&id).copied().unwrap_or_default();
                    self.end_for(worker, busy, reason, decision).await?;
                }
            }
        }
        Ok(())
    }

    /// The workers that are to be launched, as far as providers have room and what is left pays for what they are launched as.
    async fn launches(
        &self,
        active: &Active,
        name: &str,
        pool: &PoolConfig,
        answer: &Answer,
        (taken, mut left): (&mut Taken, Left),
    ) -> Result<Launches, FleetError> {
        let mut launches = Launches::default();
        for (class, count) in &answer.launch {
            for lacking in (1..=*count).rev() {
                let placed = match self.place(&active.config, pool, class, taken, left) {
                    Ok(placed) => placed,
                    Err(Unplaced { short, passed }) => {
                        launches.held_back.push((class.clone(), lacking, short));
                        launches.passed(passed);
                        break;
                    }
                };
                taken.add(&placed.account, pool.takes);
                left.take(placed.price);
                let wished = self.wished(active, name, pool, class, &placed, self.ctx.now()).await?;
                launches.fell_back |= placed.is_later && wished.is_some();
                launches.workers.extend(wished);
                launches.passed(placed.passed);
            }
        }
        Ok(launches)
    }

    /// Resumes the workers that were decided on, as far as their account has room for one more that runs, and what is left pays for it; answers what
    /// was held back. What an answer holds of them then are those that come.
    async fn resume(
        &self,
        active: &Active,
        pool: &PoolConfig,
        workers: &[Worker],
        answer: &mut Answer,
        (taken, left): (&mut Taken, &mut Left),
    ) -> Result<Vec<(ReuseClass, usize, Short)>, FleetError> {
        let (mut resumed, mut held_back) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut answer.resume) {
            let Some(worker) = workers.iter().find(|w| w.id == id) else { continue };
            let short = match () {
                () if !left.pays_for(worker.price) => Some(Short::By(Bound::Budget)),
                () if !crate::placing::has_room(&active.config, pool, taken, &worker.provider) => {
                    Some(Short::Room)
                }
                () => None,
            };
            if short == Some(Short::Room) && self.has_room(&active.config, pool, taken) {
                // Another account has room for one that is launched in its place.
                answer.end.push((id, Reason::Displaced));
            }
            if let Some(short) = short {
                held_back.push((class_of_worker(worker), 1, short));
                continue;
            }
            left.take(worker.price);
            taken.add(&worker.provider, pool.takes);
            self.decide(worker, "worker.resume", WorkerEvent::Resume).await?;
            resumed.push(id);
        }
        answer.resume = resumed;
        Ok(held_back)
    }

    /// Puts on record what a pass came to for a pool, with the workers that are to be launched for it; its number where something was done.
    async fn decided(
        self: &Arc<Self>,
        active: &Active,
        pool: &str,
        (code, reckoning): (DecisionCode, Reckoning),
        launched: Vec<Worker>,
        stop: &CancellationToken,
    ) -> Result<Option<DecisionId>, FleetError> {
        let at = self.ctx.now();
        let now = Now { pool, code, reckoning, config: active.revision, master: self.ctx.me, at };
        // By what it does first of all.
        let mut batch = Batch::new(if launched.is_empty() { "fleet.decided" } else { "worker.request" });
        let mut decision = None;
        if self.decided.goes_on(&now) {
            self.decided.again(now, &mut batch);
        } else {
            let id = self.ctx.store.next_id().await?;
            decision = code.is_deed().then_some(id);
            self.decided.next(id, now, &mut batch);
        }
        let launched: Vec<Worker> =
            launched.into_iter().map(|worker| Worker { decision, ..worker }).collect();
        for worker in &launched {
            batch.insert(worker).event(crate::workers::phase_event(worker, at));
        }
        if batch.is_empty() {
            return Ok(None);
        }
        self.ctx.store.commit(batch).await?;
        // The next pass would do it too, once it has counted everything anew.
        launched.iter().for_each(|worker| self.ensure_driver(worker, stop));
        Ok(decision)
    }

    /// What workers run whose pool is one where it pays to know when they will be free.
    async fn look_at_builds(
        &self,
        active: &Active,
        workers: &[Worker],
        leases: &[Lease],
    ) -> Result<HashMap<WorkerId, Vec<Running>>, FleetError> {
        let pays =
            |name: &str, pool: &PoolConfig| pool.reuse.builds > 1 && self.learned.slow_boot(name).is_some();
        let pools: HashSet<&str> = (active.config.pools.iter())
            .filter(|(name, pool)| pays(name.as_str(), pool))
            .map(|(name, _)| name.as_str())
            .collect();
        let workers: HashSet<WorkerId> =
            workers.iter().filter(|w| pools.contains(w.pool.as_str())).map(|w| w.id).collect();
        self.running(&workers, leases).await
    }

    fn limits(&self, name: &str, pool: &PoolConfig, budget: Option<&Counted>) -> Limits {
        let now = self.ctx.now();
        let bounds = pool.at(now);
        let boot = self.learned.boot(name);
        let slow = self.learned.slow_boot(name).is_some();
        let foretold = match slow && pool.reuse.builds > 1 {
            true => self.ctx.coming.look_back(|come| {
                let slow = self.learned.slow();
                let of_pool = slow.iter().filter(|(_, class, _)| class.pool == name);
                arrivals::foretold(of_pool.filter_map(|(builder, ..)| come.get(builder)))
            }),
            false => 0.0,
        };
        // What is to be there then has to be launched now.
        let soon = boot.map_or(bounds, |boot| pool.at(now + boot + MARGIN));
        let is_kept = bounds.is_kept() || soon.is_kept();
        Limits {
            min: bounds.min.max(soon.min) as usize,
            max: bounds.max as usize,
            waiting: pool.beside_max(),
            slots: pool.slots as usize,
            builds: pool.reuse.builds as usize,
            ramp: pool.ramp.map_or(usize::MAX, |ramp| ramp as usize),
            idle: pool.reuse.idle_for(boot),
            boot: boot.map(|boot| boot + MARGIN),
            foretold,
            reserve: match bounds.warm {
                _ if !slow => 0.0,
                Warm::Free(_) => scaling::RESERVE,
                Warm::WaitCosts(waiting) => {
                    let slots = i64::from(pool.slots.max(1));
                    scaling::reserve(waiting.price(), Price(self.next_price(name, pool, |_| true).0 / slots))
                }
            },
            warm: bounds.free().max(soon.free()) as usize,
            park: pool.parks(),
            usual: if is_kept { self.learned.latest(name) } else { None },
            purse: budget.map(Counted::purse),
        }
    }

    fn capacity_of(
        &self,
        worker: &Worker,
        in_use: &InUse,
        running: &HashMap<WorkerId, Vec<Running>>,
        now: Timestamp,
    ) -> Capacity {
        let of_worker = |map: &HashMap<WorkerId, usize>| map.get(&worker.id).copied().unwrap_or_default();
        let busy = of_worker(&in_use.slots);
        let slots = usize::try_from(worker.slots).unwrap_or(1);
        let up = matches!(worker.phase, Phase::Up { .. });
        // Like one whose builds never end: it takes room, gives none, and nobody may end it.
        let held = matches!(worker.wanted, Wanted::Hold { .. });
        let boot = || self.learned.boot(&worker.pool).unwrap_or_default();
        let up_by = match worker.phase {
            _ if worker.is_being_resumed() => {
                let since = worker.parked_since().filter(|_| !worker.lies()).unwrap_or(now);
                Some(since + self.learned.resume(&worker.pool).unwrap_or_default())
            }
            _ => worker.attached.is_none().then(|| worker.requested + boot()),
        };
        let parked = worker.is_parked();
        Capacity {
            worker: worker.id,
            class: class_of_worker(worker),
            free: if held || parked { 0 } else { slots.saturating_sub(busy) },
            locked: of_worker(&in_use.locked),
            slots,
            leaving: !matches!(worker.wanted, Wanted::Run | Wanted::Hold { .. } | Wanted::Park)
                || matches!(worker.phase, Phase::Terminating { .. })
                || (now >= worker.expires && !held)
                || matches!(worker.link, Link::Lost { .. }),
            idle_since: if busy == 0 && up && !held && !parked { worker.idle_since } else { None },
            waits: in_use.waiting.contains(&worker.id),
            up_by,
            parked: parked.then(|| worker.parked_since().unwrap_or(now)),
            spares: Money::default(),
            uses_left: usize::try_from(worker.max_builds - worker.builds_done).unwrap_or(0),
            running: if held { Vec::new() } else { running.get(&worker.id).cloned().unwrap_or_default() },
        }
    }
}

/// The wish for a class with nothing special to it.
fn wish<'a>(asked: &'a mut Asked, class: &ReuseClass) -> &'a mut Demand {
    asked.entry(class.pool.clone()).or_default().wish(class, None)
}

/// What of the workers is in use.
pub(super) struct InUse {
    leases: Vec<Lease>,
    pub slots: HashMap<WorkerId, usize>,
    /// Workers all of whose builds only wait for others.
    waiting: HashSet<WorkerId>,
    /// Builds that have a lock that is counted on workers; known where somebody waits for one.
    locked: HashMap<WorkerId, usize>,
}

impl InUse {
    pub(super) fn of(
        leases: Vec<Lease>,
        waiting: HashSet<WorkerId>,
        locked: HashMap<WorkerId, usize>,
    ) -> Self {
        let mut slots: HashMap<WorkerId, usize> = HashMap::new();
        for lease in &leases {
            *slots.entry(lease.worker).or_default() += 1;
        }
        Self { leases, slots, waiting, locked }
    }
}

pub(super) fn class_of_worker(worker: &Worker) -> ReuseClass {
    ReuseClass {
        pool: worker.pool.clone(),
        spec_digest: worker.spec_digest.clone(),
        trust: worker.trust,
        project: worker.project.clone(),
    }
}

#[cfg(test)]
mod tests;
