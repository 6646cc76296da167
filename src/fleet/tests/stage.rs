//! A small fleet that somebody plays with: one master in simulated time, its cloud, and agents that run what they are told.

use super::agents::Agents;
use super::town::master;
use crate::ctx::Ctx;
use crate::explain::{
    Explanation, ReasonCode, WorkerCode, WorkerExplanation, explain_request, explain_worker,
};
use crate::requests::{self, Made, Wish};
use rouse_model::decision::{Decision, DecisionCode};
use rouse_model::property::Properties;
use rouse_model::{RequestId, Timestamp, Trust};
use rouse_provider_fake::Cloud;
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

pub(super) struct Stage {
    pub ctx: Arc<Ctx>,
    pub cloud: Arc<Cloud>,
    file: PathBuf,
    wishes: AtomicUsize,
}

/// Plays on a fleet with this configuration, whose builds take so long.
pub(super) fn play(seed: u64, config: &str, builds: Duration, play: impl AsyncFnOnce(&Stage)) {
    let clock = Arc::new(SimClock::at(START));
    let cloud = Cloud::new(Arc::clone(&clock), seed, &["debian:12"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rouse.yaml");
    std::fs::write(&file, config).unwrap();
    let memory = Memory::new().unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        clock.enter();
        let (store, _dead) = memory.open_for(Death::Never).await.unwrap();
        let stop = CancellationToken::new();
        let (ctx, _logs) = master(store, &clock, &cloud, folder.path(), &stop).await;
        let stage = Stage { ctx: Arc::clone(&ctx), cloud: Arc::clone(&cloud), file, wishes: AtomicUsize::new(0) };
        let mut dice = Dice::of(seed);
        let mut agents = Agents::default();
        agents.lasts = Some(builds);
        tokio::select! {
            () = agents.serve(&ctx, (&clock, &cloud), &mut dice, START) => unreachable!("they serve for ever"),
            () = play(&stage) => {}
        }
        clock.leave();
    });
}

impl Stage {
    pub(super) async fn wish(&self, builder: &str) -> RequestId {
        self.wish_of(builder, Trust::Trusted).await
    }

    pub(super) async fn wish_of(&self, builder: &str, trust: Trust) -> RequestId {
        let number = self.wishes.fetch_add(1, Ordering::Relaxed);
        let wish = Wish {
            origin: format!("wish/{number}"),
            scheduler: None,
            reason: "wished".into(),
            owner: None,
            properties: Properties::default(),
            builders: vec![builder.to_owned()],
            stamps: Vec::new(),
            parent: None,
            trust,
            priority: 0,
            images: [].into(),
            merges: [].into(),
            approved: None,
        };
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
    pub(super) async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let since = self.ctx.now();
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            assert!(self.ctx.now().since(since) < SOON, "not within {SOON:?}: {what}");
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
}
