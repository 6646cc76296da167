//! Steps that start builds of other builders: for each value, waited for or not, cancelled with their parent, once each through kills of the master.

use serde_json::{Value, json};

use crate::harness::story::id;
use crate::harness::{Bench, Build, Database, GitRepo, Options, Scratch, wait};

/// Builds of `builder`, oldest first.
fn builds_of(bench: &Bench, builder: &str) -> Vec<Build> {
    let mut all = bench.api.list(&format!("/builds?builder={builder}"));
    all.reverse();
    all.iter().map(|build| bench.build(id(build, "id"))).collect()
}

/// `builder: result` of what a build has started.
fn triggered(build: &Build) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = build.detail["triggered"].as_array().expect("a list");
    all.iter().map(|one| format!("{}: {}", text(&one["builder"]), text(&one["result"]))).collect()
}

fn pool(max: usize) -> String {
    format!("pools: {{here: {{local: {{}}, max: {max}}}}}\n")
}

/// A master that is killed at a place in its work.
fn killed_at(place: &str, builders: &str) -> Bench {
    let options = Options {
        database: Database::File,
        environment: vec![("ROUSE_FAILPOINT".to_owned(), place.to_owned())],
        ..Options::default()
    };
    Bench::within(Scratch::new(), &format!("{}builders:\n{builders}", pool(2)), options)
}

/// It has come there, and runs again.
fn until_it_came_back(bench: &mut Bench) {
    bench.master.wait_for_end(wait::A_BUILD);
    bench.master.set_environment(Vec::new());
    bench.master.run();
}

/// The build of a request, once of the two that it starts so many run at least.
fn until_its_builds_run(bench: &Bench, request: i64, least: usize) -> Build {
    bench.running(request, "its builds to run", |build| {
        build.detail["triggered"].as_array().is_some_and(|all| {
            let runs = all.iter().filter(|one| one["build"].as_i64().is_some()).count();
            all.len() == 2 && runs >= least
        })
    })
}

fn until_its_builds_are(bench: &Bench, parent: &Build, ended: &[&str]) {
    wait::until_true("its builds to end", wait::A_BUILD, || triggered(&bench.build(parent.id())) == ended);
}

#[test]
fn a_step_starts_builds_of_its_own_sources_for_each_value_and_is_as_good_as_the_worst() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
    let head = repo.head();
    let config = format!(
        "codebases: {{app: {{git: '{}', poll: 1s}}}}\n{}builders:\n  \
         parent:\n    steps:\n      - checkout: app\n      - run: 'echo made > out'\n      - upload: {{paths: out, as: made}}\n      \
         - trigger: {{builder: smoke, each: {{arch: [amd64, arm64]}}, properties: {{what: 'of {{{{ builder.name }}}}', n: 3}}}}\n      \
         - run: 'echo after'\n  \
         smoke:\n    steps:\n      - checkout: app\n      - download: {{artifact: made, from: parent}}\n      \
         - run: 'cat out; echo \"{{{{ props.arch }}}} {{{{ props.what }}}} {{{{ props.n }}}}\"'\n        name: look\n  \
         lenient: {{steps: [{{trigger: {{builders: [red, good]}}, flunk_on_failure: false, halt_on_failure: false}}, {{run: 'echo after', name: after}}]}}\n  \
         strict: {{steps: [{{trigger: red}}, {{run: 'echo after', name: after}}]}}\n  \
         good: {{steps: [{{run: 'true'}}]}}\n  red: {{steps: [{{run: 'false'}}]}}\n",
        repo.url(),
        pool(3),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    bench.api.until_looked(&["app"]);

    let parent = bench.run("parent");
    parent.must_be("success");
    assert_eq!(parent.end_of("trigger smoke"), ("success", "2 of 2 succeeded"));
    assert_eq!(triggered(&parent), ["smoke: success", "smoke: success"]);
    let children = builds_of(&bench, "smoke");
    assert_eq!(children.len(), 2);
    for (child, arch) in children.iter().zip(["amd64", "arm64"]) {
        assert_eq!(child.detail["parent"], parent.id());
        assert_eq!(child.detail["sources"][0]["revision"], head.trim());
        assert_eq!(child.text("look"), format!("made\n{arch} of parent 3\n"));
    }
    let set = bench.api.get(&format!("/buildsets/{}", children[0].detail["buildset"]));
    let arch = set["properties"].as_array().expect("a list").iter().find(|p| p["name"] == "arch").unwrap();
    assert_eq!(arch["source"], format!("trigger by build {}", parent.id()));
    let shown = bench.cli(&["build", "show", &parent.id().to_string()]);
    assert!(shown.contains(&format!("build {} of smoke  success", children[1].id())), "{shown}");

    let strict = bench.run("strict");
    strict.must_be("failure");
    let red = builds_of(&bench, "red").remove(0).id();
    assert_eq!(
        strict.end_of("trigger red"),
        ("failure", format!("0 of 1 succeeded; build {red} of `red`: failure").as_str())
    );
    assert_eq!(strict.end_of("after").0, "skipped");

    let lenient = bench.run("lenient");
    lenient.must_be("success");
    assert_eq!(lenient.end_of("trigger red, good").0, "failure");
    assert!(lenient.end_of("trigger red, good").1.starts_with("1 of 2 succeeded; build "));
    assert_eq!(lenient.end_of("after").0, "success");
}

#[test]
fn what_is_not_waited_for_goes_on_by_itself() {
    let scratch = Scratch::new();
    let go = scratch.path().join("go");
    let config = format!(
        "{}builders:\n  parent: {{steps: [{{trigger: {{builder: child, wait: false}}}}]}}\n  \
         child: {{steps: [{{run: 'until [ -e {} ]; do sleep 0.1; done'}}]}}\n",
        pool(1),
        go.display(),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let parent = bench.run("parent");
    parent.must_be("success");
    assert_eq!(parent.end_of("trigger child"), ("success", "1 build started"));
    let request = id(&parent.detail["triggered"][0], "request");
    let child = bench.running(request, "the child to run", |build| !build.steps().is_empty());
    assert_eq!(child.result(), "none yet");
    std::fs::write(&go, "").unwrap();
    bench.ended(request).must_be("success");
}

#[test]
fn a_parent_that_waits_leaves_room_for_what_it_waits_for_and_takes_it_along_when_it_is_cancelled() {
    let scratch = Scratch::new();
    let config = format!(
        "{}builders:\n  \
         top: {{steps: [{{trigger: middle}}, {{run: 'echo top', name: top}}]}}\n  \
         middle: {{steps: [{{trigger: bottom}}]}}\n  bottom: {{steps: [{{run: 'true'}}]}}\n  \
         stuck: {{steps: [{{trigger: {{builder: endless, each: {{n: [1, 2]}}}}}}]}}\n  \
         late: {{steps: [{{trigger: endless, timeout: 3s}}, {{run: 'echo still', name: still, always: true}}]}}\n  \
         endless: {{steps: [{{run: 'sleep 1000'}}]}}\n",
        pool(1).replace("max: 1", "max: 1, waiting: 2"),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    // One worker alone may work; two more may wait for it.
    let top = bench.run("top");
    top.must_be("success");
    assert_eq!(triggered(&top), ["middle: success"]);

    let request = bench.start("stuck");
    let stuck = until_its_builds_run(&bench, request, 1);
    bench.api.post(&format!("/builds/{}/cancel", stuck.id()), &json!({"reason": "enough"}));
    let stuck = bench.ended(request);
    stuck.must_be("cancelled");
    until_its_builds_are(&bench, &stuck, &["endless: cancelled", "endless: cancelled"]);

    let late = bench.run("late");
    late.must_be("failure");
    assert_eq!(late.end_of("trigger endless"), ("failure", "timed out after 3 s"));
    assert_eq!(late.end_of("still").0, "success");
    until_its_builds_are(&bench, &late, &["endless: cancelled"]);
}

#[test]
fn builds_are_started_once_wherever_the_master_is_killed() {
    // The first buildset is the parent's own.
    for place in [
        "buildset.make:before:2",
        "buildset.make:after:2",
        "buildset.make:before:3",
        "buildset.make:after:3",
        "build.end:before:1",
        "build.end:after:1",
        "build.end:after:2",
    ] {
        let mut bench = killed_at(
            place,
            "  parent: {steps: [{trigger: {builder: child, each: {n: [1, 2]}}}, {run: 'echo after', name: after}]}\n  \
             child: {steps: [{run: 'sleep 0.3; echo \"{{ props.n }}\"', name: say}]}\n",
        );
        let request = bench.start("parent");
        until_it_came_back(&mut bench);
        let parent = bench.ended(request);
        parent.must_be("success");
        assert_eq!(parent.end_of("trigger child"), ("success", "2 of 2 succeeded"), "{place}");
        let said: Vec<String> = builds_of(&bench, "child").iter().map(|build| build.text("say")).collect();
        assert_eq!(said, ["1\n", "2\n"], "{place}");
    }
}

#[test]
fn a_cancelled_parent_takes_its_builds_along_wherever_the_master_is_killed() {
    for place in ["cancel_request:before:1", "cancel_request:after:1", "cancel_request:before:2"] {
        let mut bench = killed_at(
            place,
            "  parent: {steps: [{trigger: {builder: endless, each: {n: [1, 2]}}}]}\n  \
             endless: {steps: [{run: 'sleep 1000'}]}\n",
        );
        let request = bench.start("parent");
        let parent = until_its_builds_run(&bench, request, 2);
        // Who is asked may not live to say that it has heard.
        let _ = bench.api.try_post(&format!("/builds/{}/cancel", parent.id()), &json!({"reason": "enough"}));
        until_it_came_back(&mut bench);
        bench.ended(request).must_be("cancelled");
        until_its_builds_are(&bench, &parent, &["endless: cancelled", "endless: cancelled"]);
    }
}
