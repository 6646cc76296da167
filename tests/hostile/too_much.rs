//! What is too much, too long or out of its place: cut or refused, and said on the build's page.

use std::os::unix::net::UnixStream;

use rouse_agent_protocol::{Action, Command, OutcomeKind, ToAgent, TransferredFile, Upload};

use super::agent::{Agent, Ground};
use super::must_say;
use crate::harness::{Bench, Build, Scratch, wait};

const CONFIG: &str = r#"
pools: {here: {local: {}, reuse: {builds: 100, idle: 10m}}}
builders:
  run: {steps: [{name: work, run: 'true'}]}
  keep: {steps: [{name: keep, upload: {paths: '*', as: debs}}]}
  props: {steps: [{name: read, properties: {from: a.json}}]}
"#;
const FRAME: usize = 256 * 1024;

/// A master that keeps a mebibyte of each log, with one worker.
struct World {
    agent: Agent,
    bench: Bench,
    worker: i64,
}

impl World {
    fn new() -> (Self, Command, i64) {
        let scratch = Scratch::new();
        let ground = Ground::new(&scratch);
        let bench = Bench::within(scratch, CONFIG, ground.options(&["--log-limit", "1 MiB"]));
        let request = bench.start("run");
        let worker = bench
            .api
            .until("a worker", "/workers", wait::A_BUILD, |workers| workers["items"][0]["id"].as_i64());
        let mut agent = ground.agent(worker);
        agent.join(|_| {}).expect("it is the worker's own");
        let command = agent.command();
        (Self { agent, bench, worker }, command, request)
    }

    /// Starts a builder and gets its command.
    fn begin(&self, builder: &str) -> (Command, i64) {
        let request = self.bench.start(builder);
        (self.agent.command(), request)
    }

    /// Ends a command, and with it its build.
    fn end(&self, command: &Command, request: i64, kind: OutcomeKind) -> Build {
        self.agent.finish(command, kind, 0);
        self.bench.ended(request)
    }
}

fn upload(command: &Command) -> &Upload {
    match &command.action {
        Action::Upload(upload) => upload,
        other => panic!("no upload: {other:?}"),
    }
}

fn sent(files: &[(&str, u64)]) -> OutcomeKind {
    let file = |(path, size): &(&str, u64)| TransferredFile {
        path: (*path).into(),
        size: *size,
        sha256: String::new(),
    };
    OutcomeKind::Transferred { files: files.iter().map(file).collect() }
}

#[test]
fn what_is_too_much_is_cut_or_refused_and_said() {
    let (world, command, request) = World::new();
    an_endless_log_is_cut(&world, &command, request);
    an_endless_message_is_cut(&world);
    files_stay_in_their_place(&world);
    properties_have_a_bound(&world);
    connections_have_a_bound(&world);
    must_say(&world.bench.api, world.worker, &["upload", "transfer_token", "connections"]);
}

fn an_endless_log_is_cut(world: &World, command: &Command, request: i64) {
    let stream = command.stream().expect("it runs a program");
    let line = [vec![b'x'; 63], vec![b'\n']].concat();
    let piece = line.repeat(FRAME / line.len());
    let all = 12 * FRAME as u64;
    for n in 0..12 {
        world.agent.print(stream, n * FRAME as u64, 1_000_000, &piece);
    }
    // The agent may forget what is beyond the cap, or its program would wait for ever.
    world.agent.hear("all to be taken", |message| match message {
        ToAgent::Durable(durable) => (durable.stream == stream && durable.to >= all).then_some(()),
        _ => None,
    });
    world.agent.finish(command, OutcomeKind::Exited { code: 0 }, all);
    let build = world.bench.ended(request);
    build.must_be("success");
    let log = &build.step("work")["logs"][0];
    assert_eq!(log["bytes"], 1 << 20, "{log:#}");
    let note = log["note"].as_str().unwrap_or_default();
    assert!(note.contains("truncated: 2097152 bytes beyond the first 1048576"), "{log:#}");
    assert!(build.end_of("work").1.contains("its log was cut after 1048576 bytes"), "{:#}", build.detail);
    assert_eq!(build.bytes("work").len(), 1 << 20);
}

fn an_endless_message_is_cut(world: &World) {
    let (command, request) = world.begin("run");
    let build = world.end(&command, request, OutcomeKind::CouldNotStart { message: "ü".repeat(1 << 20) });
    build.must_be("failure");
    let said = build.end_of("work").1.len();
    assert!((4_000..5_000).contains(&said), "the summary has {said} bytes");
}

fn files_stay_in_their_place(world: &World) {
    let (agent, worker) = (&world.agent, world.worker);
    let (command, request) = world.begin("keep");
    let Upload { url_path: place, token, .. } = upload(&command).clone();
    let token = token.reveal();
    let long = "x".repeat(2_000);
    for name in ["../x", "a/../../x", "%2e%2e/x", "/etc/x", "a//b", "./x", "line%0Abreak", "%ff", &long] {
        let (status, why) = agent.put(&format!("{place}/{name}"), token, b"x");
        assert_eq!(status, 422, "{name}: {why}");
    }
    // A token is for its own worker, step and direction.
    let elsewhere =
        place.replace(&format!("/upload/{}/", command.build), &format!("/upload/{}/", command.build + 1));
    for path in [format!("{elsewhere}/x"), place.replace("debs", "other") + "/x"] {
        assert_eq!(agent.put(&path, token, b"x").0, 403, "{path}");
    }
    assert_eq!(agent.put(&format!("{place}/x"), "", b"x").0, 403);
    assert_eq!(agent.get(&format!("/files/{worker}/artifact/1"), token).0, 403);
    assert_eq!(agent.get(&format!("/files/{worker}/tree/app/0000000"), token).0, 403);
    assert_eq!(
        agent.get(&format!("/files/{}/artifact/1", worker + 1), token).0,
        404,
        "another worker's door"
    );
    assert_eq!(agent.get("/files/../etc/passwd", token).0, 400);

    let (status, why) = agent.put(&format!("{place}/a.deb"), token, b"hi");
    assert_eq!(status, 201, "{why}");
    let lie = sent(&[("a.deb", 2), ("b.deb", u64::MAX), ("c.deb", u64::MAX)]);
    let build = world.end(&command, request, lie);
    build.must_be("exception");
    let said = build.end_of("keep").1;
    assert!(
        said.contains("\"b.deb\"") && said.contains("did not arrive") && said.contains("1 file, 2 bytes"),
        "{said}"
    );
    let (status, why) = agent.put(&format!("{place}/a.deb"), token, b"changed later");
    assert!(status == 422 && why.contains("does not run"), "{status} {why}");
    let kept = build.detail["artifacts"][0].clone();
    assert_eq!(world.bench.api.bytes(&format!("/artifacts/{}/content", kept["id"])), b"hi");
}

fn properties_have_a_bound(world: &World) {
    let million: String = (0..70_000).map(|n| format!("p{n}={n}\n")).collect();
    let thousand: String = (0..1_001).map(|n| format!("p{n}=1\n")).collect();
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let long = format!("long={}\n", "x".repeat(70_000));
    for (text, words) in [
        (thousand, "more than 1000 properties"),
        (million, "more than 1000 properties"),
        (deep, "not a JSON object"),
        (long, "longer than 65536 bytes"),
        ("a b=1\n".to_owned(), "not a property's name"),
    ] {
        let (command, request) = world.begin("props");
        let Upload { url_path: place, token, max_bytes, .. } = upload(&command).clone();
        let (status, why) = world.agent.put(&format!("{place}/a.json"), token.reveal(), &vec![b'x'; 2 << 20]);
        assert!(status == 422 && why.contains("more than"), "{status} {why}; the agent was told {max_bytes}");
        let (status, why) = world.agent.put(&format!("{place}/a.json"), token.reveal(), text.as_bytes());
        assert_eq!(status, 201, "{why}");
        let build = world.end(&command, request, sent(&[("a.json", text.len() as u64)]));
        build.must_be("failure");
        let said = build.end_of("read").1;
        assert!(said.contains(words) && said.len() < 1_000, "{said}");
        assert!(build.property("p1").is_null());
    }
    // Nothing arrived, says the record, whatever the agent says.
    let (command, request) = world.begin("props");
    let build = world.end(&command, request, sent(&[("a.json", 1)]));
    build.must_be("failure");
    assert!(build.end_of("read").1.contains("no file arrived"), "{:#}", build.detail);
}

fn connections_have_a_bound(world: &World) {
    let many: Vec<UnixStream> =
        (0..200).map(|_| UnixStream::connect(&world.agent.socket).expect("the socket is there")).collect();
    must_say(&world.bench.api, world.worker, &["connections"]);
    // The link that is there goes on.
    let (command, request) = world.begin("run");
    world.end(&command, request, OutcomeKind::Exited { code: 0 }).must_be("success");
    drop(many);
    wait::until_true("connections to be taken again", wait::SOON, || {
        let stream = UnixStream::connect(&world.agent.socket);
        stream.is_ok_and(answers)
    });
}

/// Whether somebody reads what is said.
fn answers(mut stream: UnixStream) -> bool {
    use std::io::{Read, Write};
    let request = "GET /files/1/artifact/1 HTTP/1.1\r\nHost: rouse\r\nConnection: close\r\n\r\n";
    let _ = stream.set_read_timeout(Some(wait::SOON));
    let mut first = [0; 8];
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut first).is_ok()
        && first == *b"HTTP/1.1"
}
