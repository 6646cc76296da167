//! Resume by level: a dropped connection, a restarted master and another master are the same case.

use std::fs;
use std::time::{Duration, Instant};

use rouse_agent_protocol::{CommandId, CommandState, FailureClass, OutcomeKind, StreamId, ToAgent};
use sha2::{Digest, Sha256};

use crate::agents::Agent;
use crate::rig::{PATIENCE, Rig, argv, number_in, sh, until};

const ONCE: &str = "echo ran >> log";

pub async fn an_id_runs_once_however_often_it_is_asked_for(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    let gate = "while test ! -e gate; do sleep 0.01; done";
    let command = sh(1, &format!("{ONCE}; {gate}"));
    for _ in 0..3 {
        link.run(command.clone()).await;
    }
    until("it runs", || rig.work("log").exists()).await;
    drop(link);
    // In the welcome, too, though the hello says that it runs.
    let again = command.clone();
    let mut link = rig.attach_with(|_, welcome| welcome.run.push(again)).await;
    assert!(matches!(link.hello.commands[0].state, CommandState::Running {}));
    fs::write(rig.work("gate"), "").unwrap();
    link.finished(1).await;
    // When it is over, and when it is over and forgotten.
    link.run(command.clone()).await;
    link.succeed(argv(2, &["true"])).await;
    link.send(ToAgent::Forget { commands: vec![CommandId(1), CommandId(2)] }).await;
    link.finished.clear();
    let outcome = link.outcome(command).await;
    assert!(matches!(outcome.kind, OutcomeKind::Failed { class: FailureClass::Infrastructure, .. }));
    assert_eq!(fs::read_to_string(rig.work("log")).unwrap(), "ran\n");
}

pub async fn a_dropped_connection_loses_and_doubles_nothing(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    // About 40 MB in small and large writes, with the connection dropped again and again meanwhile.
    let script = "i=0; while test $i -lt 40; do seq 1 130000; i=$((i + 1)); done | tee all";
    link.run(sh(1, script)).await;
    let mut drops = 0;
    for megabytes in [1, 3, 8, 9, 15, 22, 30] {
        link.received(1, megabytes << 20).await;
        if link.finished.is_empty() {
            drops += 1;
            drop(link);
            link = rig.attach().await;
        }
    }
    let outcome = match link.hello.commands.iter().find_map(|c| match &c.state {
        CommandState::Finished(outcome) => Some((**outcome).clone()),
        CommandState::Running {} => None,
    }) {
        Some(outcome) => outcome,
        None => link.finished(1).await,
    };
    let end = outcome.streams[0].to;
    link.received(1, end as usize).await;
    let all = fs::read(rig.work("all")).unwrap();
    assert!(drops >= 3, "only {drops} drops came in time");
    assert_eq!(end, all.len() as u64);
    assert!(Sha256::digest(rig.bytes(1)) == Sha256::digest(all));
}

pub async fn what_is_not_durable_is_sent_again(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    link.durable = false;
    link.succeed(sh(1, "seq 1 50000")).await;
    let all = rig.bytes(1);
    drop(link);
    let mut kept = 0;
    // The master kept less and less of it: each time it gets the rest again, and only the rest.
    for keep in [all.len() - 10, all.len() / 2, 100_000, 0] {
        let mut link = rig
            .attach_with(|hello, welcome| {
                let report = hello.streams.iter().find(|s| s.stream == StreamId(1)).unwrap();
                assert_eq!((report.from, report.to), (0, all.len() as u64));
                welcome.durable.clear();
                kept = keep;
            })
            .await;
        link.durable = false;
        let before = rig.record.lock().unwrap().repeated;
        // A later command's end comes after all that was waiting.
        link.succeed(argv(1000 + keep as i64, &["true"])).await;
        assert!(rig.record.lock().unwrap().repeated > before, "nothing came again");
        assert!(rig.bytes(1) == all);
    }
    assert_eq!(kept, 0);
}

pub async fn what_is_durable_is_not_sent_again(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    link.durable = false;
    link.succeed(sh(1, "seq 1 50000")).await;
    drop(link);
    let mut link = rig.attach().await;
    link.durable = false;
    link.succeed(argv(2, &["true"])).await;
    assert_eq!(rig.record.lock().unwrap().repeated, 0);
}

pub async fn a_restarted_master_finds_everything(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    link.run(sh(1, "echo $$ > pid; echo before; while test ! -e gate; do sleep 0.01; done; echo after"))
        .await;
    let pid = number_in(&rig.work("pid")).await;
    drop(link);
    rig.vanish();
    // Some of it happens while no master is there.
    fs::write(rig.work("gate"), "").unwrap();
    until("it ends meanwhile", || !crate::rig::alive(pid)).await;
    rig.listen();
    rig.term += 1;
    let mut link = rig.attach().await;
    match &link.hello.commands[0].state {
        CommandState::Finished(outcome) => assert_eq!(outcome.kind, OutcomeKind::Exited { code: 0 }),
        CommandState::Running {} => drop(link.finished(1).await),
    }
    link.received(1, 13).await;
    assert_eq!(rig.text(1), "before\nafter\n");
}

pub async fn outcomes_are_kept_until_they_are_forgotten(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    let outcome = link.succeed(sh(1, "echo x")).await;
    for _ in 0..3 {
        drop(link);
        link = rig.attach().await;
        let [report] = link.hello.commands.as_slice() else { panic!("{:?}", link.hello.commands) };
        assert_eq!(report.state, CommandState::Finished(Box::new(outcome.clone())));
    }
    drop(link);
    let mut link = rig.attach_with(|_, welcome| welcome.forget.push(CommandId(1))).await;
    // Something that comes back, so that the welcome was dealt with.
    link.succeed(sh(2, "echo y")).await;
    drop(link);
    let link = rig.attach().await;
    assert_eq!(link.hello.commands.iter().map(|c| c.id).collect::<Vec<_>>(), [CommandId(2)]);
    assert_eq!(link.hello.streams.iter().map(|s| s.stream).collect::<Vec<_>>(), [StreamId(2)]);
}

pub async fn what_is_forgotten_while_it_runs_is_killed_and_gone(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    link.run(sh(1, "echo $$ > pid; while :; do echo more; sleep 0.01; done")).await;
    let pid = number_in(&rig.work("pid")).await;
    link.send(ToAgent::Forget { commands: vec![CommandId(1)] }).await;
    until("it is killed", || !crate::rig::alive(pid)).await;
    link.succeed(argv(2, &["true"])).await;
    drop(link);
    let mut commands = Vec::new();
    while commands != [CommandId(2)] {
        // Its last processes may be on their way out.
        let link = rig.attach().await;
        commands = link.hello.commands.iter().map(|c| c.id).collect();
    }
}

pub async fn a_connection_that_is_silent_is_given_up(agent: Agent) {
    let (mut rig, link) = Rig::attached(agent).await;
    drop(link);
    let (mut socket, _) = rig.greet().await;
    let mut welcome = rig.welcome();
    welcome.grace_s = 0.3;
    socket.send(&ToAgent::Welcome(Box::new(welcome))).await;
    // Held open and silent: the agent comes again by itself.
    let mut link = rig.attach().await;
    link.succeed(argv(1, &["true"])).await;
    drop(socket);
}

pub async fn heartbeats_come(agent: Agent) {
    let (mut rig, link) = Rig::attached(agent).await;
    drop(link);
    let mut link = rig.attach_with(|_, welcome| welcome.heartbeat_s = 0.05).await;
    link.until("heartbeats", |link| link.heartbeats >= 3).await;
    // Also while the master talks: what it says is no word of the agent's.
    let (before, limit) = (link.heartbeats, Instant::now() + PATIENCE);
    while link.heartbeats < before + 3 {
        assert!(Instant::now() < limit, "the agent is silent while the master talks");
        link.send(ToAgent::Heartbeat {}).await;
        let _ = tokio::time::timeout(Duration::from_millis(10), link.pump()).await;
    }
}
