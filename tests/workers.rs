//! Workers as an operator has them: kept to be looked at, let go, drained and not drained.

use serde_json::{Value, json};

use crate::harness::builds::explained;
use crate::harness::{Bench, Scratch, wait};

/// Two pools of local processes, and builds that end once `gate` is there.
fn bench() -> Bench {
    let scratch = Scratch::new();
    let gate = scratch.path().join("gate");
    let config = format!(
        "pools:\n  warm: {{local: {{}}, max: 2, reuse: {{builds: 9, idle: 1s}}}}\n  once: {{local: {{}}, max: 1}}\n\
         builders:\n  waits: {{pool: warm, steps: [{{run: 'until [ -e {0} ]; do sleep 0.05; done'}}]}}\n  \
         quick: {{pool: warm, steps: [{{run: 'echo done'}}]}}\n  \
         single: {{pool: once, steps: [{{run: 'until [ -e {0} ]; do sleep 0.05; done'}}]}}\n",
        gate.display()
    );
    Bench::within(scratch, &config, Default::default())
}

fn worker_of(bench: &Bench, request: i64) -> String {
    let build = bench.running(request, "the step to run", |build| !build.steps().is_empty());
    build.detail["worker"]["name"].as_str().expect("it has a worker").to_owned()
}

fn until(bench: &Bench, worker: &str, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    bench.api.until(what, &format!("/workers/{worker}"), wait::A_BUILD, |w| look(w).then(|| w.clone()))
}

#[test]
fn a_held_worker_is_kept_beyond_its_build_and_its_idle_time_and_goes_when_the_hold_is_over() {
    let bench = bench();
    let request = bench.start("waits");
    let held = worker_of(&bench, request);
    let said = bench.cli(&["worker", "hold", &held, "--for", "2h", "--reason", "a core dump"]);
    assert!(said.contains("takes no new builds, and is kept until 20"), "{said}");
    bench.scratch.file("gate", "");
    bench.ended(request).must_be("success");
    // Another build has a worker of its own, which goes when it has idled for long enough.
    let quick = bench.run("quick");
    quick.must_be("success");
    let other = quick.detail["worker"]["name"].as_str().expect("it has a worker").to_owned();
    assert_ne!(other, held);
    until(&bench, &other, "the other worker to go", |w| w["phase"] == "gone");
    let kept = bench.api.get(&format!("/workers/{held}"));
    assert_eq!((&kept["state"], &kept["running"]), (&json!("held"), &json!([])), "{kept:#}");
    let list = bench.cli(&["worker", "list"]);
    assert!(list.contains("held for 1h 59m by ") && list.contains("a core dump"), "{list}");
    // Held again, for a shorter time: then it is over by itself.
    bench.cli(&["worker", "hold", &held, "--for", "1s"]);
    let gone = until(&bench, &held, "the hold to be over", |w| w["phase"] == "gone");
    assert_eq!(gone["cause"]["code"], "idle", "{gone:#}");
    assert!(gone["timeline"].to_string().contains("its time is over, of the hold by "), "{gone:#}");
}

#[test]
fn a_changed_pool_lets_its_builds_end_and_serves_all_that_waits_as_it_is_now() {
    let scratch = Scratch::new();
    let gate = scratch.path().join("gate");
    let config = |shape: &str| {
        format!(
            "pools:\n  here: {{local: {{env: {{SHAPE: {shape}}}}}, max: 1, reuse: {{builds: 9, idle: 1h}}}}\n\
             builders:\n  waits: {{pool: here, steps: [{{name: says, run: 'until [ -e {} ]; do sleep 0.05; done; echo $SHAPE'}}]}}\n  \
             quick: {{pool: here, steps: [{{name: says, run: 'echo $SHAPE'}}]}}\n",
            gate.display()
        )
    };
    let bench = Bench::within(scratch, &config("round"), Default::default());
    let reload = |shape: &str| {
        bench.master.write_config(&format!("version: 1\n{}", config(shape)));
        bench.api.post("/config/reload", &json!({}));
    };
    // An idle one goes.
    let quick = bench.run("quick");
    let idle = quick.detail["worker"]["name"].as_str().expect("it has a worker").to_owned();
    reload("square");
    let gone = until(&bench, &idle, "the idle worker to go", |w| w["phase"] == "gone");
    assert_eq!(gone["cause"]["message"], "pool `here` was changed", "{gone:#}");
    // A busy one ends its build, and what was queued for one like it is served by one like the pool is now.
    let busy = bench.start("waits");
    let old = worker_of(&bench, busy);
    let queued = bench.start("quick");
    explained(&bench.api, queued, "the full pool", |e| (e["primary"]["code"] == "pool_full").then_some(()));
    reload("flat");
    until(&bench, &old, "the busy worker to drain", |w| w["wanted"] == "drain");
    bench.scratch.file("gate", "");
    let ended = bench.ended(busy);
    ended.must_be("success");
    assert_eq!((ended.text("says"), ended.detail["attempt"].as_i64()), ("square\n".to_owned(), Some(1)));
    let after = bench.ended(queued);
    after.must_be("success");
    assert_eq!(after.text("says"), "flat\n");
    // A reload that leaves the pool as it is ends nothing.
    let kept = after.detail["worker"]["name"].as_str().expect("it has a worker").to_owned();
    bench.master.write_config(&format!(
        "version: 1\n{}  more: {{pool: here, steps: [{{run: 'true'}}]}}\n",
        config("flat")
    ));
    bench.api.post("/config/reload", &json!({}));
    let more = bench.run("more");
    assert_eq!(more.detail["worker"]["name"], kept.as_str(), "{:#}", more.detail);
}

#[test]
fn a_held_worker_of_a_single_use_pool_takes_room_until_it_is_let_go() {
    let bench = bench();
    let first = bench.start("single");
    let held = worker_of(&bench, first);
    bench.cli(&["worker", "hold", &held, "--for", "1h"]);
    bench.scratch.file("gate", "");
    bench.ended(first).must_be("success");
    let second = bench.start("single");
    explained(&bench.api, second, "the full pool", |e| (e["primary"]["code"] == "pool_full").then_some(()));
    let kept = bench.api.get(&format!("/workers/{held}"));
    assert_eq!((&kept["state"], &kept["builds_done"]), (&json!("held"), &json!(1)), "{kept:#}");
    bench.cli(&["worker", "release", &held]);
    let gone = until(&bench, &held, "it to go", |w| w["phase"] == "gone");
    assert_eq!(gone["cause"]["code"], "used", "{gone:#}");
    bench.ended(second).must_be("success");
}
