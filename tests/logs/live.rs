//! A log that is read while it grows, by several readers at once.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde_json::Value;

use super::texts;
use crate::harness::master::ROUSE;
use crate::harness::{Api, Bench, Options, Scratch, wait};

const LINES: usize = 400;
const HALF: usize = 200;

/// Follows by server-sent events; says when it has seen the line before the gate, and in the end all lines.
fn follower(api: Api, log: i64, from: usize, half: mpsc::Sender<&'static str>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut lines: Vec<String> = Vec::new();
        let mut event = String::new();
        for line in BufReader::new(api.open(&format!("/logs/{log}/follow?from={from}"))).lines() {
            let line = line.expect("the stream goes on");
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.to_owned();
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if event == "end" {
                return lines;
            }
            let said: Value = serde_json::from_str(data).expect("a line is JSON");
            let n = said["n"].as_u64().expect("it is there") as usize;
            // A line that was open is said again when it has more.
            lines.truncate(n - from);
            lines.push(said["text"].as_str().expect("it is there").to_owned());
            if n == HALF - 1 {
                let _ = half.send("events");
            }
        }
        panic!("the stream ended without its end, after {lines:?}");
    })
}

fn spawn(bench: &Bench, arguments: &[&str]) -> Child {
    let token =
        std::fs::read_to_string(bench.master.state().join("admin.token")).expect("the master has a token");
    let mut command = Command::new(ROUSE);
    command.args(arguments).env("ROUSE_SERVER", bench.master.address()).env("ROUSE_TOKEN", token.trim());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts")
}

#[test]
fn any_number_of_readers_see_a_log_grow_and_one_that_hangs_harms_nobody() {
    let scratch = Scratch::new();
    let gate = scratch.path().join("gate");
    let builder = format!(
        "pools: {{here: {{local: {{}}}}}}\nbuilders:\n  grows:\n    steps:\n      - name: count\n        run: |\n          i=0\n          \
         while [ $i -lt {LINES} ]; do\n            echo \"line $i\"; i=$((i + 1))\n            \
         if [ $i = {HALF} ]; then printf 'wait'; while [ ! -e {} ]; do sleep 0.05; done; echo ' over'; fi\n          done\n",
        gate.display()
    );
    let bench = Bench::within(scratch, &builder, Options::default());
    let request = bench.start("grows");
    let build = bench.running(request, "the log to be there", |build| {
        build.has_step("count") && build.step("count")["logs"][0].is_object()
    });
    let log = build.log_of("count");
    let (told, half) = mpsc::channel();
    let mut followers: Vec<(usize, _)> =
        [0, 0, 0, 100].map(|from| (from, follower(bench.api.clone(), log, from, told.clone()))).into();
    // It asks for everything and never reads a byte.
    let hung = [format!("/logs/{log}/raw?follow=true"), format!("/logs/{log}/follow")]
        .map(|path| bench.api.open(&path));
    let mut raw = bench.api.open(&format!("/logs/{log}/raw?follow=true"));
    let mut printed = spawn(&bench, &["logs", &build.id().to_string(), "-f"]);
    for _ in 0..followers.len() {
        half.recv_timeout(wait::A_BUILD).expect("every reader sees the first half while the step waits");
    }
    // The open line is seen, too, and one that comes late sees what the others do.
    bench.api.until("the open line", &format!("/logs/{log}/lines?from={HALF}"), wait::SOON, |page| {
        (texts(page) == ["wait"] && page["lines"][0]["open"] == true).then_some(())
    });
    let sealed = bench.api.get(&format!("/logs/{log}"))["sealed"].clone();
    assert_eq!(sealed, false);
    followers.push((0, follower(bench.api.clone(), log, 0, told)));
    half.recv_timeout(wait::SOON).expect("a late reader sees the first half");
    std::fs::write(&gate, "").unwrap();

    let mut expected: Vec<String> = (0..LINES).map(|i| format!("line {i}")).collect();
    expected.insert(HALF, "wait over".into());
    for (from, follower) in followers {
        assert_eq!(follower.join().expect("a reader reads"), expected[from..]);
    }
    let whole = expected.join("\n") + "\n";
    let mut bytes = String::new();
    raw.read_to_string(&mut bytes).unwrap();
    assert_eq!(bytes, whole);
    let build = bench.ended(request);
    build.must_be("success");
    assert_eq!(build.text("count"), whole);
    let mut said = String::new();
    printed.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(printed.wait().unwrap().success());
    assert!(said.ends_with(&whole), "{said}");
    drop(hung);
}
