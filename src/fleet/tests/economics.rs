//! What it is worth to say what is coming: the master's own schedulers, fleet, matching and builds over simulated time, with machines that take a minute to
//! boot and serve one build.

use super::agents::Agents;
use super::town::master;
use crate::ctx::Ctx;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::source::ChangeSet;
use rouse_model::{ChangeSetId, Timestamp, Trust};
use rouse_provider_fake::{Cloud, FakeKind};
use rouse_store::reads::BuildFilter;
use rouse_store::testing::{Death, Memory};
use rouse_store::{Batch, Page};
use rouse_testkit::chance::{self, Dice};
use rouse_testkit::clock::SimClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const START: Timestamp = Timestamp(1_764_032_400_000_000);
const FOR: Duration = Duration::from_secs(5 * 3600);

const BUILD: Duration = Duration::from_secs(150);
/// Until it is known how long machines boot and builds take, nobody can look ahead.
const LEARNING: Duration = Duration::from_secs(1500);

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {boxes: "127.0.0.1:1"}}}
codebases: {app: {git: "https://git.example.org/app.git", poll: never}}
providers: {cloud: {fake: {latency: 200ms, capacity: 50}}}
pools: {boxes: {fake: {on: cloud, image: "debian:12", boot: 60s}, max: 20}}
builders:
  unit: {pool: boxes, steps: [{run: make test}]}
  package: {pool: boxes, steps: [{run: make package}]}
schedulers:
  clock: {every: 10m, builders: [unit]}
  calm: {changes: {app: {branch: main}}, settle: 4m, builders: [unit]}
  after-clock: {after: clock, builders: [package]}
  after-calm: {after: calm, builders: [package]}
"#;

/// How late the builds of each scheduler began, in seconds, and how many machines served none.
#[derive(Debug, Default)]
struct Account {
    late: BTreeMap<String, Vec<f64>>,
    /// Before anything was learned.
    first: f64,
    launched: usize,
    wasted: usize,
}

#[test]
fn announced_work_finds_its_machine_up() {
    let seed = chance::seed_asked_for().unwrap_or_else(chance::fresh_seed);
    let account = run(seed);
    let again = chance::again(seed, "announced_work_finds_its_machine_up");
    assert!(account.first > 60.0, "nobody could know how long the first machine boots: {account:?}");
    for (scheduler, late) in &account.late {
        let worst = late.iter().copied().fold(0.0, f64::max);
        let mean = late.iter().sum::<f64>() / late.len() as f64;
        eprintln!("{scheduler}: {} builds, {mean:.1} s late in the mean, {worst:.1} s at worst", late.len());
        assert!(worst <= 2.0, "{scheduler}: {late:?}; again: {again}");
        assert!(late.len() >= 10, "{scheduler}: {late:?}");
    }
    assert_eq!(account.late.len(), 4);
    eprintln!("{} machines, of which {} served nothing", account.launched, account.wasted);
    // A push moves what was announced for a branch that was almost quiet.
    assert!(account.wasted * 5 <= account.launched, "{account:?}; again: {again}");
}

fn run(seed: u64) -> Account {
    let clock = Arc::new(SimClock::at(START));
    let cloud = Cloud::new(Arc::clone(&clock), seed, &["debian:12"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rouse.yaml"), CONFIG).unwrap();
    let memory = Memory::new().unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        clock.enter();
        let (store, _dead) = memory.open_for(Death::Never).await.unwrap();
        let stop = CancellationToken::new();
        let (ctx, _logs) = master(("one", store), &clock, FakeKind::new(Arc::clone(&cloud)), folder.path(), &stop).await;
        tokio::spawn(crate::schedulers::run(Arc::clone(&ctx), stop.clone()));
        let mut dice = Dice::of(seed);
        let mut agents = Agents::default();
        agents.lasts = Some(BUILD);
        let mut pushes = Dice::of(seed + 1);
        tokio::select! {
            () = agents.serve(&ctx, (&clock, &cloud), &mut dice, START) => unreachable!("they serve for ever"),
            () = push(&ctx, &mut pushes) => {}
        }
        let account = account(&ctx).await;
        clock.leave();
        account
    })
}

/// Changes come now and then, some of them while the branch is not quiet yet.
async fn push(ctx: &Ctx, dice: &mut Dice) {
    while ctx.now().since(START) < FOR {
        let pause = if dice.below(4) == 0 { dice.below(230) } else { 300 + dice.below(900) };
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let id: ChangeSetId = ctx.store.next_id().await.unwrap();
        let mut batch = Batch::new("test.push");
        batch.insert(&ChangeSet {
            id,
            project: "default".into(),
            codebase: "app".into(),
            branch: "main".into(),
            revision: format!("{:040x}", id.0),
            base: None,
            trust: Trust::Trusted,
            commits: 1,
            seen_at: ctx.now(),
            noticed_by: "test".into(),
        });
        batch.event(NewEvent {
            kind: EventKind::ChangeSetSeen,
            version: 1,
            subject: format!("change_set/{id}"),
            project: "default".into(),
            at: ctx.now(),
            payload: serde_json::json!({}),
        });
        ctx.store.commit(batch).await.unwrap();
        ctx.nudges.schedulers.notify_one();
    }
}

async fn account(ctx: &Ctx) -> Account {
    let all = Page { before: None, limit: 10_000 };
    let mut account = Account::default();
    for build in ctx.store.builds(&BuildFilter::default(), all).await.unwrap() {
        let buildset = ctx.store.buildset(build.buildset).await.unwrap().unwrap();
        // The oldest comes last.
        account.first = build.matched.since(build.requested).as_secs_f64();
        if build.requested.since(START) > LEARNING {
            let late = account.first;
            account.late.entry(buildset.scheduler.unwrap()).or_default().push(late);
        }
    }
    let workers = ctx.store.workers(&Default::default(), all).await.unwrap();
    account.launched = workers.len();
    account.wasted = workers.iter().filter(|worker| worker.builds_done == 0 && worker.gone.is_some()).count();
    assert!(account.launched > 50, "it is not for nothing: {account:?}");
    account
}
