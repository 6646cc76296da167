//! Forged identities, forged results, forged output: two workers of one master, both under the test's hands.

use rouse_agent_protocol::{CommandReport, CommandState, OutcomeKind, StreamReport, ToMaster};
use tokio_tungstenite::tungstenite::Message;

use super::agent::{Ground, outcome};
use super::{must_say, refusals};
use crate::harness::{Bench, Scratch, wait};

const CONFIG: &str = "pools: {here: {local: {}, max: 2, reuse: {builds: 100, idle: 10m}}}\nbuilders: {run: {steps: [{name: work, run: 'true'}]}}\n";
const EXITED: OutcomeKind = OutcomeKind::Exited { code: 0 };
const FAILED: OutcomeKind = OutcomeKind::Exited { code: 1 };
/// The close code for who breaks the protocol.
const FAULT: u16 = 4000;

#[test]
fn nobody_joins_as_another_or_speaks_for_another() {
    let scratch = Scratch::new();
    let ground = Ground::new(&scratch);
    let bench = Bench::within(scratch, CONFIG, ground.options(&[]));
    let requests = [bench.start("run"), bench.start("run")];
    let workers: Vec<i64> = bench.api.until("two workers", "/workers", wait::A_BUILD, |workers| {
        let ids = workers["items"].as_array()?.iter().filter_map(|worker| worker["id"].as_i64());
        Some(ids.collect()).filter(|ids: &Vec<i64>| ids.len() == 2)
    });
    let (mut a, mut b) = (ground.agent(workers[0]), ground.agent(workers[1]));

    // Whom the master does not know, it does not let in.
    assert_eq!(a.join(|hello| hello.join_token = "0".repeat(64).into()).unwrap_err(), "bad_token");
    let stolen = a.join.join_token.clone();
    assert_eq!(b.join(|hello| hello.join_token = stolen).unwrap_err(), "bad_token", "another worker's token");
    let (name, id) = (b.join.worker.clone(), b.join.worker_id);
    let other = a.join(|hello| (hello.worker, hello.worker_id) = (name, id));
    assert_eq!(other.unwrap_err(), "unknown_worker", "another worker on this one's socket");
    assert_eq!(a.join(|hello| hello.signature = "00".repeat(64)).unwrap_err(), "bad_signature");
    let many = (0..1_001)
        .map(|id| CommandReport { id: rouse_agent_protocol::CommandId(id), state: CommandState::Running {} });
    assert_eq!(a.join(|hello| hello.commands = many.collect()).unwrap_err(), "bad_hello");
    assert_eq!(a.join(|hello| hello.agent = "x".repeat(5_000)).unwrap_err(), "bad_hello");
    a.decline(4001);

    // The first key that presents the token has it; who copied it, or what was said, comes too late.
    let mut first = None;
    a.join(|hello| first = Some(hello.clone())).expect("it is the worker's own");
    let first = first.expect("it was said");
    let mut thief = ground.agent(workers[0]);
    assert_eq!(thief.join(|_| {}).unwrap_err(), "token_bound");
    assert_eq!(thief.join(|hello| *hello = first).unwrap_err(), "bad_signature", "a recorded hello");
    b.join(|_| {}).expect("it is the worker's own");
    let (of_a, of_b) = (a.command(), b.command());
    let stream = of_a.stream().expect("it runs a program");
    must_say(
        &bench.api,
        workers[0],
        &["bad_token", "unknown_worker", "bad_signature", "bad_hello", "token_bound", "declined"],
    );

    // The other worker's command is over, says B; and writes into its log.
    b.say(&ToMaster::Finished { command: of_a.id, outcome: Box::new(outcome(FAILED, None)) });
    b.print(stream, 0, 1, b"forged\n");
    assert_eq!(b.closed(), FAULT);
    let forged = CommandState::Finished(Box::new(outcome(FAILED, None)));
    let welcome = b.join(|hello| {
        hello.commands = vec![CommandReport { id: of_a.id, state: forged }];
        hello.streams = vec![StreamReport { stream, from: 0, to: 7 }];
    });
    let welcome = welcome.expect("it is still the worker's own");
    assert_eq!(welcome.forget, [of_a.id]);
    assert_eq!(welcome.durable.iter().map(|durable| durable.to).collect::<Vec<_>>(), [7]);
    assert_eq!(b.command().id, of_b.id, "what it did not speak of it is asked for again");

    // What cannot be read ends the connection, and nothing but that.
    let own = of_b.stream().expect("it runs a program");
    for fault in [Message::binary(vec![9, 9]), Message::text("{nonsense"), Message::text(r#"{"hello":{}}"#)] {
        b.send(fault);
        assert_eq!(b.closed(), FAULT);
        b.join(|_| {}).expect("it comes back");
        assert_eq!(b.command().id, of_b.id);
    }
    b.print(own, 5_000, 1, b"after a gap\n");
    assert_eq!(b.closed(), FAULT);
    b.join(|_| {}).expect("it comes back");
    assert_eq!(b.command().id, of_b.id);
    must_say(&bench.api, workers[1], &["bad_token", "foreign_stream", "protocol"]);

    // A time beyond the calendar, and two ends: the first holds.
    b.print(own, 0, u64::MAX / 2, b"late\n");
    b.finish(&of_b, EXITED, 5);
    b.finish(&of_b, FAILED, 5);
    a.print(stream, 0, 1, b"honest\n");
    a.finish(&of_a, EXITED, 7);
    let builds = requests.map(|request| bench.ended(request));
    let mut texts = Vec::new();
    for build in &builds {
        build.must_be("success");
        let lines = bench.cli(&["logs", &build.id().to_string(), "--timestamps"]);
        assert!(!lines.is_empty());
        texts.push(build.text("work"));
    }
    texts.sort();
    assert_eq!(texts, ["honest\n", "late\n"]);
    let shown = bench.cli(&["worker", "show", &a.join.worker]);
    assert!(shown.contains("link refused") && shown.contains("token_bound"), "{shown}");
    assert!(bench.master.log().contains("a second key presented this worker's join token"));

    // However often it is tried, it is not said as often.
    for _ in 0..12 {
        assert_eq!(thief.join(|_| {}).unwrap_err(), "token_bound");
    }
    let path = format!("/workers/{}", workers[0]);
    bench.api.until("it to be said the 1st, 2nd, 4th and 8th time of 13", &path, wait::SOON, |_| {
        let said = refusals(&bench.api, workers[0]);
        let said = said.iter().filter(|said| said.starts_with("token_bound")).count();
        assert!(said <= 4, "said {said} times");
        (said == 4).then_some(())
    });
}
