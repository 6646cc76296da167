//! A small fleet that somebody plays with: one master in simulated time, its cloud, and agents that run what they are told.

use super::agents::Agents;
use super::town::{master, wish};
use crate::budgets;
use crate::ctx::Ctx;
use crate::explain::{
    Explanation, ReasonCode, WorkerCode, WorkerExplanation, explain_request, explain_worker,
};
use crate::requests::{self, Made, Wish};
use rouse_model::buildset::RequestState;
use rouse_model::decision::{Decision, DecisionCode};
use rouse_model::event::EventKind;
use rouse_model::money::Money;
use rouse_model::worker::{CauseCode, Phase, Worker};
use rouse_model::{BuildResult, RequestId, Timestamp, Trust};
use rouse_provider_fake::{Cloud, FakeKind, Fault, on};
use rouse_store::reads::{RequestFilter, WorkerFilter};
use rouse_store::testing::{Death, Memory};
use rouse_store::{Batch, Page};
use rouse_testkit::chance::Dice;
use rouse_testkit::clock::SimClock;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const START: Timestamp = Timestamp(1_764_032_400_000_000);
const LOOK: Duration = Duration::from_millis(500);
/// What is waited for comes within so long, simulated.
const SOON: Duration = Duration::from_secs(300);
/// A build that is not over by then never will be.
const LATEST: Duration = Duration::from_secs(3600);

pub(super) struct Stage {
    pub ctx: Arc<Ctx>,
    pub cloud: Arc<Cloud>,
    file: PathBuf,
    wishes: Arc<AtomicUsize>,
}

/// Plays on a fleet with this configuration. Builds take five seconds; agents may be given other ways.
pub(super) fn play<T>(
    seed: u64,
    config: &str,
    ways: impl FnOnce(&mut Agents),
    play: impl AsyncFnOnce(&Stage) -> T,
) -> T {
    World::of(seed, config).life(ways, play)
}

/// What outlives a master.
pub(super) struct World {
    seed: u64,
    clock: Arc<SimClock>,
    cloud: Arc<Cloud>,
    memory: Memory,
    folder: tempfile::TempDir,
    wishes: Arc<AtomicUsize>,
}

impl World {
    pub(super) fn of(seed: u64, config: &str) -> Self {
        let clock = Arc::new(SimClock::at(START));
        let cloud = Cloud::new(Arc::clone(&clock), seed, &["debian:12"]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rouse.yaml"), config).unwrap();
        Self { seed, clock, cloud, memory: Memory::new().unwrap(), folder, wishes: Arc::default() }
    }

    /// One master's life; when the play is over it is killed.
    pub(super) fn life<T>(&self, ways: impl FnOnce(&mut Agents), play: impl AsyncFnOnce(&Stage) -> T) -> T {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (clock, cloud) = (&self.clock, &self.cloud);
        runtime.block_on(async {
            clock.enter();
            let (store, _dead) = self.memory.open_for(Death::Never).await.unwrap();
            let stop = CancellationToken::new();
            let kind = FakeKind::new(Arc::clone(cloud));
            let (ctx, _logs) = master(("one", store), clock, kind, self.folder.path(), &stop).await;
            let stage = Stage {
                ctx: Arc::clone(&ctx),
                cloud: Arc::clone(cloud),
                file: self.folder.path().join("rouse.yaml"),
                wishes: Arc::clone(&self.wishes),
            };
            let mut dice = Dice::of(self.seed);
            let mut agents = Agents::default();
            agents.lasts = Some(Duration::from_secs(5));
            ways(&mut agents);
            let done = tokio::select! {
                () = agents.serve(&ctx, (clock, cloud), &mut dice, START) => unreachable!("they serve for ever"),
                done = play(&stage) => done,
            };
            clock.leave();
            done
        })
    }
}

impl Stage {
    pub(super) async fn wish(&self, builder: &str) -> RequestId {
        self.wish_of(builder, Trust::Trusted).await
    }

    pub(super) async fn wish_of(&self, builder: &str, trust: Trust) -> RequestId {
        let number = self.wishes.fetch_add(1, Ordering::Relaxed);
        let wish = Wish { trust, ..wish(number, builder) };
        let made =
            requests::make(&self.ctx, &self.ctx.config(), wish, Batch::new("test.wish")).await.unwrap();
        let Made::New { requests, .. } = made else { panic!("it was made before") };
        requests[0]
    }

    pub(super) async fn reload(&self, config: &str) {
        std::fs::write(&self.file, config).unwrap();
        self.ctx.revisions.reload("test").await.unwrap();
        self.ctx.nudges.fleet.notify_one();
    }

    pub(super) async fn explained(&self, request: RequestId) -> Explanation {
        explain_request(&self.ctx, request).await.unwrap().expect("it is there")
    }

    /// Waits until something can be said, and says it.
    pub(super) async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
        self.within(SOON, what, look).await
    }

    pub(super) async fn within<T>(
        &self,
        most: Duration,
        what: &str,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let since = self.ctx.now();
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            assert!(self.ctx.now().since(since) < most, "not within {most:?}: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is said of a request once its main reason is this one.
    pub(super) async fn says(&self, request: RequestId, code: ReasonCode) -> String {
        let mut last = None;
        let said = self.until(code.as_str(), async || {
            let answer = self.explained(request).await.primary;
            if last.as_ref() != Some(&answer) {
                eprintln!("request {request}: {} [{}]", answer.sentence, answer.code);
            }
            let said = (answer.code == code).then(|| answer.sentence.clone());
            last = Some(answer);
            said
        });
        said.await
    }

    /// A worker of a pool of which this is said.
    pub(super) async fn worker_says(&self, pool: &str, code: WorkerCode) -> WorkerExplanation {
        self.until(code.as_str(), async || {
            for worker in self.ctx.store.workers(&Default::default(), Page::default()).await.unwrap() {
                let answer = explain_worker(&self.ctx, worker).await.unwrap();
                if answer.worker.pool == pool && answer.code == code {
                    eprintln!("worker {}: {} [{}]", answer.worker.name, answer.sentence, code.as_str());
                    return Some(answer);
                }
            }
            None
        })
        .await
    }

    /// A pool's latest decision, once it is of this kind.
    pub(super) async fn decided(&self, pool: &str, code: DecisionCode) -> Decision {
        self.until(code.as_str(), async || {
            let latest = Page { before: None, limit: 1 };
            let decision = self.ctx.store.decisions(pool, latest).await.unwrap().pop()?;
            (decision.code == code).then_some(decision)
        })
        .await
    }

    /// The decision that a worker was launched by.
    pub(super) async fn decision_of(&self, worker: &Worker) -> Decision {
        let id = worker.decision.expect("the scaler asked for it");
        self.ctx.store.decision(id).await.unwrap().expect("it is kept")
    }

    /// Wishes for a build, and waits until it has succeeded.
    pub(super) async fn build(&self, builder: &str) {
        let request = self.wish(builder).await;
        let row = async || self.ctx.store.request(request).await.unwrap().unwrap();
        let done = async || Some(row().await).filter(|row| row.state == RequestState::Done);
        let done = self.within(LATEST, "the build is over", done).await;
        assert_eq!(done.result, Some(BuildResult::Success), "{done:#?}");
    }

    /// Until the next look.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(LOOK).await;
    }

    pub(super) async fn wait_for(&self, moment: Timestamp) {
        while self.ctx.now() < moment {
            self.pause().await;
        }
    }

    /// How long a request had waited when its build began; `None` where it has not.
    pub(super) async fn started_within(&self, request: RequestId) -> Option<Duration> {
        let request = self.ctx.store.request(request).await.unwrap().unwrap();
        let build = self.ctx.store.build(request.build?).await.unwrap().unwrap();
        Some(build.matched.since(request.created))
    }

    /// How many requests have ended so.
    pub(super) async fn ended_as(&self, result: BuildResult) -> usize {
        let filter = RequestFilter { state: Some(RequestState::Done), ..RequestFilter::default() };
        let page = Page { before: None, limit: 500 };
        let done = self.ctx.store.requests(&filter, page).await.unwrap();
        done.iter().filter(|request| request.result == Some(result)).count()
    }

    pub(super) async fn grant(&self, pool: &str, amount: Money, length: Duration) {
        budgets::grant(&self.ctx, pool, amount, length, "test: a release".to_owned()).await.unwrap();
    }

    /// How many events of a kind there were.
    pub(super) async fn events(&self, kind: EventKind) -> usize {
        let events = self.ctx.store.events_after(0, 100_000).await.unwrap();
        events.iter().filter(|event| event.body.kind == kind).count()
    }

    /// An instance dies by itself.
    pub(super) fn die(&self, worker: &Worker) {
        let agents = self.cloud.agents();
        let (_, token) = agents.iter().find(|(id, _)| *id == worker.id).expect("it runs");
        self.cloud.kill(token, "pulled the plug");
    }

    /// All workers that a pool has had, the oldest first.
    pub(super) async fn workers(&self, pool: &str) -> Vec<Worker> {
        let filter = WorkerFilter { pool: Some(pool.to_owned()), live: false };
        let mut workers = self.ctx.store.workers(&filter, Page { before: None, limit: 500 }).await.unwrap();
        workers.reverse();
        workers
    }

    /// Workers of a pool that were given up, the oldest first, and after how many seconds.
    pub(super) async fn given_up(&self, pool: &str) -> Vec<u64> {
        let workers = self.workers(pool).await;
        let after = |worker: &Worker| match &worker.phase {
            Phase::Gone { cause } | Phase::Terminating { cause, .. } if cause.code == CauseCode::Deadline => {
                Some(worker.gone.unwrap_or(self.ctx.now()).since(worker.accepted?).as_secs())
            }
            _ => None,
        };
        workers.iter().filter_map(after).collect()
    }

    pub(super) fn next_instance(&self, fate: Fault) {
        self.cloud.script(|script| script.plan(on::INSTANCE, fate));
    }
}
