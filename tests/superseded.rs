//! A newer change ends the builds of older ones where the builder says so, and nothing else; also through `kill -9` of the master in the middle.

use serde_json::Value;

use crate::harness::story::id;
use crate::harness::{Database, GitRepo, Master, Options, Scratch, wait};

const BY: &str = "superseded by a newer change: 1 commit on main by Ada Example";

/// The request of each builder of a buildset.
fn request(master: &Master, buildset: &Value, builder: &str) -> Value {
    let whole = master.api().get(&format!("/buildsets/{}", id(buildset, "id")));
    let all = whole["requests"].as_array().expect("a list");
    all.iter().find(|request| request["builder"] == builder).expect("its request").clone()
}

fn until_running(master: &Master, buildset: &Value, builder: &str) -> i64 {
    let request = id(&request(master, buildset, builder), "id");
    master.api().until(&format!("`{builder}` to run"), &format!("/requests/{request}"), wait::A_BUILD, |r| {
        r["build"].as_i64()
    });
    request
}

fn until_done(master: &Master, request: i64) -> Value {
    master.api().until(
        &format!("request {request} to end"),
        &format!("/requests/{request}"),
        wait::A_BUILD,
        |r| (r["state"] == "done").then(|| r.clone()),
    )
}

#[test]
fn a_newer_change_ends_the_builds_of_older_ones_of_its_branch() {
    for place in ["", "cancel_request:before:1", "cancel_request:after:1"] {
        let scratch = Scratch::new();
        let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
        let config = format!(
            "version: 1\ncodebases: {{app: {{git: '{}', poll: 1s}}}}\npools: {{here: {{local: {{}}, max: 8}}}}\n\
             builders:\n  base: {{template: true, steps: [{{checkout: app}}, {{run: \"until [ -e $GO ]; do sleep 0.1; done\"}}]}}\n  \
             unit: {{like: base, supersede: branch, env: {{GO: {go}}}}}\n  keep: {{like: base, env: {{GO: {go}}}}}\n\
             schedulers:\n  push: {{changes: {{app: {{}}}}, builders: [unit, keep]}}\n  \
             by-hand: {{force: {{}}, builders: unit}}\n",
            repo.url(),
            go = scratch.path().join("go").display(),
        );
        let environment =
            if place.is_empty() { vec![] } else { vec![("ROUSE_FAILPOINT".to_owned(), place.to_owned())] };
        let options = Options { database: Database::File, environment, ..Options::default() };
        let mut master = Master::start(scratch.path(), &config, options);
        let api = master.api();
        api.until_looked(&["app"]);

        repo.land("main", "one", &[("file", "2\n")]);
        let first = api.until_buildsets("push", 1).remove(0);
        let [unit, keep] = ["unit", "keep"].map(|builder| until_running(&master, &first, builder));
        repo.branch("side");
        repo.land("side", "elsewhere", &[("file", "3\n")]);
        let second = api.until_buildsets("push", 2).remove(1);
        let side = until_running(&master, &second, "unit");
        let by_hand = crate::harness::builds::start(&api, "unit", serde_json::json!({}));

        repo.go_to("main");
        repo.land("main", "two", &[("file", "4\n")]);
        if !place.is_empty() {
            master.wait_for_end(wait::A_BUILD);
            master.set_environment(vec![]);
            master.run();
        }
        let api = master.api();
        let third = api.until_buildsets("push", 3).remove(2);
        let ended = until_done(&master, unit);
        assert_eq!(
            (ended["result"].as_str(), ended["cancel"].as_str()),
            (Some("cancelled"), Some(BY)),
            "{place}"
        );

        std::fs::write(scratch.path().join("go"), "").expect("a file can be written");
        for request in [keep, side, by_hand, id(&request(&master, &third, "unit"), "id")] {
            let ended = until_done(&master, request);
            assert_eq!(
                (&ended["result"], &ended["cancel"]),
                (&"success".into(), &Value::Null),
                "{place}: {ended:#}"
            );
        }
    }
}
