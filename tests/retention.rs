//! Retention, by number and by age: what is beyond goes with all that belongs to it, what runs or says how a builder stands stays.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Api, Bench, Database, Options, Scratch, wait};

fn config(folder: &Path, server: &str) -> String {
    format!(
        "version: 1\n{server}pools: {{here: {{local: {{}}, max: 3, reuse: {{builds: 100, idle: 1h}}}}}}\nbuilders:\n  \
         unit:\n    steps:\n      - {{name: print, run: 'seq 1 5000; date > made'}}\n      - {{name: keep, upload: {{paths: made, as: made}}}}\n  \
         mixed: {{steps: [{{run: 'test -e {folder}/good'}}]}}\n  long: {{steps: [{{run: 'exec sleep 602'}}]}}\n",
        folder = folder.display()
    )
}

fn ids(api: &Api, path: &str) -> Vec<i64> {
    api.list(path).iter().map(|item| item["id"].as_i64().expect("a number")).collect()
}

fn objects(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { objects(&entry.path()) } else { 1 }).sum()
}

/// The config in force is this one now, and what it says has been done.
fn until_left(bench: &Bench, config: &str, builder: &str, expected: &[i64]) {
    bench.master.write_config(config);
    bench.master.reload();
    let path = format!("/builds?builder={builder}");
    bench.api.until("the rest to be forgotten", &path, wait::A_BUILD, |found| {
        let left = found["items"].as_array()?.iter().map(|item| item["id"].as_i64().unwrap_or(0));
        (left.collect::<Vec<_>>() == expected).then_some(())
    });
}

/// All events of a kind.
fn events(api: &Api, kind: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = api.get(&format!("/events/list?after={after}"));
        let items = page["items"].as_array().expect("a list");
        all.extend(items.iter().filter(|event| event["kind"] == kind).cloned());
        let next = page["next"].as_i64().expect("a number");
        if next == after || items.is_empty() {
            return all;
        }
        after = next;
    }
}

fn status(api: &Api, path: &str) -> u16 {
    api.try_get(path).map_or_else(|refused| refused.status, |_| 200)
}

fn bench(database: Database) -> Bench {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("good"), "").expect("written");
    let text = config(scratch.path(), "");
    let text = text.trim_start_matches("version: 1\n").to_owned();
    Bench::within(scratch, &text, Options { database, ..Options::default() })
}

#[test]
fn of_each_builder_so_many_are_kept() {
    let bench = bench(Database::File);
    let api = &bench.api;
    let long = bench.start("long");
    bench.running(long, "the long build to run", |build| !build.steps().is_empty());
    for _ in 0..6 {
        bench.run("unit").must_be("success");
    }
    bench.run("mixed").must_be("success");
    std::fs::remove_file(bench.scratch.path().join("good")).expect("it was there");
    for _ in 0..4 {
        bench.run("mixed").must_be("failure");
    }
    let (unit, mixed) = (ids(api, "/builds?builder=unit"), ids(api, "/builds?builder=mixed"));
    let requests = ids(api, "/requests");
    let logs: Vec<Value> =
        unit.iter().map(|id| bench.build(*id).step("print")["logs"][0]["id"].clone()).collect();
    let folder = bench.master.state().join("objects");
    let before = objects(&folder);
    assert!(before >= 12, "a log and a file of each: {before}");

    let keep = config(bench.scratch.path(), "server: {keep: {per_builder: 2}}\n");
    until_left(&bench, &keep, "unit", &unit[..2]);
    // The newest good one says how the builder stands.
    until_left(&bench, &keep, "mixed", &[mixed[0], mixed[1], mixed[4]]);
    wait::until_true("the objects to be gone", wait::SOON, || objects(&folder) <= before - 8);
    for (id, log) in unit.iter().zip(&logs).skip(2) {
        assert_eq!((status(api, &format!("/builds/{id}")), status(api, &format!("/logs/{log}"))), (404, 404));
    }
    assert_eq!(bench.build(unit[0]).text("print").lines().count(), 5000);
    let left: BTreeSet<i64> = ids(api, "/requests").into_iter().collect();
    assert_eq!(left.len(), requests.len() - 6, "requests go with their last build");
    assert!(left.contains(&long) && bench.build(ids(api, "/builds?builder=long")[0]).result() == "none yet");
    wait::until_true("word of it", wait::SOON, || {
        let told = events(api, "forgotten");
        told.iter().map(|event| event["payload"]["builds"].as_i64().expect("a number")).sum::<i64>() == 6
    });
    api.post(&format!("/requests/{long}/cancel"), &json!({}));
    assert_eq!(api.until_built(long)["result"], "cancelled");
}

#[test]
fn what_is_old_goes_logs_before_builds_and_readers_of_old_events_are_told() {
    let Some(database) = Database::fresh_postgres() else { return };
    let Database::Postgres(fresh) = &database else { unreachable!("it was made there") };
    let bench = bench(database.clone());
    let api = &bench.api;
    for _ in 0..3 {
        bench.run("unit").must_be("success");
    }
    let old = ids(api, "/builds?builder=unit");
    let old_requests = ids(api, "/requests");
    let old_worker = ids(api, "/workers");
    // Ten days pass.
    let ago = 10 * 86_400_000_000_i64;
    for (table, columns) in [
        ("builds", &["requested", "provisioned_from", "matched", "finished"][..]),
        ("buildsets", &["created", "done"]),
        ("requests", &["created", "done"]),
        ("artifacts", &["created"]),
        ("events", &["at"]),
    ] {
        let sets: Vec<String> = columns.iter().map(|column| format!("{column} = {column} - {ago}")).collect();
        fresh.query(&format!("UPDATE {table} SET {}", sets.join(", ")));
    }
    bench.run("unit").must_be("success");
    let young = ids(api, "/builds?builder=unit")[0];
    let folder = bench.master.state().join("objects");
    let before = objects(&folder);
    let newest = api.get("/master")["newest_event"].as_i64().expect("a number");

    let keep = |what: &str| config(bench.scratch.path(), &format!("server: {{keep: {{{what}}}}}\n"));
    until_left(&bench, &keep("logs: 5d, artifacts: 5d"), "unit", &ids(api, "/builds?builder=unit"));
    let log = |id: i64| api.get(&format!("/logs/{}", bench.build(id).step("print")["logs"][0]["id"]));
    wait::until_true("the old logs to be empty", wait::A_BUILD, || {
        old.iter().all(|id| log(*id)["bytes"] == 0 && log(*id)["note"] == "logs are kept for 5d")
    });
    wait::until_true("the old files to be gone", wait::A_BUILD, || {
        old.iter().all(|id| bench.build(*id).detail["artifacts"] == json!([]))
    });
    assert_eq!(bench.build(old[0]).text("print"), "");
    assert_eq!(bench.build(young).text("print").lines().count(), 5000);
    wait::until_true("the objects to be gone", wait::SOON, || objects(&folder) <= before - 6);

    assert_eq!(status(api, "/events/list?after=1"), 200);
    until_left(&bench, &keep("builds: 5d, events: 1d"), "unit", &[young]);
    wait::until_true("the old requests to be gone", wait::SOON, || {
        old_requests.iter().all(|id| status(api, &format!("/requests/{id}")) == 404)
    });
    wait::until_true("the old events to be gone", wait::A_BUILD, || {
        status(api, "/events/list?after=1") == 410
    });
    assert_eq!(status(api, &format!("/events/list?after={newest}")), 200);
    // The worker lives, and is named by the young build.
    assert_eq!(ids(api, "/workers"), old_worker);
}
