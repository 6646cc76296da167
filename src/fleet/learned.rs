//! What the fleet has learned of the past: how long the workers of each pool take from the wish to the agent, and how long the builds of each builder take. Lost
//! with the process, and learned anew.

use super::{Fleet, FleetError};
use rouse_model::boots::{self, Boot, attach_within};
use rouse_model::build::Lease;
use rouse_model::durations::{Durations, nine_of_ten};
use rouse_model::failure::FailureClass;
use rouse_model::matching::ReuseClass;
use rouse_model::scaling::Running;
use rouse_model::scaling::offers::Record;
use rouse_model::worker::{CauseCode, Phase, Wanted, Worker};
use rouse_model::{BuildId, BuildResult, Timestamp, WorkerId};
use rouse_store::Page;
use rouse_store::reads::{BuildFilter, WorkerFilter};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// From a pool's last so many workers, and a builder's last so many builds.
const WORKERS: i64 = 30;
const BUILDS: i64 = 100;
/// Between looks at them.
pub(super) const ANEW: Duration = Duration::from_secs(20);
/// Where workers come sooner than this, nobody looks ahead to the ends of builds or keeps a worker for what may come: it costs more than it saves.
const SLOW: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Learned(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    looked: Option<Instant>,
    /// By pool; one of which no worker has come yet is not in it.
    boots: HashMap<String, Duration>,
    /// By pool, how long the next agent may take to come.
    attach: HashMap<String, Duration>,
    /// By pool, what nine of ten of its parked workers do not exceed that were resumed, and how long the next one may take.
    resumes: HashMap<String, (Option<Duration>, Duration)>,
    /// By the name of what workers were launched as.
    records: HashMap<String, Record>,
    /// By builder.
    builds: HashMap<String, (Instant, Arc<Durations>)>,
    /// Builder and beginning of builds that run.
    running: HashMap<BuildId, (String, Timestamp)>,
    /// Which class a builder's requests asked for last.
    classes: HashMap<String, ReuseClass>,
    /// Which class each pool was asked for last, or is likely to be.
    latest: HashMap<String, ReuseClass>,
}

impl Learned {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it is held")
    }

    /// What nine of ten workers of a pool do not exceed.
    pub(super) fn boot(&self, pool: &str) -> Option<Duration> {
        self.known().boots.get(pool).copied()
    }

    /// How long the next agent of a pool may take to come, once its instance was accepted.
    pub(super) fn attach_within(&self, pool: &str) -> Duration {
        self.known().attach.get(pool).copied().unwrap_or_else(|| boots::attach_within(&[]))
    }

    /// What nine of ten parked workers of a pool did not exceed when they were resumed; as long as a boot where none was.
    pub(super) fn resume(&self, pool: &str) -> Option<Duration> {
        let known = self.known();
        known.resumes.get(pool).and_then(|(usual, _)| *usual).or_else(|| known.boots.get(pool).copied())
    }

    /// How long it may take until the agent of the next worker of a pool that is resumed has come.
    pub(super) fn resume_within(&self, pool: &str) -> Duration {
        self.known().resumes.get(pool).map_or_else(|| boots::attach_within(&[]), |(_, within)| *within)
    }

    /// What became of the latest workers of an offering.
    pub(super) fn record(&self, offering: &str) -> Record {
        self.known().records.get(offering).copied().unwrap_or_default()
    }

    /// Something happened that is to be known at the next look.
    pub(super) fn look_anew(&self) {
        self.known().looked = None;
    }

    /// What nine of ten do not exceed, where it is so long that it pays to look further than to what is announced.
    pub(super) fn slow_boot(&self, pool: &str) -> Option<Duration> {
        self.boot(pool).filter(|boot| *boot >= SLOW)
    }

    pub(super) fn asks(&self, builder: &str, class: &ReuseClass) {
        let mut known = self.known();
        if known.classes.get(builder) != Some(class) {
            known.classes.insert(builder.to_owned(), class.clone());
        }
        if known.latest.get(&class.pool) != Some(class) {
            known.latest.insert(class.pool.clone(), class.clone());
        }
    }

    /// What a pool's idle workers are to be, where nobody has asked it for any.
    pub(super) fn foresees(&self, class: ReuseClass) {
        self.known().latest.insert(class.pool.clone(), class);
    }

    /// The class that a pool was asked for last, or is likely to be.
    pub(super) fn latest(&self, pool: &str) -> Option<ReuseClass> {
        self.known().latest.get(pool).cloned()
    }

    /// Builders that asked a pool last.
    pub(super) fn builders_of(&self, pool: &str) -> Vec<String> {
        let known = self.known();
        let of_pool = known.classes.iter().filter(|(_, class)| class.pool == pool);
        of_pool.map(|(builder, _)| builder.clone()).collect()
    }

    /// Builders with the class that each asked for last and its [slow boot](Self::slow_boot), where that is one.
    pub(super) fn slow(&self) -> Vec<(String, ReuseClass, Duration)> {
        let known = self.known();
        let slow = known.classes.iter().filter_map(|(builder, class)| {
            let boot = known.boots.get(&class.pool).copied().filter(|boot| *boot >= SLOW)?;
            Some((builder.clone(), class.clone(), boot))
        });
        slow.collect()
    }
}

/// What came of an instance; `None` of one that is on its way, and of one that did not come for another reason than its time.
fn boot_of(worker: &Worker, now: Timestamp) -> Option<Boot> {
    let accepted = worker.accepted?;
    if let Some(attached) = worker.attached {
        return Some(Boot::Came(attached.since(accepted)));
    }
    let (cause, until) = match (&worker.phase, &worker.wanted) {
        (Phase::Gone { cause }, _) => (cause, worker.gone.unwrap_or(now)),
        (Phase::Terminating { cause, since, .. }, _) => (cause, *since),
        (_, Wanted::End { cause }) => (cause, now),
        _ => return None,
    };
    (cause.code == CauseCode::Deadline).then(|| Boot::GivenUp(until.since(accepted)))
}

/// Counts a worker whose launch was taken, once it is known what came of that.
fn add_record(records: &mut HashMap<String, Record>, worker: &Worker, now: Timestamp) {
    let (Some(offering), Some(accepted)) = (&worker.offering, worker.accepted) else { return };
    let class = worker.cause().and_then(|cause| cause.class);
    let interrupted = class == Some(FailureClass::Preempted);
    // One that was ended before it came, for a reason that was not its own, says nothing.
    if worker.attached.is_none() && class.is_none() {
        return;
    }
    let record = records.entry(offering.clone()).or_default();
    record.add(worker.gone.unwrap_or(now).since(accepted), worker.attached.is_some(), interrupted);
}

impl Fleet {
    /// Looks at the last workers of all pools, where that was not done lately.
    pub(super) async fn learn_boots(&self) -> Result<(), FleetError> {
        if self.learned.known().looked.is_some_and(|looked| looked.elapsed() < ANEW) {
            return Ok(());
        }
        let now = self.ctx.now();
        let (mut boots, mut attach) = (HashMap::new(), HashMap::new());
        let (mut resumes, mut records) = (HashMap::new(), HashMap::new());
        for name in self.ctx.config().config.pools.keys() {
            let filter = WorkerFilter { pool: Some(name.to_string()), live: false };
            let workers = self.ctx.store.workers(&filter, Page { before: None, limit: WORKERS }).await?;
            let took = workers.iter().filter_map(|worker| Some(worker.attached?.since(worker.requested)));
            boots.extend(nine_of_ten(took.collect()).map(|boot| (name.to_string(), boot)));
            let latest: Vec<Boot> = workers.iter().filter_map(|worker| boot_of(worker, now)).collect();
            attach.insert(name.to_string(), attach_within(&latest));
            let took: Vec<Duration> = workers.iter().filter_map(|worker| worker.resume_took).collect();
            let within = attach_within(&took.iter().map(|took| Boot::Came(*took)).collect::<Vec<_>>());
            resumes.insert(name.to_string(), (nine_of_ten(took), within));
            workers.iter().for_each(|worker| add_record(&mut records, worker, now));
        }
        let mut known = self.learned.known();
        known.looked = Some(Instant::now());
        known.boots = boots;
        known.attach = attach;
        known.resumes = resumes;
        known.records = records;
        Ok(())
    }

    /// What these workers run, and how long such builds take.
    pub(super) async fn running(
        &self,
        workers: &HashSet<WorkerId>,
        leases: &[Lease],
    ) -> Result<HashMap<WorkerId, Vec<Running>>, FleetError> {
        let mut running: HashMap<WorkerId, Vec<Running>> = HashMap::new();
        let mut there = HashMap::new();
        for lease in leases.iter().filter(|lease| workers.contains(&lease.worker)) {
            let known = self.learned.known().running.remove(&lease.build);
            let (builder, since) = match known {
                Some(known) => known,
                None => match self.ctx.store.build(lease.build).await? {
                    Some(build) => (build.builder, build.matched),
                    None => continue,
                },
            };
            let usual = self.usual(&builder).await?;
            running.entry(lease.worker).or_default().push(Running { since, usual });
            there.insert(lease.build, (builder, since));
        }
        // Those that have ended are forgotten.
        self.learned.known().running = there;
        Ok(running)
    }

    /// How long a builder's last builds took that came to an end of their own.
    pub(super) async fn usual(&self, builder: &str) -> Result<Arc<Durations>, FleetError> {
        if let Some((looked, usual)) = self.learned.known().builds.get(builder)
            && looked.elapsed() < ANEW
        {
            return Ok(Arc::clone(usual));
        }
        let filter = BuildFilter { builder: Some(builder.to_owned()), ..BuildFilter::default() };
        let builds = self.ctx.store.builds(&filter, Page { before: None, limit: BUILDS }).await?;
        let ended = builds.iter().filter(|build| build.result.is_some_and(BuildResult::is_builds_own));
        let took = ended.filter_map(|build| Some(build.finished?.since(build.matched)));
        let usual = Arc::new(Durations::of(took));
        self.learned.known().builds.insert(builder.to_owned(), (Instant::now(), Arc::clone(&usual)));
        Ok(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::lone::Lone;
    use rouse_model::scaling::offers::LOST_AT_MOST;
    use rouse_model::worker::{Cause, ProviderRef};
    use rouse_store::testing::samples;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn seconds(of: u64) -> Duration {
        Duration::from_secs(of)
    }

    /// Accepted at 100.
    fn worker(attached: Option<i64>, phase: Phase, wanted: Wanted, gone: Option<i64>) -> Worker {
        Worker {
            accepted: Some(at(100)),
            attached: attached.map(at),
            gone: gone.map(at),
            phase,
            wanted,
            ..samples::worker(1)
        }
    }

    fn up() -> Phase {
        Phase::Up { at: ProviderRef("1".into()) }
    }

    fn cause(code: CauseCode, class: Option<FailureClass>) -> Cause {
        Cause::new(code, class, "it ended")
    }

    fn gone(code: CauseCode, class: Option<FailureClass>) -> Phase {
        Phase::Gone { cause: cause(code, class) }
    }

    #[test]
    fn a_boot_is_known_when_it_came_or_was_given_up() {
        let now = at(1_000);
        let late = || cause(CauseCode::Deadline, Some(FailureClass::Boot));
        let of = |worker: Worker| boot_of(&worker, now);
        assert_eq!(of(worker(Some(130), up(), Wanted::Run, None)), Some(Boot::Came(seconds(30))));
        assert_eq!(of(worker(None, up(), Wanted::Run, None)), None, "on its way");
        let ended = |phase, wanted, gone| of(worker(None, phase, wanted, gone));
        let given_up = |after| Some(Boot::GivenUp(seconds(after)));
        assert_eq!(ended(Phase::Gone { cause: late() }, Wanted::Run, Some(250)), given_up(150));
        let ends = Phase::Terminating { at: None, since: at(220), cause: late() };
        assert_eq!(ended(ends, Wanted::Run, None), given_up(120));
        assert_eq!(ended(up(), Wanted::End { cause: late() }, None), given_up(900));
        assert_eq!(ended(gone(CauseCode::Idle, None), Wanted::Run, Some(250)), None);
        let asked = Worker { accepted: None, ..worker(Some(130), up(), Wanted::Run, None) };
        assert_eq!(of(asked), None);
    }

    #[test]
    fn a_record_counts_what_came_what_was_taken_back_and_what_that_lost() {
        let preempted = || gone(CauseCode::Died, Some(FailureClass::Preempted));
        let mut records = HashMap::new();
        let mut add = |worker: Worker| add_record(&mut records, &worker, at(100_100));
        // For as long as it is there; taken back early and late; never came; called off before it came.
        add(worker(Some(130), up(), Wanted::Run, None));
        add(worker(Some(130), preempted(), Wanted::Run, Some(160)));
        add(worker(Some(130), preempted(), Wanted::Run, Some(50_100)));
        add(worker(None, gone(CauseCode::Died, Some(FailureClass::Boot)), Wanted::Run, Some(120)));
        add(worker(None, gone(CauseCode::Idle, None), Wanted::Run, Some(120)));
        add(Worker { accepted: None, ..worker(Some(130), up(), Wanted::Run, None) });
        add(Worker { offering: None, ..worker(Some(130), up(), Wanted::Run, None) });
        let expected = Record {
            launched: 4,
            came: 3,
            interrupted: 2,
            there: seconds(100_000 + 60 + 50_000 + 20),
            lost: seconds(60) + LOST_AT_MOST,
        };
        assert_eq!(records, HashMap::from([("c7i.2xlarge spot".to_owned(), expected)]));
    }

    #[test]
    fn the_class_that_was_asked_for_last_is_known_by_builder_and_by_pool() {
        let learned = Learned::default();
        let class = |pool: &str, digest: &str| ReuseClass {
            pool: pool.into(),
            spec_digest: digest.into(),
            ..crate::fleet::sizing::class_of_worker(&samples::worker(1))
        };
        learned.asks("unit", &class("big", "a"));
        learned.asks("lint", &class("big", "b"));
        learned.asks("docs", &class("small", "c"));
        assert_eq!(learned.latest("big"), Some(class("big", "b")));
        learned.asks("unit", &class("big", "a"));
        assert_eq!(learned.latest("big"), Some(class("big", "a")));
        let mut builders = learned.builders_of("big");
        builders.sort();
        assert_eq!((builders, learned.builders_of("other")), (vec!["lint".into(), "unit".into()], vec![]));

        learned.known().boots = HashMap::from([("big".to_owned(), SLOW), ("small".to_owned(), seconds(4))]);
        assert_eq!((learned.slow_boot("big"), learned.slow_boot("small")), (Some(SLOW), None));
        let mut slow = learned.slow();
        slow.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [("lint", class("big", "b")), ("unit", class("big", "a"))];
        assert_eq!(slow, expected.map(|(builder, class)| (builder.to_owned(), class, SLOW)));
    }

    const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {big: "127.0.0.1:1"}}}
providers: {cloud: {fake: {}}}
pools: {big: {fake: {on: cloud, image: "debian:12"}}}
builders: {unit: {pool: big, steps: [{run: make}]}}
"#;

    /// To the nearest second: it is kept as a fraction.
    fn whole(time: Duration) -> u64 {
        (time.as_millis() as u64 + 500) / 1_000
    }

    fn built(id: i64, builder: &str, took: u64) -> rouse_model::build::Build {
        let matched = at(1_000 * id);
        rouse_model::build::Build {
            builder: builder.into(),
            matched,
            result: Some(BuildResult::Success),
            finished: Some(matched + seconds(took)),
            ..samples::build(id)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_builds_take_is_learned_of_their_own_builder_and_every_now_and_then() {
        let lone = Lone::of(CONFIG).await;
        let insert = async |ids: std::ops::Range<i64>, builder, took| {
            let mut batch = rouse_store::Batch::new("test.builds");
            ids.for_each(|id| _ = batch.insert(&built(id, builder, took)));
            lone.ctx().store.commit(batch).await.unwrap();
        };
        insert(1..11, "unit", 60).await;
        insert(11..21, "other", 600).await;
        let longest = async || whole(lone.fleet.usual("unit").await.unwrap().longest());
        assert_eq!(longest().await, 60);
        insert(21..31, "unit", 90).await;
        tokio::time::advance(ANEW - Duration::from_millis(1)).await;
        assert_eq!(longest().await, 60, "it was looked at lately");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(longest().await, 90);
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_boots_take_is_learned_every_now_and_then() {
        let lone = Lone::of(CONFIG).await;
        let insert = async |id, boot| {
            let requested = lone.now();
            let attached = Some(requested + seconds(boot));
            let worker = Worker { requested, attached, ..lone.worker(id, "big", "cloud") };
            lone.insert(&[&worker]).await;
        };
        let boot = async || {
            lone.fleet.learn_boots().await.unwrap();
            lone.fleet.learned.boot("big")
        };
        insert(1, 40).await;
        assert_eq!(boot().await, Some(seconds(40)));
        insert(2, 70).await;
        tokio::time::advance(ANEW - Duration::from_millis(1)).await;
        assert_eq!(boot().await, Some(seconds(40)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(boot().await, Some(seconds(70)));
        insert(3, 90).await;
        assert_eq!(boot().await, Some(seconds(70)));
        lone.fleet.learned.look_anew();
        assert_eq!(boot().await, Some(seconds(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_on_workers_is_known_with_how_long_it_usually_takes() {
        let lone = Lone::of(CONFIG).await;
        let mut batch = rouse_store::Batch::new("test.builds");
        (1..11).for_each(|id| _ = batch.insert(&built(id, "unit", 60)));
        let runs = rouse_model::build::Build { result: None, finished: None, ..built(11, "unit", 0) };
        batch.insert(&runs);
        lone.ctx().store.commit(batch).await.unwrap();
        let lease = |worker, build: i64| Lease {
            worker: WorkerId(worker),
            slot: 0,
            build: BuildId(build),
            since: at(11_000),
        };
        let leases = [lease(1, 11), lease(2, 10), lease(3, 99)];
        let workers = HashSet::from([WorkerId(1), WorkerId(3)]);
        for _ in 0..2 {
            let running = lone.fleet.running(&workers, &leases).await.unwrap();
            let [one] = running[&WorkerId(1)].as_slice() else { panic!("{running:?}") };
            assert_eq!((one.since, whole(one.usual.longest()), running.len()), (at(11_000), 60, 1));
        }
    }

    #[test]
    fn one_that_is_resumed_comes_as_others_did_or_as_if_it_booted() {
        let learned = Learned::default();
        assert_eq!(learned.resume("big"), None);
        learned.known().boots = HashMap::from([("big".to_owned(), seconds(60))]);
        assert_eq!(learned.resume("big"), Some(seconds(60)));
        learned.known().resumes = HashMap::from([("big".to_owned(), (Some(seconds(8)), seconds(120)))]);
        assert_eq!((learned.resume("big"), learned.resume("small")), (Some(seconds(8)), None));
    }
}
