//! Files that a command writes, as streams of their own. An agent that cannot follow any does not say that it can, and is asked for none.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use rouse_agent_protocol::{
    Command, CommandId, CommandState, FILE_LOGS, FileLog, Outcome, StreamId, ToAgent,
};
use sha2::{Digest, Sha256};

use crate::agents::Agent;
use crate::rig::{Link, Rig, number_in, sh_with, until};

/// None where the agent follows no files.
async fn attached(agent: Agent) -> Option<(Rig, Link)> {
    let (rig, link) = Rig::attached(agent).await;
    let can = link.hello.features.iter().any(|feature| feature == FILE_LOGS);
    assert!(can || !agent.is_ours());
    can.then_some((rig, link))
}

/// A script that writes files; the first is stream 101, and so on.
fn writing(script: &str, files: &[&str]) -> Command {
    let log = |(number, path): (i64, &&str)| FileLog { path: (*path).to_owned(), stream: StreamId(number) };
    sh_with(1, script, |run| run.logs = (101..).zip(files).map(log).collect())
}

fn note(outcome: &Outcome, stream: i64) -> Option<&str> {
    let end = outcome.streams.iter().find(|end| end.stream == StreamId(stream)).expect("it has an end");
    end.note.as_deref()
}

/// Waits in a script until the test says so.
fn gate(name: &str) -> String {
    format!("while test ! -e {name}; do sleep 0.01; done")
}

fn open(rig: &Rig, gate: &str) {
    fs::write(rig.work(gate), "").unwrap();
}

pub async fn files_are_followed_while_they_grow_and_read_to_their_end(agent: Agent) {
    let Some((rig, mut link)) = attached(agent).await else { return };
    let script = format!(
        "echo out; {}; mkdir -p deep/er; echo one > deep/er/a; {}; printf two >> deep/er/a; printf '\\0\\377' > b",
        gate("begin"),
        gate("more")
    );
    link.run(writing(&script, &["deep/er/a", "./b"])).await;
    link.received(1, 4).await;
    open(&rig, "begin");
    link.received(101, 4).await;
    assert!(link.finished.is_empty(), "it came while the command ran");
    open(&rig, "more");
    let outcome = link.finished(1).await;
    assert_eq!((rig.text(1).as_str(), rig.text(101).as_str()), ("out\n", "one\ntwo"));
    assert_eq!(rig.bytes(102), b"\0\xff");
    let ends: Vec<_> = outcome.streams.iter().map(|end| (end.stream.0, end.to, end.note.clone())).collect();
    assert_eq!(ends, [(1, 4, None), (101, 7, None), (102, 2, None)]);
}

pub async fn what_was_there_before_the_command_is_left_out(agent: Agent) {
    let Some((rig, mut link)) = attached(agent).await else { return };
    let files = ["appended", "same", "shorter", "longer", "untouched"];
    for name in files {
        let mut file = fs::File::create(rig.work(name)).unwrap();
        file.write_all(b"of an earlier build\n").unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
    let script = "echo new >> appended; echo 'of an earlier build' > same; echo of > shorter; echo 'of a later build, longer' > longer";
    let outcome = link.succeed(writing(script, &files)).await;
    let texts: Vec<String> = (101..106).map(|stream| rig.text(stream)).collect();
    assert_eq!(texts, ["new\n", "of an earlier build\n", "of\n", "of a later build, longer\n", ""]);
    let notes: Vec<bool> = (101..106).map(|stream| note(&outcome, stream).is_some()).collect();
    assert_eq!(notes, [false, false, false, false, true]);
    assert!(note(&outcome, 105).is_some_and(|note| note.contains("nothing was written")), "{outcome:?}");
}

pub async fn a_file_that_is_written_anew_is_read_from_its_beginning(agent: Agent) {
    let Some((rig, mut link)) = attached(agent).await else { return };
    let steps = [
        ("echo first", 6),
        // Cut, and short.
        ("echo 2 > log", 8),
        // Cut, and longer than before by the time anybody looks.
        ("echo third, and longer > log", 26),
        // Replaced, with something written to the one before just then.
        ("printf end >> log; mv log log.1; echo fourth > log", 36),
        // Gone, and there again.
        ("rm log; echo fifth > log", 42),
    ];
    let script: String = steps
        .iter()
        .zip(1..)
        .map(|((text, _), n)| {
            let text = text.replace("echo first", "echo first > log");
            format!("{text}; {}; ", gate(&format!("gate{n}")))
        })
        .collect();
    link.run(writing(&script, &["log"])).await;
    for ((_, length), n) in steps.iter().zip(1..) {
        link.received(101, *length).await;
        open(&rig, &format!("gate{n}"));
    }
    let outcome = link.finished(1).await;
    assert_eq!(rig.text(101), "first\n2\nthird, and longer\nendfourth\nfifth\n");
    assert!(note(&outcome, 101).is_some_and(|note| note.contains("anew 4 times")), "{outcome:?}");
}

pub async fn what_is_no_file_within_is_not_read_and_is_said(agent: Agent) {
    let Some((rig, mut link)) = attached(agent).await else { return };
    let outside = rig.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious\n").unwrap();
    symlink(&outside, rig.work("out")).unwrap();
    symlink(outside.join("precious"), rig.work("link")).unwrap();
    let absolute = outside.join("precious").to_string_lossy().into_owned();
    // The last one becomes a trap while the command runs.
    let script = format!(
        "mkfifo pipe; mkdir dir; echo mine > trap; {}; ln -sf {absolute} trap; {}",
        gate("set"),
        gate("end")
    );
    let files = ["never", "link", "out/precious", "../outside/precious", &absolute, "pipe", "dir", "trap"];
    link.run(writing(&script, &files)).await;
    link.received(108, 5).await;
    open(&rig, "set");
    until("the trap is set", || rig.work("trap").is_symlink()).await;
    open(&rig, "end");
    let outcome = link.finished(1).await;
    for stream in 101..108 {
        assert_eq!(rig.text(stream), "");
    }
    assert_eq!(rig.text(108), "mine\n");
    assert_eq!(note(&outcome, 101), Some("no file was ever at `never`"));
    for (stream, why) in (102..).zip(["link", "link", "`..`", "absolute", "not a file", "not a file", "link"])
    {
        assert!(note(&outcome, stream).is_some_and(|note| note.contains(why)), "{stream} {outcome:?}");
    }
}

pub async fn a_dropped_connection_loses_and_doubles_nothing_of_a_file(agent: Agent) {
    let Some((mut rig, mut link)) = attached(agent).await else { return };
    let script = "i=0; while test $i -lt 40; do seq 1 130000 >> log; echo $i; i=$((i + 1)); done";
    link.run(writing(script, &["log"])).await;
    let mut drops = 0;
    for megabytes in [1, 3, 8, 15, 22, 30] {
        link.received(101, megabytes << 20).await;
        if link.finished.is_empty() {
            drops += 1;
            drop(link);
            link = rig.attach().await;
        }
    }
    let known = link.hello.commands.iter().find_map(|c| match &c.state {
        CommandState::Finished(outcome) => Some((**outcome).clone()),
        CommandState::Running {} => None,
    });
    let outcome = match known {
        Some(outcome) => outcome,
        None => link.finished(1).await,
    };
    let all = fs::read(rig.work("log")).unwrap();
    assert!(drops >= 2, "only {drops} drops came in time");
    assert_eq!(outcome.streams[1].to, all.len() as u64);
    link.received(101, all.len()).await;
    assert!(Sha256::digest(rig.bytes(101)) == Sha256::digest(all));
}

pub async fn a_file_waits_where_nobody_stores_and_nothing_of_it_is_lost(agent: Agent) {
    let Some((mut rig, link)) = attached(agent).await else { return };
    drop(link);
    let mut link = rig.attach_with(|_, welcome| welcome.spool_bytes = Some(1 << 20)).await;
    link.durable = false;
    link.run(writing("seq 1 5000000 > log; touch written", &["log"])).await;
    until("it is written", || rig.work("written").exists()).await;
    link.received(101, 12 << 20).await;
    let whole = fs::read(rig.work("log")).unwrap();
    assert!(whole.len() > 30 << 20);
    drop(link);
    let mut link = rig.attach().await;
    let report = link.hello.streams.iter().find(|report| report.stream == StreamId(101)).unwrap();
    assert!(report.to - report.from < 24 << 20, "the agent holds {report:?}");
    link.finished(1).await;
    assert!(Sha256::digest(rig.bytes(101)) == Sha256::digest(whole));
}

pub async fn secrets_in_files_are_masked(agent: Agent) {
    let Some((rig, mut link)) = attached(agent).await else { return };
    let script = format!("printf 'a hunter2-an' > log; {}; printf 'd-more b hunter2' >> log", gate("rest"));
    let mut command = writing(&script, &["log", "hunter2-and-more.log"]);
    command.masks = vec!["hunter2-and-more".into()];
    link.run(command).await;
    link.received(101, 2).await;
    assert_eq!(rig.text(101), "a ");
    open(&rig, "rest");
    let outcome = link.finished(1).await;
    assert_eq!(rig.text(101), format!("a {} b hunter2", "*".repeat(16)));
    assert!(note(&outcome, 102).is_some_and(|note| note.contains("`****************.log`")), "{outcome:?}");
}

pub async fn a_file_that_grows_is_no_silence(agent: Agent) {
    let Some((_rig, mut link)) = attached(agent).await else { return };
    let mut command = writing("for i in 1 2 3 4 5 6 7 8; do echo $i >> log; sleep 0.4; done", &["log"]);
    if let rouse_agent_protocol::Action::Run(run) = &mut command.action {
        run.silence_s = Some(2.0);
    }
    link.succeed(command).await;
}

pub async fn what_is_forgotten_is_gone_with_its_files(agent: Agent) {
    let Some((mut rig, mut link)) = attached(agent).await else { return };
    link.run(writing("echo $$ > pid; while :; do echo more >> log; sleep 0.01; done", &["log"])).await;
    let pid = number_in(&rig.work("pid")).await;
    link.received(101, 5).await;
    link.send(ToAgent::Forget { commands: vec![CommandId(1)] }).await;
    until("it is killed", || !crate::rig::alive(pid)).await;
    let mut held = true;
    while held {
        drop(link);
        link = rig.attach().await;
        held = !link.hello.commands.is_empty();
        assert!(held || link.hello.streams.is_empty(), "{:?}", link.hello.streams);
    }
}
