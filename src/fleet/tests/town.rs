//! One seed: what is wished for, what goes wrong and when, the masters that live and die one after the other, and what must hold in the end.

use super::agents::Agents;
use crate::accounts::Accounts;
use crate::api::tests::world;
use crate::ctx::{Clock, Ctx};
use crate::fleet::Fleet;
use crate::requests::{self, Wish};
use crate::revisions::Revisions;
use rouse_contract::{Installation, ProviderKind};
use rouse_model::buildset::{Request, RequestState};
use rouse_model::property::Properties;
use rouse_model::worker::{CauseCode, LaunchToken, Phase, Worker};
use rouse_model::{BuildResult, Timestamp, Trust};
use rouse_provider_fake::{Cloud, FakeKind, Fault, on};
use rouse_store::testing::{Death, Memory};
use rouse_store::{Batch, Page, Store};
use rouse_testkit::chance::Dice;
use rouse_testkit::clock::SimClock;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

const START: Timestamp = Timestamp(1_764_032_400_000_000);
/// Things go wrong for so long.
const TROUBLED: Duration = Duration::from_secs(120);
/// A master that dies does so within so many commits.
const COMMITS: u64 = 400;
/// By then all must be over.
const LATEST: Duration = Duration::from_secs(7200);
/// Between looks at what must hold at any time.
const LOOK: Duration = Duration::from_secs(10);
const WISHES: u64 = 50;
/// So many things go wrong in each seed at least.
const FAULTS: usize = 5;
/// The wall clock is set to so many seconds ahead or behind at most.
const JUMP: u64 = 30;
const MOST: [(&str, usize); 2] = [("small", 12), ("big", 6)];

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {small: "127.0.0.1:1", big: "127.0.0.1:1", bad: "127.0.0.1:1"}}}
providers:
  cloud: {fake: {latency: 200ms, capacity: 15, batch: 4}}
pools:
  small: {fake: {on: cloud, image: "debian:12", boot: 20s}, max: 12, reuse: {builds: 3, idle: 20s}, deadlines: {launch: 3m, attach: 1m}}
  big: {fake: {on: cloud, image: "debian:13", boot: 40s}, max: 6, deadlines: {launch: 3m, attach: 90s}}
  bad: {fake: {on: cloud, image: "debian:0"}}
builders:
  unit: {pool: small, steps: [{run: make test}]}
  package: {pool: big, steps: [{run: make}, {run: make package}]}
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
        self.seconds += other.seconds;
    }

    /// Whether all that the simulation is for has been met.
    pub(super) fn is_eventful(&self) -> bool {
        let ends = [self.succeeded, self.gave_up, self.failed_launches];
        let troubles = [self.faults, self.cuts, self.kills, self.jumps, self.preempted];
        ends.iter().chain(&troubles).all(|n| *n > 0)
    }
}

pub(super) struct Town {
    dice: Dice,
    clock: Arc<SimClock>,
    cloud: Arc<Cloud>,
    memory: Memory,
    agents: Agents,
    wishes: Vec<(Timestamp, &'static str)>,
    folder: tempfile::TempDir,
    kills: usize,
    jumps: Jumps,
}

impl Town {
    pub(super) fn of(seed: u64) -> Self {
        let clock = Arc::new(SimClock::at(START));
        let cloud = Cloud::new(Arc::clone(&clock), seed, &["debian:12", "debian:13"]);
        let mut dice = Dice::of(seed);
        cloud.script(|script| {
            let often = 2 + dice.below(23);
            for _ in 0..FAULTS {
                script.plan(on::LAUNCH, launch_fault(&mut dice));
            }
            // Where launches are held back after the first of them, fewer than that may be asked for.
            for _ in 0..FAULTS / 2 {
                script.plan(on::INSTANCE, instance_fault(&mut dice));
                script.plan(on::LIST, list_fault(&mut dice));
            }
            script.draw(on::LAUNCH, often, launch_fault);
            script.draw(on::INSTANCE, often, instance_fault);
            script.draw(on::TERMINATE, often, call_fault);
            script.draw(on::INSPECT, often, call_fault);
            script.draw(on::LIST, often, list_fault);
            script.draw(on::RESOLVE, often, resolve_fault);
            script.draw(on::HINT, 2 * often, |_| Fault::Broken);
        });
        let builders = ["unit", "unit", "unit", "package", "package", "broken"];
        let wish = |dice: &mut Dice| {
            let at = START + Duration::from_secs(dice.below(90));
            (at, builders[usize::try_from(dice.below(6)).unwrap()])
        };
        let wishes = (0..WISHES).map(|_| wish(&mut dice)).collect();
        let jumps = Jumps { dice: Dice::of(seed.wrapping_add(1)), count: 0 };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rouse.yaml"), CONFIG).unwrap();
        let memory = Memory::new().unwrap();
        Self { dice, clock, cloud, memory, agents: Agents::default(), wishes, folder, kills: 0, jumps }
    }

    /// Masters live and die until all is over.
    pub(super) fn live(mut self) -> Story {
        loop {
            let death = match self.clock.steady().since(START) < TROUBLED {
                true if self.dice.below(2) == 0 => Death::Before(self.dice.below(COMMITS)),
                true => Death::After(self.dice.below(COMMITS)),
                false => Death::Never,
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let story = runtime.block_on(async {
                self.clock.enter();
                let story = Box::pin(self.reign(death)).await;
                self.clock.leave();
                story
            });
            // What it had under way ends here, wherever it stood.
            drop(runtime);
            match story {
                Some(story) => return story,
                None => self.kills += 1,
            }
        }
    }

    /// One master's life; the story, where it lives to see the end.
    async fn reign(&mut self, death: Death) -> Option<Story> {
        let (store, mut dead) = self.memory.open_for(death).await.unwrap();
        let dies = async move {
            dead.wait_for(|dead| *dead).await.unwrap();
        };
        let stop = CancellationToken::new();
        let alive = async {
            let (ctx, _logs) = master(store, &self.clock, &self.cloud, self.folder.path(), &stop).await;
            let calm = START + TROUBLED;
            tokio::select! {
                () = self.agents.serve(&ctx, (&self.clock, &self.cloud), &mut self.dice, calm) => unreachable!("they serve for ever"),
                () = self.jumps.make(&self.clock) => unreachable!("they go on for ever"),
                () = watch(&ctx, &self.clock, &self.cloud, &self.wishes) => {}
            }
            check(&ctx, &self.cloud, &self.wishes).await
        };
        let mut story = tokio::select! {
            () = dies => return None,
            story = alive => story,
        };
        story.faults = self.cloud.struck();
        story.cuts = self.agents.cuts;
        story.kills = self.kills;
        story.jumps = self.jumps.count;
        story.preempted = self.cloud.preempted();
        assert!(story.faults >= FAULTS, "a seed in which little happens: {story:?}");
        story.seconds = self.clock.steady().since(START).as_secs();
        Some(story)
    }
}

/// Somebody who sets the masters' wall clock, while things go wrong.
struct Jumps {
    dice: Dice,
    count: usize,
}

impl Jumps {
    async fn make(&mut self, clock: &SimClock) {
        loop {
            tokio::time::sleep(Duration::from_secs(1 + self.dice.below(60))).await;
            if clock.steady().since(START) >= TROUBLED {
                return std::future::pending().await;
            }
            clock.set_ahead(i64::try_from(self.dice.below(2 * JUMP)).unwrap() - i64::try_from(JUMP).unwrap());
            self.count += 1;
        }
    }
}

/// A master's loops, but for those that bring it work, until told to stop.
pub(super) async fn master(
    store: Store,
    clock: &Arc<SimClock>,
    cloud: &Arc<Cloud>,
    folder: &Path,
    stop: &CancellationToken,
) -> (Arc<Ctx>, DropGuard) {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    let kinds: Vec<Arc<dyn ProviderKind>> = vec![Arc::new(FakeKind(Arc::clone(cloud)))];
    let entered = store.enter("one", "machine", clock.now()).await.unwrap();
    let config = folder.join("rouse.yaml");
    let revisions = Revisions::open(store.clone(), Arc::clone(&clock), kinds.clone(), &config).await.unwrap();
    let installation = Installation {
        id: store.facts().installation.clone(),
        store_epoch: store.facts().store_epoch,
        agents: "/nowhere".into(),
        state: folder.join("providers"),
        many_masters: false,
    };
    let (ctx, logs) = world::context(store, clock, entered.id, revisions, folder.to_owned(), Some(7));
    let accounts = Arc::new(Accounts::new(kinds, installation));
    tokio::spawn(crate::matching::run(Arc::clone(&ctx), stop.clone()));
    tokio::spawn(crate::builds::run(Arc::clone(&ctx), Arc::default(), stop.clone()));
    tokio::spawn(Arc::new(Fleet::new(Arc::clone(&ctx), accounts)).run(stop.clone()));
    (ctx, logs)
}

fn launch_fault(dice: &mut Dice) -> Fault {
    match dice.below(8) {
        0 => Fault::NoCapacity,
        1 => Fault::Quota,
        2 => Fault::Throttled,
        3 => Fault::Unheard,
        4 => Fault::Unanswered,
        5 => Fault::Broken,
        _ => Fault::Late(Duration::from_secs(dice.below(300))),
    }
}

fn instance_fault(dice: &mut Dice) -> Fault {
    match dice.below(5) {
        0 => Fault::Dies,
        1 => Fault::Mute,
        2 => Fault::Slow(Duration::from_secs(dice.below(120))),
        3 => Fault::Preempted(Duration::from_secs(dice.below(60))),
        _ => Fault::Vanishes(Duration::from_secs(dice.below(60))),
    }
}

fn call_fault(dice: &mut Dice) -> Fault {
    match dice.below(5) {
        0 => Fault::Throttled,
        1 => Fault::Unheard,
        2 => Fault::Unanswered,
        3 => Fault::Late(Duration::from_secs(dice.below(60))),
        _ => Fault::Broken,
    }
}

/// None that is waited out: an image may take half an hour.
fn resolve_fault(dice: &mut Dice) -> Fault {
    match dice.below(3) {
        0 => Fault::Throttled,
        1 => Fault::Late(Duration::from_secs(dice.below(30))),
        _ => Fault::Broken,
    }
}

fn list_fault(dice: &mut Dice) -> Fault {
    match dice.below(2) {
        0 => Fault::Lags(Duration::from_secs(dice.below(60))),
        _ => call_fault(dice),
    }
}

/// Wishes what is due, as a scheduler would after each restart, and holds against the record what must be true at any time, until all is over.
async fn watch(ctx: &Ctx, clock: &SimClock, cloud: &Cloud, wishes: &[(Timestamp, &'static str)]) {
    loop {
        let now = clock.steady();
        if now.since(START) >= TROUBLED {
            cloud.script(rouse_testkit::faults::Script::calm);
        }
        let mut open = 0;
        for (number, (at, builder)) in wishes.iter().enumerate() {
            if *at > now {
                open += 1;
                continue;
            }
            let made =
                requests::make(ctx, &ctx.config(), wish(number, builder), Batch::new("test.wish")).await;
            let (requests::Made::New { buildset, .. } | requests::Made::Before { buildset }) = made.unwrap();
            open += usize::from(ctx.store.buildset(buildset).await.unwrap().unwrap().done.is_none());
        }
        let live = ctx.store.live_workers().await.unwrap();
        for (pool, most) in MOST {
            let of_pool = live.iter().filter(|worker| worker.pool == pool).count();
            assert!(of_pool <= most, "{of_pool} workers of pool {pool}, which has {most} at most");
        }
        if open == 0 && live.is_empty() && now.since(START) > TROUBLED && cloud.leftovers().is_empty() {
            return;
        }
        let late = now.since(START) > LATEST;
        assert!(!late, "{open} wishes are open; live: {live:#?}; there: {:#?}", cloud.leftovers());
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) fn wish(number: usize, builder: &str) -> Wish {
    Wish {
        origin: format!("wish/{number}"),
        scheduler: None,
        reason: "wished".into(),
        owner: None,
        properties: Properties::default(),
        builders: vec![builder.to_owned()],
        stamps: Vec::new(),
        parent: None,
        trust: Trust::Trusted,
        priority: 0,
        images: [].into(),
        merges: [].into(),
        approved: None,
    }
}

/// What must hold in the end, whatever went wrong.
async fn check(ctx: &Ctx, cloud: &Cloud, wishes: &[(Timestamp, &'static str)]) -> Story {
    let mut story = Story::default();
    let all = Page { before: None, limit: 10_000 };
    let requests = ctx.store.requests(&Default::default(), all).await.unwrap();
    assert_eq!(requests.len(), wishes.len(), "each wish was made once");
    for request in requests {
        check_request(ctx, &request, &mut story).await;
    }
    assert_eq!(ctx.store.leases().await.unwrap(), vec![]);
    assert_eq!(ctx.store.open_builds().await.unwrap().len(), 0);
    let launched = cloud.launched();
    let workers = ctx.store.workers(&Default::default(), all).await.unwrap();
    for worker in &workers {
        check_worker(ctx, worker, &launched, &mut story);
    }
    let known: HashSet<LaunchToken> =
        workers.iter().map(|w| crate::keys::tag(ctx.store.facts(), w).token).collect();
    for (token, times) in launched {
        assert_eq!(
            times, 1,
            "{token:?} was launched {times} times, though it was still there or had been ended"
        );
        assert!(known.contains(&token), "{token:?} was launched without a record");
    }
    story
}

/// It ended: with one good build, or with one that says why there is none.
async fn check_request(ctx: &Ctx, request: &Request, story: &mut Story) {
    assert_eq!(request.state, RequestState::Done, "{request:#?}");
    let build = ctx.store.build(request.build.expect("its build")).await.unwrap().expect("on record");
    assert_eq!(build.result, request.result);
    match build.result.expect("it ended") {
        BuildResult::Success => {
            story.succeeded += 1;
            assert_ne!(request.builder, "broken");
        }
        BuildResult::Exception => {
            story.gave_up += 1;
            assert!(build.class.is_some() && build.summary.len() > 10, "{build:#?}");
            assert!(request.builder != "broken" || build.summary.contains("debian:0"), "{build:#?}");
        }
        other => panic!("an infrastructure failure is never {other:?}: {build:#?}"),
    }
}

/// It is gone for a reason that is on record, and was launched or says why it was not.
fn check_worker(ctx: &Ctx, worker: &Worker, launched: &HashMap<LaunchToken, usize>, story: &mut Story) {
    let Phase::Gone { cause } = &worker.phase else { panic!("still there: {worker:#?}") };
    assert!(cause.message.len() > 5, "{worker:#?}");
    story.workers += 1;
    let token = crate::keys::tag(ctx.store.facts(), worker).token;
    if worker.accepted.is_some() {
        assert!(launched.contains_key(&token), "accepted, and never there: {worker:#?}");
    } else {
        story.failed_launches += 1;
        let known = cause.class.is_some() || !matches!(cause.code, CauseCode::LaunchRefused);
        assert!(known, "{worker:#?}");
    }
}
