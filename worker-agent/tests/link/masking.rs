//! Secrets do not leave the worker, however they are broken up.

use rouse_agent_protocol::{Channel, Command, OutcomeKind};

use crate::agents::Agent;
use crate::rig::{Rig, argv, sh, sh_with, until};

const SECRET: &str = "hunter2-and-more";

fn masked(mut command: Command, values: &[&str]) -> Command {
    command.masks = values.iter().map(|v| (*v).into()).collect();
    command
}

pub async fn a_secret_is_masked_at_any_split(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    // One write for each byte, so that reads see any split; both channels, each with its own.
    let script = "i=0; while test $i -lt 12; do echo \"<$S>\"; i=$((i+1)); done | while IFS= read -r -n 1 c 2>/dev/null; do printf '%s' \"${c:-|}\"; done
        printf '%s' \"$S\" | cut -c 1-7 | tr -d '\\n'; printf '%s' \"${S#???????}\"; printf ' %s err' \"$S\" >&2; printf ' hunter2-and-mo'";
    let bash =
        rouse_agent_protocol::Program::Script { interpreter: vec!["bash".into()], text: script.into() };
    let command = crate::rig::run(1, bash, |run| drop(run.env.insert("S".into(), Some(SECRET.into()))));
    link.succeed(masked(command, &[SECRET])).await;
    let stars = "*".repeat(SECRET.len());
    let expected = format!("{}{stars} hunter2-and-mo", format!("<{stars}>|").repeat(12));
    assert_eq!(
        rig.channel(1, Channel::Out),
        expected,
        "lengths stay, and what only begins like a secret is shown"
    );
    assert_eq!(rig.channel(1, Channel::Err), format!(" {stars} err"));
}

pub async fn large_output_is_masked_throughout(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let script = "awk 'BEGIN { for (i = 0; i < 300000; i++) print i, ENVIRON[\"S\"] }'";
    let command = sh_with(1, script, |run| drop(run.env.insert("S".into(), Some(SECRET.into()))));
    link.succeed(masked(command, &[SECRET, "other"])).await;
    let text = rig.text(1);
    assert_eq!(text.lines().count(), 300_000);
    let stars = "*".repeat(SECRET.len());
    assert!(text.lines().enumerate().all(|(n, line)| line == format!("{n} {stars}")));
}

pub async fn a_key_of_several_lines_is_masked_line_by_line(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let key = "-----BEGIN KEY-----\nabcdefgh\nijklmnop\n-----END KEY-----\n";
    let command = sh_with(1, "printf '%s' \"$K\" | sed 's/^/log: /'; echo ijklmnop", |run| {
        run.env.insert("K".into(), Some(key.into()));
        run.tty = true;
    });
    link.succeed(masked(command, &[key])).await;
    let text = rig.text(1).replace("\r\n", "\n");
    assert!(!text.contains("abcdefgh") && !text.contains("ijklmnop") && !text.contains("KEY"), "{text}");
    assert_eq!(text.lines().count(), 5);
}

/// A private key in all the forms in which it may come out.
pub async fn hundreds_of_values_are_masked_alike(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let values: Vec<String> = (0..300).map(|i| format!("v{i:03}{}", "x".repeat(i % 40 + 4))).collect();
    let script = "awk 'BEGIN { for (i = 0; i < 300; i++) { s = sprintf(\"v%03d\", i); for (j = 0; j < i % 40 + 4; j++) s = s \"x\"; print i, s \".\" } }'";
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    link.succeed(masked(sh(1, script), &values)).await;
    let expected: String =
        values.iter().enumerate().map(|(i, value)| format!("{i} {}.\n", "*".repeat(value.len()))).collect();
    assert_eq!(rig.text(1), expected);
}

pub async fn messages_are_masked_too(agent: Agent) {
    let (_rig, mut link) = Rig::attached(agent).await;
    let outcome = link.outcome(masked(argv(1, &["no-such-hunter2-and-more"]), &[SECRET])).await;
    let OutcomeKind::CouldNotStart { message } = outcome.kind else { panic!("{:?}", outcome.kind) };
    assert!(message.contains("no-such-") && !message.contains("hunter2"), "{message}");
}

pub async fn what_may_be_a_secret_is_held_back_while_it_may(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let script =
        "printf 'say hunter2'; touch said; while test ! -e gate; do sleep 0.01; done; printf -- '-and-less'";
    link.run(masked(sh(1, script), &[SECRET])).await;
    until("it is written", || rig.work("said").exists()).await;
    link.received(1, 4).await;
    assert_eq!(rig.text(1), "say ");
    std::fs::write(rig.work("gate"), "").unwrap();
    link.finished(1).await;
    assert_eq!(rig.text(1), "say hunter2-and-less");
}
