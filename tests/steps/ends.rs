//! How steps end, and what that means for their build.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bench;
use crate::harness::{Build, processes, wait};

const RULES: &str = r#"
  lenient:
    env: {A: builder, B: builder}
    properties: {level: 2, version: "1.2"}
    steps:
      - {name: lint, run: 'exit 3', halt_on_failure: false, flunk_on_failure: false, warn_on_failure: true}
      - {name: optional, run: 'exit 77', exit: {77: skipped}}
      - {name: mapped, run: 'exit 4', exit: {4: warnings}, warn_on_warnings: false}
      - {name: other, run: 'exit 1', if: 'props.level == 1'}
      - name: env
        run: 'test "$A" = step && test "$B" = builder && test -z "$HOME_OF_MASTER" && basename "$PWD" && echo {{ props.version }}'
        dir: a/deep
        env: {A: step}
  halted:
    steps:
      - {name: bad, run: 'echo "see: error: no rule"; echo later; exit 2'}
      - {name: never, run: 'true'}
      - {name: clean, run: 'echo cleaned', always: true}
  flunked:
    steps:
      - {name: bad, run: 'exit 2', halt_on_failure: false}
      - {name: after, run: 'echo after'}
  warned:
    steps:
      # The first warning is far from the end of the output.
      - {name: cc, run: 'echo "a.c: warning: x"; yes 0123456789012345678901234567890123456789 | head -n 20000; echo "b.c: warning: y"', warnings: 'warning:'}
  strict:
    steps:
      - {name: cc, run: 'echo "a.c: warning: x"', warnings: 'warning:', flunk_on_warnings: true}
  slow:
    steps: [{name: sleep, run: 'sleep 600', timeout: 1s}]
  quiet:
    steps: [{name: sleep, run: 'echo begin; sleep 600', silence: 1s}]
  late:
    timeout: 2s
    steps:
      - {name: sleep, run: 'sleep 600'}
      # Longer than a driver takes to look at its build again.
      - {name: clean, run: 'sleep 7; echo cleaned', always: true}
  tty:
    steps:
      - {name: with, run: 'test -t 0 && test -t 1 && echo "$TERM"', tty: true}
      - {name: without, run: 'test ! -t 1 && echo none'}
  missing:
    properties: {there: 1}
    steps:
      - {name: use it, run: 'echo "{{ props.nothing }}"'}
  missing-condition:
    steps:
      - {name: ask, run: 'true', if: 'props.nothing == 1'}
  daemons:
    steps:
      - {name: leave, run: 'setsid sleep 4711 >/dev/null 2>&1 & nohup sleep 4712 >/dev/null 2>&1 & echo done'}
  again:
    retries: 1
    steps:
      - {name: odd, run: 'exit 75', exit: {75: retry}}
  unrunnable:
    steps:
      - {name: no program, run: [no-such-program, --help]}
"#;

fn step_result(build: &Build, step: &str) -> String {
    build.end_of(step).0.to_owned()
}

#[test]
fn each_end_means_for_the_build_what_its_rules_say() {
    let bench = bench(RULES);
    let names = [
        "late",
        "again",
        "lenient",
        "halted",
        "flunked",
        "warned",
        "strict",
        "slow",
        "quiet",
        "tty",
        "missing",
        "missing-condition",
        "daemons",
        "unrunnable",
    ];
    let requests = names.map(|name| bench.start(name));
    let [
        late,
        again,
        lenient,
        halted,
        flunked,
        warned,
        strict,
        slow,
        quiet,
        tty,
        missing,
        condition,
        daemons,
        unrunnable,
    ] = requests.map(|request| bench.ended(request));

    lenient.must_be("warnings");
    let steps = ["lint", "optional", "mapped", "other", "env"].map(|step| step_result(&lenient, step));
    assert_eq!(steps, ["failure", "skipped", "warnings", "skipped", "success"]);
    assert_eq!(lenient.text("env"), "deep\n1.2\n");
    assert!(lenient.end_of("other").1.contains("condition"), "{:#}", lenient.detail);

    halted.must_be("failure");
    assert_eq!(halted.end_of("bad"), ("failure", "exit 2: see: error: no rule"));
    assert_eq!(step_result(&halted, "never"), "skipped");
    assert_eq!(step_result(&halted, "clean"), "success");
    assert!(
        halted.summary().contains("`bad`") && halted.summary().contains("no rule"),
        "{}",
        halted.summary()
    );

    flunked.must_be("failure");
    assert_eq!(step_result(&flunked, "after"), "success");
    warned.must_be("warnings");
    assert_eq!(warned.end_of("cc"), ("warnings", "2 warnings"));
    strict.must_be("failure");
    assert_eq!(strict.end_of("cc"), ("warnings", "1 warning"));

    slow.must_be("failure");
    assert!(slow.end_of("sleep").1.contains("timed out after 1 s"), "{:#}", slow.detail);
    quiet.must_be("failure");
    assert!(quiet.end_of("sleep").1.contains("no output for 1 s"), "{:#}", quiet.detail);
    late.must_be("failure");
    assert!(late.summary().contains("the build took longer than 2 s"), "{}", late.summary());
    assert_eq!(late.end_of("clean"), ("success", "ok"));
    assert_eq!(late.text("clean"), "cleaned\n");

    tty.must_be("success");
    assert_eq!(tty.text("with"), "xterm-256color\r\n");

    missing.must_be("failure");
    let said = missing.end_of("use it").1;
    assert!(said.contains("property `nothing`") && said.contains("there"), "{said}");
    assert!(said.contains("default"), "how to mend it is said: {said}");
    assert!(missing.summary().contains("`use it`"), "{}", missing.summary());
    condition.must_be("failure");
    assert!(condition.end_of("ask").1.contains("property `nothing`"), "{:#}", condition.detail);

    daemons.must_be("success");
    assert!(daemons.end_of("leave").1.contains("2 left-over processes killed"), "{:#}", daemons.detail);
    let left = processes::all().filter(|seen| ["sleep 4711", "sleep 4712"].contains(&seen.command.as_str()));
    assert_eq!(left.count(), 0);

    again.must_be("exception");
    assert!(again.summary().contains("given up after 2 attempts"), "{}", again.summary());
    assert_eq!(again.detail["attempt"], 2);
    unrunnable.must_be("failure");
    assert!(unrunnable.end_of("no program").1.contains("no-such-program"), "{:#}", unrunnable.detail);
}

const CANCELLED: &str = r#"
  forks:
    steps:
      - name: tree
        run: |
          trap '' INT TERM
          setsid sh -c 'trap "" INT TERM; while :; do sleep 4721; done' &
          (sleep 4722; echo over) &
          echo ready
          while :; do sleep 4723 || true; done
      - {name: later, run: 'true'}
      - {name: clean, run: 'sleep 7; echo cleaned', always: true}
"#;

#[test]
fn a_cancelled_build_leaves_no_process_and_says_who_and_why() {
    let bench = crate::harness::Bench::new(&format!(
        "pools:\n  here: {{local: {{}}, max: 1}}\nbuilders:\n{CANCELLED}"
    ));
    let running = bench.start("forks");
    let build = bench.running(running, "the tree to grow", |build| {
        build.has_step("tree")
            && !build.step("tree")["logs"].as_array().unwrap().is_empty()
            && build.text("tree") == "ready\n"
    });
    let queued = bench.start("forks");
    bench.api.post(&format!("/requests/{queued}/cancel"), &json!({"reason": "not needed"}));
    let path = format!("/requests/{queued}");
    let ended = bench
        .api
        .until("the request to end", &path, wait::SOON, |r| (!r["done"].is_null()).then(|| r.clone()));
    assert_eq!(ended["result"], "cancelled", "{ended:#}");
    assert!(ended["cancel"].as_str().unwrap().contains("not needed"), "{ended:#}");
    assert!(ended["build"].is_null(), "it never ran: {ended:#}");

    let began = Instant::now();
    bench.cli(&["cancel", &build.id().to_string(), "--reason", "wrong branch"]);
    let build = bench.ended(running);
    build.must_be("cancelled");
    assert!(build.summary().contains("wrong branch"), "{}", build.summary());
    assert!(build.detail["cancel"].as_str().unwrap().contains("wrong branch"), "{:#}", build.detail);
    assert_eq!(build.end_of("tree").0, "cancelled");
    assert!(build.end_of("tree").1.contains("wrong branch"), "{:#}", build.detail);
    assert_eq!(build.end_of("later").0, "skipped");
    assert_eq!(build.end_of("clean"), ("success", "ok"));
    assert_eq!(build.text("clean"), "cleaned\n");
    let mark =
        |seen: &processes::Seen| ["sleep 4721", "sleep 4722", "sleep 4723"].contains(&seen.command.as_str());
    assert_eq!(processes::all().filter(mark).count(), 0);
    assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());

    let again = bench.cli(&["retry", &build.id().to_string(), "-o", "json"]);
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    let request = again["requests"][0]["id"].as_i64().unwrap();
    bench.running(request, "the build to run once more", |build| build.has_step("tree"));
    bench.api.post(&format!("/requests/{request}/cancel"), &json!({}));
    bench.ended(request).must_be("cancelled");
}
