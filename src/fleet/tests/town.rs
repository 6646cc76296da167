//! One seed: what is wished for, what goes wrong and when, the masters that live and die, one after the other or two beside each other, and what must
//! hold in the end.

mod checks;
mod faults;

use super::agents::Agents;
use crate::accounts::Accounts;
use crate::api::tests::world;
use crate::ctx::{Clock, Ctx};
use crate::fleet::Fleet;
use crate::peers;
use crate::requests::{self, Wish};
use crate::revisions::Revisions;
use rouse_contract::{Installation, ProviderKind};
use rouse_model::Timestamp;
use rouse_model::buildset::RequestState;
use rouse_model::master::Master;
use rouse_model::money::Money;
use rouse_provider_fake::{Cloud, FakeKind, Fault, on};
use rouse_store::testing::{Death, Memory};
use rouse_store::{Batch, Page, Store};
use rouse_testkit::chance::Dice;
use rouse_testkit::clock::SimClock;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

const START: Timestamp = Timestamp(1_764_032_400_000_000);
/// Things go wrong for so long.
const TROUBLED: Duration = Duration::from_secs(90);
/// A master that dies does so within so many commits.
const COMMITS: u64 = 400;
/// By then all must be over.
const LATEST: Duration = Duration::from_secs(7200);
/// Between looks at what must hold at any time.
const LOOK: Duration = Duration::from_secs(10);
const WISHES: u64 = 50;
const ALL: Page = Page { before: None, limit: 10_000 };
/// So many things go wrong in each seed at least.
const FAULTS: usize = 5;
/// The wall clock is set to so many seconds ahead or behind at most.
const JUMP: u64 = 30;
/// A master that died beside another one is started again within so many seconds: before that one has taken over what it left, or after.
const AWAY: u64 = 40;
/// One seed of so many has two masters.
pub(super) const ALONE: u64 = 4;
const MOST: [(&str, usize); 3] = [("small", 12), ("big", 6), ("spare", 6)];
/// What the workers of `big` may cost in an hour.
const BUDGET: Money = Money(800_000);

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {small: "127.0.0.1:1", big: "127.0.0.1:1", spare: "127.0.0.1:1", bad: "127.0.0.1:1"}}}
providers:
  cloud: {fake: {latency: 200ms, capacity: 15, batch: 4}}
pools:
  small: {fake: {on: cloud, image: "debian:12", boot: 10s}, max: 12, reuse: {builds: 5, idle: 5s}, park: {keep: 3, for: 3m}, deadlines: {launch: 2m, attach: 1m}}
  big:
    fake:
      on: cloud
      image: "debian:13"
      boot: 20s
      offers: [{types: [{name: spot, price: 3 USD/h}], try_for: 20s}, {types: [{name: sure, price: 6 USD/h}]}]
    max: 6
    deadlines: {launch: 2m, attach: 90s}
    budget: {limits: 0.8 USD/h, build: 2m}
  spare: {fake: {on: cloud, image: "debian:13", boot: 20s}, max: 6, deadlines: {launch: 2m, attach: 90s}}
  bad: {fake: {on: cloud, image: "debian:0"}}
builders:
  unit: {pool: small, steps: [{run: make test}]}
  package: {pool: [big, spare], steps: [{run: make}, {run: make package}]}
  broken: {pool: bad, steps: [{run: make}]}
"#;

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        SimClock::now(self)
    }
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Story {
    succeeded: usize,
    gave_up: usize,
    workers: usize,
    failed_launches: usize,
    faults: usize,
    cuts: usize,
    kills: usize,
    jumps: usize,
    preempted: usize,
    /// Workers that were launched where the budget of another pool was out, and as the dearer of two offers.
    spared: usize,
    fell_back: usize,
    /// Workers that came back after they had been parked.
    resumed: usize,
    /// Workers whose image was not there when they were launched, and requests that one came for all the same.
    without_image: usize,
    healed: usize,
    /// Seeds with two masters, and workers that went from one of them to the other.
    pairs: usize,
    moved: usize,
    /// Simulated.
    seconds: u64,
}

impl Story {
    pub(super) fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.gave_up += other.gave_up;
        self.workers += other.workers;
        self.failed_launches += other.failed_launches;
        self.faults += other.faults;
        self.cuts += other.cuts;
        self.kills += other.kills;
        self.jumps += other.jumps;
        self.preempted += other.preempted;
        self.spared += other.spared;
        self.fell_back += other.fell_back;
        self.resumed += other.resumed;
        self.without_image += other.without_image;
        self.healed += other.healed;
        self.pairs += other.pairs;
        self.moved += other.moved;
        self.seconds += other.seconds;
    }

    /// Whether all that the simulation is for has been met.
    pub(super) fn is_eventful(&self) -> bool {
        let launches = [self.failed_launches, self.spared, self.fell_back, self.resumed, self.moved];
        let ends = [&[self.succeeded, self.gave_up, self.without_image, self.healed], &launches[..]].concat();
        let troubles = [self.faults, self.cuts, self.kills, self.jumps, self.preempted];
        ends.iter().chain(&troubles).all(|n| *n > 0)
    }
}

pub(super) struct Town {
    seed: u64,
    clock: Arc<SimClock>,
    cloud: Arc<Cloud>,
    memory: Memory,
    agents: Agents,
    /// By time.
    wishes: Vec<(Timestamp, &'static str)>,
    folder: tempfile::TempDir,
    kills: AtomicUsize,
    jumps: AtomicUsize,
    moved: AtomicUsize,
}

impl Town {
    /// `made`: a new database, which it has a copy of.
    pub(super) fn of(seed: u64, made: &Memory) -> Self {
        let clock = Arc::new(SimClock::at(START));
        let cloud = Cloud::new(Arc::clone(&clock), seed, &["debian:12", "debian:13"]);
        let mut dice = Dice::of(seed);
        cloud.script(|script| {
            let often = 2 + dice.below(23);
            for _ in 0..FAULTS {
                script.plan(on::LAUNCH, faults::of_launch(&mut dice));
            }
            // Where launches are held back after the first of them, fewer than that may be asked for.
            for _ in 0..FAULTS / 2 {
                script.plan(on::INSTANCE, faults::of_instance(&mut dice));
                script.plan(on::LIST, faults::of_list(&mut dice));
            }
            script.draw(on::LAUNCH, often, faults::of_launch);
            script.draw(on::INSTANCE, often, faults::of_instance);
            script.draw(on::TERMINATE, often, faults::of_call);
            script.draw(on::PARK, often, faults::of_call);
            script.draw(on::RESUME, often, faults::of_call);
            script.draw(on::INSPECT, often, faults::of_call);
            script.draw(on::LIST, often, faults::of_list);
            script.draw(on::RESOLVE, often, faults::of_resolve);
            script.draw(on::HINT, 2 * often, |_| Fault::Broken);
        });
        let builders = ["unit", "unit", "unit", "package", "package", "broken"];
        let wish = |dice: &mut Dice| {
            let at = START + Duration::from_secs(dice.below(60));
            (at, builders[usize::try_from(dice.below(6)).unwrap()])
        };
        let mut wishes: Vec<_> = (0..WISHES).map(|_| wish(&mut dice)).collect();
        wishes.sort_by_key(|(at, _)| *at);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rouse.yaml"), CONFIG).unwrap();
        let memory = made.copy().unwrap().at_a_pace(seed);
        let (kills, jumps, moved) = Default::default();
        Self { seed, clock, cloud, memory, agents: Agents::default(), wishes, folder, kills, jumps, moved }
    }

    /// Masters live and die until all is over.
    pub(super) fn live(self) -> Story {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let dice = |number: u64| Dice::of(self.seed.wrapping_add(number));
        runtime.block_on(async {
            self.clock.enter();
            let store = self.memory.open().await.unwrap();
            tokio::select! {
                // In this order, so that a seed is the same one again.
                biased;
                () = self.seat("one", dice(2)) => unreachable!("there is always another one"),
                () = self.seat("two", dice(3)), if self.has_two() => unreachable!("there is always another one"),
                () = self.jump(dice(1)) => unreachable!("it goes on for ever"),
                () = self.watch(&store) => {}
            }
            let mut story = checks::all(&store, &self.cloud, &self.wishes).await;
            story.faults = self.cloud.struck();
            story.cuts = self.agents.cuts();
            story.kills = self.kills.load(Ordering::Relaxed);
            story.jumps = self.jumps.load(Ordering::Relaxed);
            story.preempted = self.cloud.preempted();
            story.pairs = usize::from(self.has_two());
            story.moved = self.moved.load(Ordering::Relaxed);
            assert!(story.faults >= FAULTS, "a seed in which little happens: {story:?}");
            story.seconds = self.clock.steady().since(START).as_secs();
            story
        })
    }

    fn has_two(&self) -> bool {
        self.seed.is_multiple_of(ALONE)
    }

    fn is_calm(&self) -> bool {
        self.clock.steady().since(START) >= TROUBLED
    }

    /// The masters of one name, one after the other.
    async fn seat(&self, name: &str, mut dice: Dice) {
        loop {
            let death = match dice.below(2) {
                _ if self.is_calm() => Death::Never,
                0 => Death::Before(dice.below(COMMITS)),
                _ => Death::After(dice.below(COMMITS)),
            };
            let (store, mut dead) = self.memory.open_for(death).await.unwrap();
            let stop = CancellationToken::new();
            let kind = FakeKind::of_mortal(Arc::clone(&self.cloud), dead.clone());
            let life = async {
                let (ctx, _logs) = master((name, store), &self.clock, kind, self.folder.path(), &stop).await;
                let calm = START + TROUBLED;
                tokio::select! {
                    biased;
                    () = self.agents.serve(&ctx, (&self.clock, &self.cloud), &mut dice, calm) => unreachable!("they serve for ever"),
                    () = self.wish(&ctx) => unreachable!("it goes on for ever"),
                    // Another one has taken its place.
                    () = stop.cancelled() => {}
                }
            };
            tokio::select! {
                biased;
                died = dead.wait_for(|dead| *dead) => drop(died.unwrap()),
                () = life => {}
            }
            // What it had under way is never answered; its loops end.
            stop.cancel();
            self.kills.fetch_add(1, Ordering::Relaxed);
            let away = if self.has_two() { dice.below(AWAY) } else { 0 };
            tokio::time::sleep(Duration::from_secs(away)).await;
        }
    }

    /// Wishes what is due, as a scheduler does, and all of it again after each restart.
    async fn wish(&self, ctx: &Ctx) {
        for (number, (at, builder)) in self.wishes.iter().enumerate() {
            tokio::time::sleep(at.since(self.clock.steady())).await;
            requests::make(ctx, &ctx.config(), wish(number, builder), Batch::new("test.wish")).await.unwrap();
        }
        std::future::pending().await
    }

    /// Somebody sets the masters' wall clock, while things go wrong.
    async fn jump(&self, mut dice: Dice) {
        loop {
            tokio::time::sleep(Duration::from_secs(1 + dice.below(60))).await;
            if self.is_calm() {
                return std::future::pending().await;
            }
            let ahead = i64::try_from(dice.below(2 * JUMP)).unwrap() - i64::try_from(JUMP).unwrap();
            self.clock.set_ahead(ahead);
            self.jumps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Holds against the record what must be true at any time, until all is over.
    async fn watch(&self, store: &Store) {
        let mut drivers = HashMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            if self.is_calm() {
                self.cloud.script(rouse_testkit::faults::Script::calm);
            }
            let made = store.requests(&Default::default(), ALL).await.unwrap();
            let done = made.iter().filter(|request| request.state == RequestState::Done).count();
            let live = store.live_workers().await.unwrap();
            let moves = live.iter().filter(|worker| {
                drivers.insert(worker.id, worker.master).is_some_and(|before| before != worker.master)
            });
            self.moved.fetch_add(moves.count(), Ordering::Relaxed);
            for (pool, most) in MOST {
                let of_pool = live.iter().filter(|worker| worker.pool == pool).count();
                assert!(of_pool <= most, "{of_pool} workers of pool {pool}, which has {most} at most");
            }
            let (open, left) = (self.wishes.len() - done, self.cloud.leftovers());
            if open == 0 && live.is_empty() && left.is_empty() && self.is_calm() {
                return;
            }
            let late = self.clock.steady().since(START) > LATEST;
            assert!(!late, "{open} wishes are open; live: {live:#?}; there: {left:#?}");
        }
    }
}

/// A master's loops, but for those that bring it work, until told to stop.
pub(super) async fn master(
    named: (&str, Store),
    clock: &Arc<SimClock>,
    kind: FakeKind,
    folder: &Path,
    stop: &CancellationToken,
) -> (Arc<Ctx>, DropGuard) {
    let kinds: Vec<Arc<dyn ProviderKind>> = vec![Arc::new(kind)];
    let (entered, ctx, accounts, logs) = context(named, Arc::clone(clock) as _, kinds, folder, Some(7)).await;
    tokio::spawn(peers::beat(Arc::clone(&ctx), entered, Arc::default(), stop.clone()));
    tokio::spawn(peers::run(Arc::clone(&ctx), Arc::clone(&accounts), stop.clone()));
    tokio::spawn(crate::matching::run(Arc::clone(&ctx), stop.clone()));
    tokio::spawn(crate::builds::run(Arc::clone(&ctx), Arc::default(), stop.clone()));
    tokio::spawn(Arc::new(Fleet::new(Arc::clone(&ctx), accounts)).run(stop.clone()));
    (ctx, logs)
}

/// What a master's loops are given, and its accounts.
pub(super) async fn context(
    (name, store): (&str, Store),
    clock: Arc<dyn Clock>,
    kinds: Vec<Arc<dyn ProviderKind>>,
    folder: &Path,
    agents_port: Option<u16>,
) -> (Master, Arc<Ctx>, Arc<Accounts>, DropGuard) {
    let entered = store.enter(name, "machine", clock.now()).await.unwrap();
    let config = folder.join("rouse.yaml");
    let revisions = Revisions::open(store.clone(), Arc::clone(&clock), kinds.clone(), &config).await.unwrap();
    let installation = Installation {
        id: store.facts().installation.clone(),
        store_epoch: store.facts().store_epoch,
        agents: folder.join("agents"),
        state: folder.join("providers"),
        many_masters: false,
    };
    let (ctx, logs) = world::context(store, clock, entered.id, revisions, folder.to_owned(), agents_port);
    ctx.roles.observe().await.unwrap();
    (entered, ctx, Arc::new(Accounts::new(kinds, installation)), logs)
}

pub(in crate::fleet) fn wish(number: usize, builder: &str) -> Wish {
    Wish { origin: format!("wish/{number}"), reason: "wished".into(), ..Wish::bare(builder) }
}
