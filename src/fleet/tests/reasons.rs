//! What is said of requests, workers and pools in situations that come about by themselves: the code, and what it names.

use super::agents::Agents;
use super::stage::{Stage, play};
use crate::explain::{ReasonCode, WorkerCode, decision};
use crate::requests;
use rouse_model::approval::Given;
use rouse_model::decision::DecisionCode;
use rouse_model::worker::WorkerEvent;
use rouse_model::worker::{Cause, CauseCode};
use rouse_model::{Trust, WorkerId};
use rouse_provider_fake::{Fault, on};
use rouse_testkit::chance::{self, Dice};
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {one: "127.0.0.1:1", many: "127.0.0.1:1", closed: "127.0.0.1:1", ghost: "127.0.0.1:1"}}}
providers:
  cloud: {fake: {latency: 200ms}}
  away: {fake: {}, drain: true}
pools:
  one: {fake: {on: cloud, image: "debian:12", boot: 20s}, max: 1, reuse: {builds: 5, idle: 30s}}
  many: {fake: {on: cloud, image: "debian:12", boot: 20s}, max: 9, accepts: any, min: 1, reuse: {builds: 9, idle: 30s}}
  closed: {fake: {on: away, image: "debian:12"}}
  ghost: {fake: {on: cloud, image: "debian:0"}}
locks: {key: 1}
projects: {shop: {}}
builders:
  single: {pool: one, steps: [{run: make}]}
  other: {pool: one, project: shop, steps: [{run: make}]}
  unit: {pool: many, steps: [{run: make}]}
  far: {pool: closed, steps: [{run: make}]}
  broken: {pool: ghost, steps: [{run: make}]}
  signed: {pool: many, locks: {key: exclusive}, steps: [{run: make}]}
  asked: {pool: many, approval: {of: all}, steps: [{run: make}]}
"#;

fn slowly(agents: &mut Agents) {
    agents.lasts = Some(Duration::from_secs(60));
}

fn for_hours(agents: &mut Agents) {
    agents.lasts = Some(Duration::from_secs(36_000));
}

async fn worker_of(stage: &Stage, pool: &str) -> String {
    let live = stage.ctx.store.live_workers().await.unwrap();
    live.iter().find(|worker| worker.pool == pool).expect("there is one").name.clone()
}

/// Holds a sentence against what it must name.
#[track_caller]
fn names(sentence: &str, all: &[&str]) {
    for name in all {
        assert!(sentence.contains(name), "{name}: {sentence}");
    }
}

#[test]
fn a_request_that_waits_for_a_worker_says_which() {
    play(1, CONFIG, slowly, async |stage| {
        stage.cloud.script(|script| script.plan(on::RESOLVE, Fault::Late(Duration::from_secs(5))));
        let first = stage.wish("single").await;
        names(&stage.says(first, ReasonCode::ResolvingImage).await, &["what to launch is being worked out"]);
        let said = stage.says(first, ReasonCode::Provisioning).await;
        names(&said, &[&worker_of(stage, "one").await]);
        let said = stage.says(first, ReasonCode::Claimed).await;
        let build = stage.explained(first).await.request.build.expect("its build");
        names(&said, &[&format!("build {build} runs it")]);
        let second = stage.wish("single").await;
        let said = stage.says(second, ReasonCode::PoolFull).await;
        names(&said, &["maximum of 1 worker ", "1 busy"]);
        let third = stage.wish("single").await;
        names(&stage.says(third, ReasonCode::PoolFull).await, &["1 request is ahead"]);
        let wish = stage.explained(third).await.request;
        requests::cancel(&stage.ctx, wish, "anna does not want it").await.unwrap();
        stage.ctx.nudges.fleet.notify_one();
        names(&stage.says(third, ReasonCode::Cancelled).await, &["anna does not want it"]);
        stage.says(first, ReasonCode::Done).await;
    });
}

#[test]
fn a_request_that_nobody_can_run_now_says_who_keeps_it() {
    play(2, CONFIG, slowly, async |stage| {
        let stranger = stage.wish_of("single", Trust::Untrusted).await;
        names(&stage.says(stranger, ReasonCode::NoPoolAccepts).await, &["`one`", "untrusted"]);
        let far = stage.wish("far").await;
        names(&stage.says(far, ReasonCode::ProvidersFull).await, &["`away`", "drain"]);
        let asked = stage.wish("asked").await;
        stage.says(asked, ReasonCode::Approval).await;
        let holder = stage.wish("signed").await;
        stage.says(holder, ReasonCode::Claimed).await;
        let build = stage.explained(holder).await.request.build.expect("its build");
        let second = stage.wish("signed").await;
        names(&stage.says(second, ReasonCode::LockTaken).await, &["`key`", &format!("build {build}")]);
        let refused = stage.wish_of("signed", Trust::Untrusted).await;
        names(&stage.says(refused, ReasonCode::LockRefused).await, &["`key`"]);
    });
}

#[test]
fn a_request_whose_launches_fail_says_of_what() {
    play(3, CONFIG, slowly, async |stage| {
        let broken = stage.wish("broken").await;
        names(&stage.says(broken, ReasonCode::Done).await, &["debian:0"]);
        stage.cloud.script(|script| script.plan(on::INSTANCE, Fault::Dies));
        let unit = stage.wish("unit").await;
        let said = stage.says(unit, ReasonCode::LaunchFailedBackingOff).await;
        names(&said, &["pool `many`", "exit status 1"]);
        stage.says(unit, ReasonCode::Done).await;
    });
}

#[test]
fn a_worker_says_what_it_is_there_for() {
    play(4, CONFIG, slowly, async |stage| {
        let request = stage.wish("single").await;
        let coming = stage.worker_says("one", WorkerCode::Coming).await;
        let launch = coming.launched_by.expect("it names its decision");
        assert_eq!((launch.code, launch.reckoning.launched()), (DecisionCode::Launch, 1));
        names(&decision::sentence(&launch), &["launched 1", "1 waiting"]);
        let busy = stage.worker_says("one", WorkerCode::Busy).await;
        let build = stage.explained(request).await.request.build.expect("its build");
        names(&busy.sentence, &[&format!("build {build}")]);
        names(&stage.worker_says("one", WorkerCode::Idle).await.sentence, &["may for 30 s"]);
        let gone = stage.worker_says("one", WorkerCode::Gone).await;
        let end = gone.ended_by.expect("it names its decision");
        assert_eq!((end.code, end.reckoning.ended[0].0), (DecisionCode::End, gone.worker.id));
        assert_eq!(
            end.id,
            stage.decided("one", DecisionCode::Rest).await.id.0.checked_sub(1).unwrap().into()
        );

        stage.wish("unit").await;
        names(&stage.worker_says("many", WorkerCode::Kept).await.sentence, &["pool `many` is to have 1"]);
        let kept: WorkerId = stage.worker_says("many", WorkerCode::Kept).await.worker.id;
        stage.wish("unit").await;
        stage.worker_says("many", WorkerCode::Busy).await;
        let cause = Cause::new(CauseCode::Operator, None, "anna drains it");
        let event = WorkerEvent::Drain { cause };
        crate::workers::apply(&stage.ctx, kept, "test.drain", &event, |_, _| {}).await.unwrap();
        names(&stage.worker_says("many", WorkerCode::Draining).await.sentence, &["build", "anna drains it"]);
    });
}

#[test]
fn a_pool_says_why_it_has_no_more() {
    play(5, CONFIG, slowly, async |stage| {
        stage.wish("single").await;
        let second = stage.wish("single").await;
        let full = stage.decided("one", DecisionCode::PoolFull).await;
        names(&decision::sentence(&full), &["1 more wanted", "maximum of 1", "2 waiting"]);
        stage.wish("far").await;
        let away = stage.decided("closed", DecisionCode::ProvidersFull).await;
        names(&decision::sentence(&away), &["1 more wanted", "no provider has room"]);
        stage.says(second, ReasonCode::Done).await;
        // The idle worker of one project makes room for another's.
        stage.wish("other").await;
        let displaced = stage.worker_says("one", WorkerCode::Gone).await;
        assert_eq!(displaced.worker.project, "default");
        names(
            &decision::sentence(&displaced.ended_by.expect("a decision")),
            &["to make room for another class"],
        );
    });
}

/// Obstacles in the way of builder `b`, each of which goes by what its reason's help says.
#[derive(Debug, Clone)]
struct Obstacles {
    accepts: bool,
    drain: bool,
    lock: bool,
    refused: bool,
    full: bool,
    approval: bool,
}

impl Obstacles {
    fn drawn(dice: &mut Dice) -> Self {
        let mut toss = || dice.below(2) == 0;
        Self { accepts: toss(), drain: toss(), lock: toss(), refused: toss(), full: toss(), approval: toss() }
    }

    fn config(&self) -> String {
        format!(
            r#"version: 1
server: {{agents: {{advertise: {{p: "127.0.0.1:1", side: "127.0.0.1:1"}}}}}}
providers:
  cloud: {{fake: {{latency: 200ms}}}}
  own: {{fake: {{latency: 200ms}}, drain: {drain}}}
pools:
  p: {{fake: {{on: own, image: "debian:12", boot: 20s}}, max: {max}, accepts: {accepts}}}
  side: {{fake: {{on: cloud, image: "debian:12", boot: 20s}}, max: 9, accepts: any}}
locks: {{key: {{count: {count}, accepts: {refused}}}}}
builders:
  b: {{pool: p, {approval}locks: {{key: 1}}, steps: [{{run: make}}]}}
  holder: {{pool: side, locks: {{key: 1}}, steps: [{{run: make}}]}}
  occupant: {{pool: p, steps: [{{run: make}}]}}
"#,
            drain = self.drain,
            max = if self.full { 1 } else { 9 },
            accepts = if self.accepts { "trusted" } else { "any" },
            count = if self.lock { 1 } else { 9 },
            refused = if self.refused { "trusted" } else { "any" },
            approval = if self.approval { "approval: {of: all}, " } else { "" },
        )
    }
}

/// Does what the reason's help says; false where it says nothing, so that one need only wait.
async fn do_as_told(stage: &Stage, code: ReasonCode, obstacles: &mut Obstacles) -> bool {
    let obstacle = match code {
        ReasonCode::NoPoolAccepts => &mut obstacles.accepts,
        ReasonCode::ProvidersFull => &mut obstacles.drain,
        ReasonCode::LockTaken => &mut obstacles.lock,
        ReasonCode::LockRefused => &mut obstacles.refused,
        ReasonCode::PoolFull => &mut obstacles.full,
        ReasonCode::Approval => &mut obstacles.approval,
        _ => return false,
    };
    assert!(std::mem::take(obstacle), "{code} was mended before, or was none");
    if code != ReasonCode::Approval {
        stage.reload(&obstacles.config()).await;
    }
    true
}

#[test]
fn doing_what_why_not_asks_makes_it_start() {
    let first = chance::seed_asked_for().unwrap_or_else(chance::fresh_seed);
    let seeds = if chance::seed_asked_for().is_some() { 1 } else { 24 };
    let mut mended = 0;
    for seed in first..first + seeds {
        eprintln!("again: {}", chance::again(seed, "doing_what_why_not_asks_makes_it_start"));
        let mut obstacles = Obstacles::drawn(&mut Dice::of(seed));
        // Those that take the room and the lock come first, when nothing else is in the way yet.
        let free =
            Obstacles { accepts: false, drain: false, refused: false, approval: false, ..obstacles.clone() };
        play(seed, &free.config(), for_hours, async |stage| {
            for (there, builder) in [(obstacles.lock, "holder"), (obstacles.full, "occupant")] {
                if there {
                    let before = stage.wish(builder).await;
                    stage.says(before, ReasonCode::Claimed).await;
                }
            }
            stage.reload(&obstacles.config()).await;
            let request = stage.wish_of("b", Trust::Untrusted).await;
            let mut told = Vec::new();
            loop {
                let answer = stage.explained(request).await;
                let code = answer.primary.code;
                if code == ReasonCode::Claimed {
                    break;
                }
                let acted = do_as_told(stage, code, &mut obstacles).await;
                assert_eq!(acted, answer.primary.help.is_some(), "{code}: {:?}", answer.primary.help);
                if acted && code == ReasonCode::Approval {
                    let given = Given { by: "anna".into(), reason: None, at: stage.ctx.now() };
                    requests::approve(&stage.ctx, answer.request.clone(), &given).await.unwrap();
                }
                told.extend(acted.then_some(code));
                let waited = stage.ctx.now().since(answer.request.created);
                assert!(
                    waited < Duration::from_secs(300),
                    "{told:?} were mended, and now: {:?}",
                    answer.primary
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            eprintln!("seed {seed}: {told:?}");
            mended += told.len();
        });
    }
    assert!(seeds == 1 || mended > 24, "{mended} obstacles in {seeds} seeds");
}

#[test]
fn a_start_is_foretold() {
    const LAUNCHES: usize = 200;
    const LEARNING: usize = 20;
    let seed = chance::seed_asked_for().unwrap_or_else(chance::fresh_seed);
    play(
        seed,
        CONFIG,
        |_| {},
        async |stage| {
            // From twenty seconds to fifty, and one in twenty more than a minute longer.
            stage.cloud.script(|script| {
                script.draw(on::INSTANCE, 100, |dice| {
                    let much = if dice.below(20) == 0 { 80 } else { 0 };
                    Fault::Slow(Duration::from_secs(dice.below(15) + dice.below(15) + much))
                });
            });
            let config = CONFIG.replace("reuse: {builds: 5, idle: 30s}", "reuse: {builds: 1}");
            stage.reload(&config.replace("min: 1", "min: 0")).await;
            let (mut good, mut at_worst) = (0, 0);
            for launch in 0..LEARNING + LAUNCHES {
                let request = stage.wish("single").await;
                let asked = stage.ctx.now();
                let starts = stage.explained(request).await.starts;
                let build =
                    stage.until("it starts", async || stage.explained(request).await.request.build).await;
                let began = stage.ctx.store.build(build).await.unwrap().expect("its build").matched;
                stage.says(request, ReasonCode::Done).await;
                stage
                    .until("the worker is gone", async || {
                        stage.ctx.store.live_workers().await.unwrap().is_empty().then_some(())
                    })
                    .await;
                if launch < LEARNING {
                    continue;
                }
                let (starts, took) = (starts.expect("an estimate"), began.since(asked).as_secs_f64());
                good += usize::from((starts.after.as_secs_f64() - took).abs() <= took / 2.0);
                at_worst += usize::from(took <= starts.at_worst.as_secs_f64());
            }
            eprintln!("{good} of {LAUNCHES} within 50 %, {at_worst} not later than at worst");
            let again = chance::again(seed, "a_start_is_foretold");
            assert!(good * 10 >= LAUNCHES * 8, "{good} of {LAUNCHES}; again: {again}");
            assert!(at_worst * 10 >= LAUNCHES * 8, "{at_worst} of {LAUNCHES}; again: {again}");
        },
    );
}
