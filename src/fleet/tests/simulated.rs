//! One master in simulated time, whose builds are wished for one after the other.

use super::agents::Agents;
use super::town::{master, wish};
use crate::ctx::Ctx;
use crate::requests::{self, Made};
use rouse_model::worker::{CauseCode, Phase, Worker};
use rouse_model::{BuildResult, Timestamp};
use rouse_provider_fake::{Cloud, Fault, on};
use rouse_store::reads::WorkerFilter;
use rouse_store::testing::{Death, Memory};
use rouse_store::{Batch, Page};
use rouse_testkit::chance::Dice;
use rouse_testkit::clock::SimClock;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const START: Timestamp = Timestamp(1_764_032_400_000_000);
/// Simulated; a build that is not over by then never will be.
const LATEST: Duration = Duration::from_secs(3600);

pub(super) struct Simulated {
    pub ctx: Arc<Ctx>,
    pub cloud: Arc<Cloud>,
    wished: usize,
}

impl Simulated {
    /// Wishes for a build, and waits until it has succeeded.
    pub(super) async fn build(&mut self, builder: &str) {
        self.wished += 1;
        let (ctx, wished) = (&self.ctx, wish(self.wished, builder));
        let made = requests::make(ctx, &ctx.config(), wished, Batch::new("test.wish")).await;
        let (Made::New { buildset, .. } | Made::Before { buildset }) = made.unwrap();
        let began = ctx.now();
        let done = loop {
            let row = ctx.store.buildset(buildset).await.unwrap().unwrap();
            if row.done.is_some() {
                break row;
            }
            assert!(ctx.now().since(began) < LATEST, "{row:#?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        assert_eq!(done.result, Some(BuildResult::Success), "{done:#?}");
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

/// One master's life on a cloud; `agents` may be given ways of their own.
pub(super) fn simulate(config: &str, agents: impl FnOnce(&mut Agents), story: impl AsyncFnOnce(Simulated)) {
    let set = agents;
    let clock = Arc::new(SimClock::at(START));
    let cloud = Cloud::new(Arc::clone(&clock), 1, &["debian:12"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rouse.yaml"), config).unwrap();
    let memory = Memory::new().unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        clock.enter();
        let (store, _dead) = memory.open_for(Death::Never).await.unwrap();
        let stop = CancellationToken::new();
        let (ctx, _logs) = master(store, &clock, &cloud, folder.path(), &stop).await;
        let mut agents = Agents::default();
        agents.lasts = Some(Duration::from_secs(5));
        set(&mut agents);
        let mut dice = Dice::of(1);
        let simulated = Simulated { ctx: Arc::clone(&ctx), cloud: Arc::clone(&cloud), wished: 0 };
        tokio::select! {
            () = agents.serve(&ctx, (&clock, &cloud), &mut dice, START) => unreachable!("they serve for ever"),
            () = story(simulated) => {}
        }
        clock.leave();
    });
}
