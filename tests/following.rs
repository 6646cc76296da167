//! The event stream over SSE: whoever comes back with the last number goes on where it broke, also over a restart of the master.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::story::id;
use crate::harness::{Database, Master, Options, Scratch, wait};

/// Reads so many events after a number, or fewer where the stream breaks.
fn read(master: &Master, after: i64, most: usize) -> Vec<(i64, Value)> {
    let token = std::fs::read_to_string(master.state().join("admin.token")).expect("the first token");
    let http = reqwest::blocking::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client can be made");
    let request = http.get(format!("{}/api/v1/events", master.address())).bearer_auth(token.trim());
    let Ok(response) = request.header("last-event-id", after.to_string()).send() else { return Vec::new() };
    assert!(response.status().is_success(), "{}", response.status());
    let (mut seen, mut number, mut name) = (Vec::new(), 0, String::new());
    for line in BufReader::new(response).lines() {
        let Ok(line) = line else { break };
        match line.split_once(": ") {
            Some(("id", text)) => number = text.parse().expect("a number"),
            Some(("event", text)) => name = text.to_string(),
            Some(("data", text)) => {
                assert_ne!(name, "reset", "nothing was thrown away");
                let event: Value = serde_json::from_str(text).expect("an event is JSON");
                assert_eq!((id(&event, "seq"), event["kind"].as_str()), (number, Some(name.as_str())));
                seen.push((number, event));
                if seen.len() == most {
                    break;
                }
            }
            _ => {}
        }
    }
    seen
}

/// Everything that is on record.
fn recorded(master: &Master) -> Vec<(i64, Value)> {
    let api = master.api();
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = api.get(&format!("/events/list?after={after}"));
        let items = page["items"].as_array().expect("a list has items");
        all.extend(items.iter().map(|event| (id(event, "seq"), event.clone())));
        if id(&page, "next") == after || items.is_empty() {
            return all;
        }
        after = id(&page, "next");
    }
}

#[test]
fn no_event_is_lost_or_doubled_over_broken_connections_and_restarts() {
    follow(Database::File);
}

/// There events are numbered after their commit, by one of the masters.
#[test]
fn nor_is_one_on_postgresql() {
    if let Some(database) = Database::fresh_postgres() {
        follow(database);
    }
}

fn follow(database: Database) {
    let scratch = Scratch::new();
    let config = "version: 1\npools: {here: {local: {}, max: 2, reuse: {builds: 50, idle: 1h}}}\n\
                  builders: {unit: {steps: [{run: 'for i in 1 2 3; do echo $i; sleep 0.1; done'}]}}\n";
    let mut master = Master::start(scratch.path(), config, Options { database, ..Options::default() });
    let start =
        |master: &Master| id(&master.api().post("/builders/unit/build", &json!({}))["requests"][0], "id");
    let mut seen: Vec<(i64, Value)> = Vec::new();
    let place = |seen: &[(i64, Value)]| seen.last().map_or(0, |(number, _)| *number);
    let mut requests = vec![start(&master), start(&master)];
    // Cut off after ever so many, while things happen.
    for most in [1, 2, 3, 5, 8, 13] {
        seen.extend(read(&master, place(&seen), most));
        requests.push(start(&master));
    }
    master.kill9();
    master.run();
    seen.extend(read(&master, place(&seen), 7));
    master.restart();
    requests.push(start(&master));
    for request in requests {
        assert_eq!(master.api().until_built(request)["result"], "success");
    }
    // One that is open when the master stops ends, and its reader comes back.
    let newest = id(&master.api().get("/master"), "newest_event");
    while place(&seen) < newest {
        let missing = newest - place(&seen);
        seen.extend(read(&master, place(&seen), usize::try_from(missing).expect("some are missing").min(11)));
    }
    std::thread::scope(|scope| {
        let open = scope.spawn(|| read(&master, newest, usize::MAX));
        wait::until_true("an event in between", wait::SOON, || {
            start(&master);
            id(&master.api().get("/master"), "newest_event") > newest
        });
        master.signal(nix::sys::signal::Signal::SIGTERM);
        seen.extend(open.join().expect("the reader ends with the stream"));
    });
    master.wait_for_end(wait::SOON);
    master.run();
    wait::until_true("quiet", wait::A_BUILD, || {
        master.api().get("/requests?state=queued")["items"] == json!([])
    });
    wait::until_true("quiet", wait::A_BUILD, || {
        master.api().get("/requests?state=claimed")["items"] == json!([])
    });
    let newest = id(&master.api().get("/master"), "newest_event");
    while place(&seen) < newest {
        let missing = usize::try_from(newest - place(&seen)).expect("some are missing");
        seen.extend(read(&master, place(&seen), missing));
    }
    let all: Vec<_> = recorded(&master).into_iter().filter(|(number, _)| *number <= place(&seen)).collect();
    assert!(all.len() > 60, "{} events are few", all.len());
    assert_eq!(seen, all);

    // The command line follows the same stream; only one kind of it where that is asked.
    let told = master.cli(&["events", "--after", "0", "--kind", "build_finished", "-o", "json"]);
    let lines = String::from_utf8(told.stdout).expect("text");
    let finished: Vec<i64> = all
        .iter()
        .filter(|(_, event)| event["kind"] == "build_finished")
        .map(|(number, _)| *number)
        .collect();
    let told: Vec<i64> = lines
        .lines()
        .map(|line| id(&serde_json::from_str(line).expect("each line is an event"), "seq"))
        .collect();
    // What was numbered since then may follow.
    assert!(told.starts_with(&finished), "{told:?} are not {finished:?}");
    // A number from elsewhere is answered with where to go on.
    let wrong = master.api().try_get("/events/list?after=999999999").expect_err("no such number");
    assert_eq!((wrong.status, &wrong.body["error"]["code"]), (410, &json!("gone")));
}
