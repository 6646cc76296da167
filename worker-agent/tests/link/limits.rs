//! Timeouts, stopping, and what happens when nobody takes the output.

use std::fs;
use std::time::{Duration, Instant};

use rouse_agent_protocol::{Channel, CommandId, Durable, Kill, OutcomeKind, StreamId, ToAgent};

use crate::agents::Agent;
use crate::rig::{Rig, alive, number_in, sh, sh_with, until};

pub async fn the_total_timeout_strikes(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let script = "sleep 600 & echo $! > child; while :; do echo alive; sleep 0.02; done";
    let began = Instant::now();
    let outcome = link
        .outcome(sh_with(1, script, |run| (run.timeout_s, run.silence_s) = (Some(0.4), Some(60.0))))
        .await;
    assert_eq!(outcome.kind, OutcomeKind::TimedOut { after_s: 0.4 });
    assert!(began.elapsed() >= Duration::from_millis(400));
    let child = number_in(&rig.work("child")).await;
    assert!(!alive(child), "the whole tree is gone when the outcome is said");
}

pub async fn the_silence_timeout_strikes_only_on_silence(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.1; done; exec sleep 600";
    let outcome = link.outcome(sh_with(1, script, |run| run.silence_s = Some(0.5))).await;
    assert_eq!(outcome.kind, OutcomeKind::Silent { after_s: 0.5 });
    assert_eq!(rig.text(1).lines().count(), 10);
}

pub async fn the_ladder_is_climbed_to_its_end(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let script = "trap 'echo int' INT; trap 'echo term' TERM; echo $$ > pid; while :; do sleep 0.05; done";
    let kill = Kill { interrupt_s: 0.3, terminate_s: 0.3 };
    // Without -e: the trap is run as the sleep is killed.
    link.run(sh_with(1, &format!("set +e; {script}"), |run| run.kill = kill)).await;
    let pid = number_in(&rig.work("pid")).await;
    let began = Instant::now();
    link.send(ToAgent::Stop { command: CommandId(1), reason: "cancelled by jo".into() }).await;
    let outcome = link.finished(1).await;
    assert_eq!(outcome.kind, OutcomeKind::Stopped { reason: "cancelled by jo".into() });
    assert!(began.elapsed() >= Duration::from_millis(600));
    // What the shell itself says of its children goes to stderr.
    assert_eq!(rig.channel(1, Channel::Out), "int\nterm\n");
    assert!(!alive(pid));
}

pub async fn a_rung_of_no_time_is_left_out_and_a_polite_process_ends_early(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let script = "set +e; trap 'echo int; exit 3' INT; trap 'echo term; exit 4' TERM; touch ready; while :; do sleep 0.02; done";
    let kill = Kill { interrupt_s: 0.0, terminate_s: 600.0 };
    link.run(sh_with(1, script, |run| run.kill = kill)).await;
    until("the trap is set", || rig.work("ready").exists()).await;
    link.send(ToAgent::Stop { command: CommandId(1), reason: "r".into() }).await;
    assert!(matches!(link.finished(1).await.kind, OutcomeKind::Stopped { .. }));
    assert_eq!(rig.channel(1, Channel::Out), "term\n");
}

pub async fn stopping_what_is_unknown_or_over_changes_nothing(agent: Agent) {
    let (_rig, mut link) = Rig::attached(agent).await;
    link.succeed(sh(1, "true")).await;
    for id in [1, 99] {
        link.send(ToAgent::Stop { command: CommandId(id), reason: "r".into() }).await;
    }
    link.finished.clear();
    link.succeed(sh(2, "true")).await;
    assert!(!link.finished.contains_key(&CommandId(1)));
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Take in all that comes until nothing comes for a while.
async fn until_quiet(link: &mut crate::rig::Link) {
    while tokio::time::timeout(Duration::from_millis(600), link.pump()).await.is_ok_and(|open| open) {}
}

pub async fn output_that_nobody_stores_blocks_its_writer_and_not_the_agents_memory(agent: Agent) {
    let (mut rig, link) = Rig::attached(agent).await;
    drop(link);
    let spool = 8 << 20;
    let mut link =
        rig.attach_with(|_, welcome| (welcome.spool_bytes, welcome.heartbeat_s) = (Some(spool), 30.0)).await;
    link.durable = false;
    let before = resident(rig.pid());
    // Neither timeout counts the time in which the agent would not read.
    let script = "echo $$ > pid; head -c 200000000 /dev/zero; echo done > done";
    let command = sh_with(1, script, |run| (run.timeout_s, run.silence_s) = (Some(30.0), Some(0.3)));
    link.run(command).await;
    let pid = number_in(&rig.work("pid")).await;
    link.received(1, spool as usize / 2).await;
    until_quiet(&mut link).await;
    until_quiet(&mut link).await;
    let received = rig.bytes(1).len();
    assert!(received < 64 << 20, "the agent read {received} bytes that nobody stored");
    assert!(alive(pid) && !rig.work("done").exists());
    assert!(resident(rig.pid()) < before + (48 << 20));
    // And on it goes.
    link.durable = true;
    link.send(ToAgent::Durable(Durable { stream: StreamId(1), to: received as u64 })).await;
    let outcome = link.finished(1).await;
    assert_eq!((outcome.kind, outcome.streams[0].to), (OutcomeKind::Exited { code: 0 }, 200_000_000));
    assert!(rig.bytes(1).iter().all(|b| *b == 0));
}

pub async fn a_blocked_command_can_be_stopped(agent: Agent) {
    let (mut rig, link) = Rig::attached(agent).await;
    drop(link);
    let mut link = rig.attach_with(|_, welcome| welcome.spool_bytes = Some(1 << 20)).await;
    link.durable = false;
    link.run(sh(1, "echo $$ > pid; exec cat /dev/zero")).await;
    let pid = number_in(&rig.work("pid")).await;
    link.received(1, 1 << 20).await;
    link.send(ToAgent::Stop { command: CommandId(1), reason: "r".into() }).await;
    until("it is killed", || !alive(pid)).await;
    until_quiet(&mut link).await;
    link.durable = true;
    let to = rig.bytes(1).len() as u64;
    link.send(ToAgent::Durable(Durable { stream: StreamId(1), to })).await;
    assert!(matches!(link.finished(1).await.kind, OutcomeKind::Stopped { .. }));
}
