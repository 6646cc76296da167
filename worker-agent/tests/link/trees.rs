//! Nothing that a command starts outlives it, and nothing else is touched.

use rouse_agent_protocol::{CommandId, Kill, OutcomeKind, ToAgent};

use crate::agents::Agent;
use crate::rig::{Rig, alive, number_in, sh, sh_with, until};

const SHORT: Kill = Kill { interrupt_s: 0.2, terminate_s: 0.2 };

pub async fn a_daemon_left_behind_is_killed(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    // In a session of its own, reparented, without the command's environment, its output elsewhere.
    let script = "setsid env -i sh -c 'sh -c \"echo \\$\\$ > daemon; trap : TERM INT HUP; while :; do sleep 0.05; done\" > /dev/null 2>&1 &'
        while test ! -s daemon; do sleep 0.01; done; echo main is over";
    let outcome = link.succeed(sh(1, script)).await;
    assert!(outcome.leftovers >= 1, "{outcome:?}");
    let daemon = number_in(&rig.work("daemon")).await;
    assert!(!alive(daemon), "it is gone when the outcome is said");
    assert_eq!(rig.text(1), "main is over\n");
}

pub async fn a_daemon_that_holds_the_output_open_does_not_hold_the_command(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let outcome = link.succeed(sh(1, "setsid sleep 600 & echo $! > daemon; echo over")).await;
    assert!(outcome.leftovers >= 1);
    let daemon = number_in(&rig.work("daemon")).await;
    assert!(!alive(daemon));
    assert_eq!(rig.text(1), "over\n");
}

pub async fn what_still_writes_when_its_parent_is_over_may_finish(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let outcome = link.succeed(sh(1, "(sleep 0.05; echo last words) & echo first words")).await;
    assert_eq!(outcome.leftovers, 0);
    assert_eq!(rig.text(1), "first words\nlast words\n");
}

pub async fn a_whole_tree_is_stopped_and_the_neighbour_is_not(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    link.run(sh(2, "echo $$ > neighbour; (setsid sh -c 'echo $$ > nephew; exec sleep 600' &); while test ! -e gate; do sleep 0.01; done"))
        .await;
    let nephew = number_in(&rig.work("nephew")).await;
    let script = "set +e; trap '' INT TERM
        sh -c 'trap \"\" INT TERM; echo $$ > a; sleep 600; sleep 600' &
        setsid sh -c 'trap \"\" INT TERM; (setsid sh -c \"echo \\$\\$ > b; sleep 600; sleep 600\" &); sleep 600; sleep 600' &
        wait; wait; wait";
    link.run(sh_with(1, script, |run| run.kill = SHORT)).await;
    let (a, b) = (number_in(&rig.work("a")).await, number_in(&rig.work("b")).await);
    link.send(ToAgent::Stop { command: CommandId(1), reason: "r".into() }).await;
    link.finished(1).await;
    assert!(!alive(a) && !alive(b), "deeper processes too");
    let neighbour = number_in(&rig.work("neighbour")).await;
    assert!(alive(neighbour) && alive(nephew), "another command's processes live on, the reparented too");
    std::fs::write(rig.work("gate"), "").unwrap();
    let outcome = link.finished(2).await;
    assert_eq!((outcome.kind, outcome.leftovers), (OutcomeKind::Exited { code: 0 }, 1));
    assert!(!alive(nephew));
}

pub async fn a_tree_that_keeps_forking_is_killed(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    // Each generation starts the next and goes.
    let script = "cat > fork.sh <<'END'\ntrap '' INT TERM\necho x >> generations\nsleep 0.01\nsh fork.sh &\nEND\nsh fork.sh & wait; exec sleep 600";
    link.run(sh_with(1, script, |run| run.kill = SHORT)).await;
    let generations = || std::fs::read_to_string(rig.work("generations")).unwrap_or_default().len();
    until("it forks", || generations() > 10).await;
    link.send(ToAgent::Stop { command: CommandId(1), reason: "r".into() }).await;
    link.finished(1).await;
    let then = generations();
    link.succeed(sh(2, "sleep 0.2")).await;
    assert_eq!(generations(), then, "nothing of it goes on");
}

pub async fn orphans_are_collected(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    link.succeed(sh(1, "for i in 1 2 3 4 5 6 7 8; do (sh -c 'exit 0' &); done")).await;
    let agent = rig.pid().to_string();
    until("no zombie is left", || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        !entries.filter_map(|e| std::fs::read_to_string(e.path().join("stat")).ok()).any(|stat| {
            let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, r)| r).split_whitespace().collect();
            fields.first() == Some(&"Z") && fields.get(1) == Some(&agent.as_str())
        })
    })
    .await;
}
