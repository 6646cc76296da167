//! How an agent ends: told, drained, left alone, signalled. Nothing of it is left over.

use std::fs;
use std::time::{Duration, Instant};

use rouse_agent_protocol::{CommandId, FailureClass, OutcomeKind, ToAgent, exit};

use crate::agents::Agent;
use crate::rig::{Rig, alive, argv, number_in, sh, until};

/// Longer than a loaded machine needs for a command.
const EXPIRY: f64 = 2.0;

const STUBBORN: &str = "set +e; trap '' INT TERM HUP; setsid sh -c 'trap \"\" INT TERM; echo $$ > child; while :; do sleep 1; done' & echo $$ > main; while :; do sleep 1; done";

async fn stubborn(rig: &Rig, link: &mut crate::rig::Link) -> [u32; 2] {
    link.run(sh(1, STUBBORN)).await;
    [number_in(&rig.work("main")).await, number_in(&rig.work("child")).await]
}

/// Beside the work directory nothing is left.
fn check_nothing_left(rig: &Rig) {
    let left: Vec<_> =
        fs::read_dir(rig.dir.path().join("place")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["work"]);
}

pub async fn end_kills_everything_and_exits_with_0(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    let pids = stubborn(&rig, &mut link).await;
    link.send(ToAgent::End { reason: "no more work".into() }).await;
    assert_eq!(rig.exit_code().await, exit::ENDED);
    assert!(!pids.into_iter().any(alive));
    check_nothing_left(&rig);
}

pub async fn sigterm_kills_everything_too(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    let pids = stubborn(&rig, &mut link).await;
    let pid = rustix::process::Pid::from_child(rig.agent.as_ref().unwrap());
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(rig.exit_code().await, exit::SIGNALLED);
    assert!(!pids.into_iter().any(alive));
    check_nothing_left(&rig);
}

pub async fn the_dead_man_strikes_when_no_master_is_heard(agent: Agent) {
    let (mut rig, link) = Rig::attached(agent).await;
    drop(link);
    let mut link = rig.attach_with(|_, welcome| welcome.expiry_s = 3.0).await;
    let pids = stubborn(&rig, &mut link).await;
    rig.vanish();
    let began = Instant::now();
    drop(link);
    assert_eq!(rig.exit_code().await, exit::EXPIRED);
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert!(!pids.into_iter().any(alive));
    check_nothing_left(&rig);
}

pub async fn the_dead_man_strikes_when_no_master_ever_comes(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.vanish();
    rig.join.expiry_s = 0.3;
    rig.start();
    assert_eq!(rig.exit_code().await, exit::EXPIRED);
    assert!(!rig.join_file().exists());
}

pub async fn a_master_that_says_anything_keeps_the_agent_and_so_does_hold(agent: Agent) {
    let (mut rig, link) = Rig::attached(agent).await;
    drop(link);
    let mut link = rig.attach_with(|_, welcome| welcome.expiry_s = EXPIRY).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs_f64(EXPIRY * 1.5) {
        link.send(ToAgent::Heartbeat {}).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    link.send(ToAgent::Hold { until_s: 3600.0 }).await;
    link.succeed(argv(1, &["true"])).await;
    rig.vanish();
    drop(link);
    tokio::time::sleep(Duration::from_secs_f64(EXPIRY * 1.5)).await;
    rig.listen();
    let mut link = rig.attach_with(|_, welcome| welcome.expiry_s = EXPIRY).await;
    link.send(ToAgent::Hold { until_s: 0.0 }).await;
    link.succeed(argv(2, &["true"])).await;
    rig.vanish();
    drop(link);
    assert_eq!(rig.exit_code().await, exit::EXPIRED);
}

pub async fn a_draining_agent_finishes_what_it_has_and_takes_nothing(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    link.run(sh(1, "touch runs; while test ! -e gate; do sleep 0.01; done; echo done")).await;
    until("it runs", || rig.work("runs").exists()).await;
    link.send(ToAgent::Drain { on: true }).await;
    let outcome = link.outcome(argv(2, &["true"])).await;
    assert!(matches!(outcome.kind, OutcomeKind::Failed { class: FailureClass::Infrastructure, .. }));
    drop(link);
    let mut link = rig.attach_with(|hello, welcome| welcome.drain = hello.draining).await;
    assert!(link.hello.draining);
    fs::write(rig.work("gate"), "").unwrap();
    assert_eq!(link.finished(1).await.kind, OutcomeKind::Exited { code: 0 });
    assert!(!link.drained);
    link.send(ToAgent::Forget { commands: vec![CommandId(1), CommandId(2)] }).await;
    link.until("it says that it is drained", |link| link.drained).await;
    // And it can be taken back.
    link.send(ToAgent::Drain { on: false }).await;
    link.succeed(argv(3, &["true"])).await;
}

pub async fn a_join_document_that_is_none_is_said_and_ends_it(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.join.endpoints.clear();
    rig.start();
    assert_eq!(rig.exit_code().await, exit::USAGE);
    assert!(rig.stderr().contains("endpoint"), "{}", rig.stderr());
}
