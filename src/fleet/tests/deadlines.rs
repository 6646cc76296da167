//! How long an agent may take to come, learned from those before it: a machine that hangs is noticed soon where machines boot fast, and none is given up
//! that is only slow.

use super::agents::Agents;
use super::town::{master, wish};
use crate::ctx::Ctx;
use crate::fleet::learned::ANEW;
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

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {fast: "127.0.0.1:1", slow: "127.0.0.1:1", fixed: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}}
pools:
  fast: {fake: {on: cloud, image: "debian:12", boot: 2s}}
  slow: {fake: {on: cloud, image: "debian:12", boot: 3m}}
  fixed: {fake: {on: cloud, image: "debian:12", boot: 2s}, deadlines: {attach: 5m}}
builders:
  on-fast: {pool: fast, steps: [{run: make}]}
  on-slow: {pool: slow, steps: [{run: make}]}
  on-fixed: {pool: fixed, steps: [{run: make}]}
"#;

struct Simulated {
    ctx: Arc<Ctx>,
    cloud: Arc<Cloud>,
    wished: usize,
}

impl Simulated {
    /// Wishes for a build, and waits until it has succeeded.
    async fn build(&mut self, builder: &str) {
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

    /// Workers of a pool that were given up, the oldest first, and after how many seconds.
    async fn given_up(&self, pool: &str) -> Vec<u64> {
        let filter = WorkerFilter { pool: Some(pool.to_owned()), live: false };
        let workers = self.ctx.store.workers(&filter, Page { before: None, limit: 500 }).await.unwrap();
        let after = |worker: &Worker| match &worker.phase {
            Phase::Gone { cause } | Phase::Terminating { cause, .. } if cause.code == CauseCode::Deadline => {
                Some(worker.gone.unwrap_or(self.ctx.now()).since(worker.accepted?).as_secs())
            }
            _ => None,
        };
        workers.iter().rev().filter_map(after).collect()
    }

    fn next_instance(&self, fate: Fault) {
        self.cloud.script(|script| script.plan(on::INSTANCE, fate));
    }
}

fn simulate(story: impl AsyncFnOnce(Simulated)) {
    let clock = Arc::new(SimClock::at(START));
    let cloud = Cloud::new(Arc::clone(&clock), 1, &["debian:12"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rouse.yaml"), CONFIG).unwrap();
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
        let mut dice = Dice::of(1);
        let simulated = Simulated { ctx: Arc::clone(&ctx), cloud: Arc::clone(&cloud), wished: 0 };
        tokio::select! {
            () = agents.serve(&ctx, (&clock, &cloud), &mut dice, START) => unreachable!("they serve for ever"),
            () = story(simulated) => {}
        }
        clock.leave();
    });
}

#[test]
fn a_hung_machine_is_noticed_soon_where_machines_boot_fast() {
    simulate(async |mut simulated| {
        for builder in ["on-fast", "on-fixed"] {
            for _ in 0..12 {
                simulated.build(builder).await;
            }
            simulated.next_instance(Fault::Mute);
            simulated.build(builder).await;
        }
        // One that hung makes nobody wait longer for the next one.
        simulated.build("on-fast").await;
        simulated.next_instance(Fault::Mute);
        simulated.build("on-fast").await;
        let fast = simulated.given_up("fast").await;
        assert!(fast.len() == 2 && fast.iter().all(|after| (60..75).contains(after)), "{fast:?}");
        let fixed = simulated.given_up("fixed").await;
        assert!(matches!(fixed.as_slice(), [300..315]), "{fixed:?}");
    });
}

#[test]
fn machines_that_boot_slower_than_anybody_knew_come_all_the_same() {
    simulate(async |mut simulated| {
        // Three minutes, where two are given to the first one.
        for _ in 0..3 {
            simulated.build("on-slow").await;
        }
        let slow = simulated.given_up("slow").await;
        assert!(matches!(slow.as_slice(), [120..135]), "{slow:?}");
        // One that is slower still is within what is known by then.
        simulated.next_instance(Fault::Slow(Duration::from_secs(300)));
        simulated.build("on-slow").await;
        assert_eq!(simulated.given_up("slow").await.len(), 1);
    });
}

#[test]
fn a_pool_that_becomes_slow_is_waited_for() {
    simulate(async |mut simulated| {
        for _ in 0..12 {
            simulated.build("on-fast").await;
        }
        for _ in 0..2 {
            simulated.next_instance(Fault::Slow(Duration::from_secs(100)));
        }
        simulated.build("on-fast").await;
        let fast = simulated.given_up("fast").await;
        assert!(matches!(fast.as_slice(), [60..75]), "the second had twice as long: {fast:?}");
        // What came is looked at so often.
        tokio::time::sleep(ANEW).await;
        simulated.next_instance(Fault::Slow(Duration::from_secs(200)));
        simulated.build("on-fast").await;
        assert_eq!(simulated.given_up("fast").await.len(), 1, "now it is known");
    });
}
