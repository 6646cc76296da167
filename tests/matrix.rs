//! One entry with a matrix: several builders, each with values, name and history of its own.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::{Master, Options, Scratch, builds, wait};

const CONFIG: &str = r#"version: 1
pools: {here: {local: {}, max: 2, reuse: {builds: 10}}}
builders:
  unit:
    matrix: {cc: [gcc12, gcc13], bits: [64]}
    properties: {greeting: hello}
    steps:
      - run: echo "$GREETING {{ matrix.cc }} {{ matrix.bits }} {{ builder.name }}"
        env: {GREETING: "{{ props.greeting }}"}
      - run: "true"
        name: only one
        if: matrix.cc == "gcc13"
  broken: {matrix: {cc: [gcc12]}, steps: [{run: "echo {{ matrix.ld }}"}]}
schedulers: {ask: {force: {}, builders: unit}}
"#;

#[test]
fn each_combination_is_a_builder() {
    let scratch = Scratch::new();
    let master = Master::start(scratch.path(), CONFIG, Options::default());
    let api = master.api();
    let made = api.post("/schedulers/ask/force", &json!({}));
    let requests = made["requests"].as_array().expect("requests").clone();
    let mut said = BTreeMap::new();
    for request in &requests {
        let build = api.until_built(request["id"].as_i64().expect("a number"));
        assert_eq!(build["result"], "success", "{build:#}");
        let log = build["steps"][0]["logs"][0]["id"].as_i64().expect("a log");
        let text = String::from_utf8_lossy(&api.bytes(&format!("/logs/{log}/raw"))).trim().to_owned();
        said.insert(text, build["steps"][1]["result"].as_str().expect("a result").to_owned());
    }
    let expected = [
        ("hello gcc12 64 unit (gcc12, 64)".to_owned(), "skipped".to_owned()),
        ("hello gcc13 64 unit (gcc13, 64)".to_owned(), "success".to_owned()),
    ];
    assert_eq!(said, BTreeMap::from(expected));

    // By its name, from the command line and over the API; each has a history of its own.
    let started = master.cli(&["build", "start", "unit (gcc13, 64)", "--wait"]);
    assert!(started.status.success(), "{started:?}");
    assert_eq!(builds::run(&api, "unit%20(gcc12,%2064)", json!({}))["builder"], "unit (gcc12, 64)");
    let of_one = api.get("/builds?builder=unit%20(gcc13,%2064)");
    assert_eq!(of_one["items"].as_array().map(Vec::len), Some(2), "{of_one:#}");
    let whole = master.cli(&["build", "start", "unit"]);
    let why = String::from_utf8_lossy(&whole.stderr).into_owned();
    assert!(!whole.status.success() && why.contains("unit (gcc12, 64); unit (gcc13, 64)"), "{why}");

    // An axis that is not there is named, with those that are.
    let broken = builds::run(&api, "broken%20(gcc12)", json!({}));
    assert!(
        broken["steps"][0]["summary"].as_str().is_some_and(|s| s.contains("there are: cc")),
        "{broken:#}"
    );
    wait::until_true("nothing to be left of it", wait::SOON, || {
        api.list("/requests?state=queued").is_empty()
    });
}
