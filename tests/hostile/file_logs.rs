//! Logs of files under a hostile agent: it writes its own and no other, what it says of them is masked and cut; and one that knows no such
//! thing is not asked for it, which is said.

use rouse_agent_protocol::{
    Action, CommandReport, CommandState, FILE_LOGS, OutcomeKind, StreamEnd, StreamReport, ToMaster,
};

use super::agent::{Ground, outcome};
use crate::harness::{Bench, Scratch, wait};

const CONFIG: &str = r#"
secrets: {token: {file: FILE}}
pools: {here: {local: {}, accepts: any, max: 1}}
builders:
  work: {steps: [{name: work, run: 'true', logs: {tests: a/b.log}, env: {TOKEN: secret:token}}]}
"#;
const EXITED: OutcomeKind = OutcomeKind::Exited { code: 0 };

fn bench() -> (Ground, Bench) {
    let scratch = Scratch::new();
    let secret = scratch.path().join("token");
    std::fs::write(&secret, "sesame-4711").expect("written");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    let ground = Ground::new(&scratch);
    let config = CONFIG.replace("FILE", &format!("'{}'", secret.display()));
    let bench = Bench::within(scratch, &config, ground.options(&[]));
    (ground, bench)
}

fn worker(bench: &Bench) -> i64 {
    bench.api.until("a worker", "/workers", wait::A_BUILD, |workers| workers["items"][0]["id"].as_i64())
}

#[test]
fn what_is_said_of_a_file_is_masked_and_cut_and_survives_the_connection() {
    let (ground, bench) = bench();
    let request = bench.start("work");
    let mut agent = ground.agent(worker(&bench));
    let knows = || vec![FILE_LOGS.to_owned()];
    agent.join(|hello| hello.features = knows()).expect("it is the worker's own");
    let command = agent.command();
    let Action::Run(run) = &command.action else { panic!("{command:?}") };
    let [file] = run.logs.as_slice() else { panic!("{command:?}") };
    assert_eq!(file.path, "build/work/a/b.log");
    let (own, stream) = (run.stream, file.stream);
    agent.print(stream, 0, 1, b"one ses");
    agent.print(stream, 7, 1, b"ame-4711 two");

    // Another connection, which holds the rest of it; the log is known to be this command's before the command is sent again.
    let reports =
        || vec![StreamReport { stream: own, from: 0, to: 0 }, StreamReport { stream, from: 0, to: 26 }];
    let welcome = agent.join(|hello| {
        hello.features = knows();
        hello.commands = vec![CommandReport { id: command.id, state: CommandState::Running {} }];
        hello.streams = reports();
    });
    let known = welcome.expect("it comes back").durable.into_iter().find(|durable| durable.stream == stream);
    let known = known.expect("the master speaks of it").to;
    assert!(known <= 19, "{known}");
    let whole = b"one sesame-4711 two three\n";
    agent.print(stream, known, 1, &whole[known as usize..]);
    let mut said = outcome(EXITED, Some(StreamEnd { stream: own, to: 0, note: None }));
    let note = Some(format!("sesame-4711 {}", "x".repeat(1 << 20)));
    said.streams.push(StreamEnd { stream, to: 26, note });
    agent.say(&ToMaster::Finished { command: command.id, outcome: Box::new(said) });
    let build = bench.ended(request);
    build.must_be("success");
    let log = &build.step("work")["logs"][1];
    assert_eq!((log["name"].as_str(), log["sealed"].as_bool()), (Some("tests"), Some(true)), "{log:#}");
    let note = log["note"].as_str().unwrap_or_default();
    assert!(note.starts_with("*********** xxx") && note.len() < 5_000, "{} bytes", note.len());
    let text = bench.api.bytes(&format!("/logs/{}/raw", log["id"]));
    assert_eq!(String::from_utf8_lossy(&text), "one *********** two three\n");
}

#[test]
fn an_agent_that_cannot_follow_files_is_not_asked_and_it_is_said() {
    let (ground, bench) = bench();
    let request = bench.start("work");
    let mut agent = ground.agent(worker(&bench));
    agent.join(|hello| hello.features.clear()).expect("it is the worker's own");
    let command = agent.command();
    let Action::Run(run) = &command.action else { panic!("{command:?}") };
    assert_eq!(run.logs, []);
    agent.finish(&command, EXITED, 0);
    let build = bench.ended(request);
    build.must_be("success");
    let (_, summary) = build.end_of("work");
    assert!(summary.starts_with("ok; ") && summary.contains("cannot follow files"), "{summary}");
    let log = &build.step("work")["logs"][1];
    assert_eq!((log["name"].as_str(), log["sealed"].as_bool()), (Some("tests"), Some(true)), "{log:#}");
    assert!(log["note"].as_str().is_some_and(|note| note.contains("cannot follow files")), "{log:#}");
}
