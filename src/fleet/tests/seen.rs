//! What a provider shows against what is on record: a list that lags ends nobody, and what has ended is seen whoever speaks.

use super::stage::{Stage, play};
use rouse_model::worker::{CauseCode, Phase, Worker};
use rouse_provider_fake::{Fault, on};
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {fast: "127.0.0.1:1", steady: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}}
pools:
  fast: {fake: {on: cloud, image: "debian:12", boot: 2s}, deadlines: {attach: 10m}}
  steady: {fake: {on: cloud, image: "debian:12", boot: 40s}}
builders:
  on-fast: {pool: fast, steps: [{run: make}]}
  on-steady: {pool: steady, steps: [{run: make}]}
"#;

fn code(worker: &Worker) -> CauseCode {
    match &worker.phase {
        Phase::Gone { cause } | Phase::Terminating { cause, .. } => cause.code,
        _ => panic!("it has not ended: {worker:#?}"),
    }
}

/// From now on every look shows what was there so long ago.
fn lag(stage: &Stage, fault: fn(&mut rouse_testkit::chance::Dice) -> Fault) {
    stage.cloud.script(|script| {
        script.draw(on::LIST, 100, fault);
        script.draw(on::INSPECT, 100, fault);
    });
}

#[test]
fn a_worker_that_speaks_is_there_whatever_a_list_says() {
    let minutes = |agents: &mut super::agents::Agents| agents.lasts = Some(Duration::from_secs(300));
    play(1, CONFIG, minutes, async |stage| {
        lag(stage, |_| Fault::Lags(Duration::from_secs(3600)));
        stage.build("on-fast").await;
        assert_eq!(stage.workers("fast").await.len(), 1);
    });
}

#[test]
fn one_that_has_not_come_is_absent_when_it_was_so_twice() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            lag(stage, |_| Fault::Lags(Duration::from_secs(12)));
            stage.build("on-steady").await;
            assert_eq!(stage.workers("steady").await.len(), 1, "it was only not shown yet");
            stage.cloud.script(rouse_testkit::faults::Script::calm);
            // Somebody takes one away at its boot: it is not waited for until its deadline.
            stage.next_instance(Fault::Vanishes(Duration::ZERO));
            stage.build("on-fast").await;
            let workers = stage.workers("fast").await;
            let [vanished, _] = workers.as_slice() else { panic!("{workers:#?}") };
            let after = vanished.gone.unwrap().since(vanished.accepted.unwrap()).as_secs();
            assert!(
                code(vanished) == CauseCode::Died && (10..45).contains(&after),
                "{after} s: {vanished:#?}"
            );
        },
    );
}

#[test]
fn an_instance_that_has_ended_is_seen_though_its_agent_speaks_and_no_hint_came() {
    let haunted = |agents: &mut super::agents::Agents| {
        (agents.lasts, agents.speak_on) = (Some(Duration::from_secs(900)), true);
    };
    play(1, CONFIG, haunted, async |stage| {
        stage.cloud.script(|script| script.draw(on::HINT, 100, |_| Fault::Broken));
        stage.next_instance(Fault::Preempted(Duration::from_secs(20)));
        stage.build("on-fast").await;
        let workers = stage.workers("fast").await;
        let [ended, _] = workers.as_slice() else { panic!("{workers:#?}") };
        let after = ended.gone.unwrap().since(ended.attached.unwrap()).as_secs();
        assert!(code(ended) == CauseCode::Died && (15..45).contains(&after), "{after} s: {ended:#?}");
    });
}
