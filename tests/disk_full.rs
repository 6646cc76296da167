//! A disk is full: where logs and artifacts lie, under the database, on the worker. Builds wait or end as the infrastructure's failure, and go on
//! by themselves once there is room. Each disk is a small one of the scenario's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::mount::{self, Mount};
use crate::harness::{Bench, Build, Database, Options, Scratch, wait};

/// Longer than either side of a link is patient with a silent one.
const FULL: Duration = Duration::from_secs(25);

/// A folder of the scenario's that everybody may write to.
fn outside(scratch: &Scratch) -> PathBuf {
    let folder = scratch.folder("outside");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("the folder is ours");
    // Each worker has a user of its own.
    for name in ["ran", "unlucky", "greedy"] {
        std::fs::write(folder.join(name), "").expect("the folder is ours");
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o666))
            .expect("the file is ours");
    }
    folder
}

/// What `/readyz` says where it is not content.
fn trouble(bench: &Bench) -> Option<String> {
    let refused = bench.api.try_get("/readyz").err()?;
    assert_eq!(refused.status, 503, "{refused:?}");
    Some(refused.body["error"]["message"].as_str().expect("it has a message").to_owned())
}

/// Until `/readyz` says that a file system is full, which one, and how much is missing.
fn full(bench: &Bench, what: &str, at: &Path) {
    let at = format!("mounted at {}", at.display());
    let what = format!("the file system of {what}");
    wait::until_true("the master to say so", wait::A_BUILD, || {
        let said = trouble(bench).unwrap_or_default();
        [what.as_str(), &at, "is full", "are free", "more are needed"]
            .iter()
            .all(|words| said.contains(words))
    });
    wait::until_true("the log to say so", wait::SOON, || bench.master.log().contains(&at));
}

fn ready(bench: &Bench, what: &str) {
    wait::until_true("the master to be ready again", wait::A_BUILD, || trouble(bench).is_none());
    let over = format!("the trouble with the {what} is over");
    wait::until_true("the log to say so", wait::SOON, || bench.master.log().contains(&over));
}

fn started(build: &Build) -> bool {
    build.detail["steps"][0]["logs"][0]["id"].is_i64()
}

#[test]
fn output_and_files_wait_for_room_in_the_log_store() {
    if !mount::possible() {
        return;
    }
    let scratch = Scratch::new();
    let out = outside(&scratch);
    let objects = scratch.folder("state-one/objects");
    // More than the master keeps in memory of a log that it cannot store.
    let config = format!(
        "pools:\n  here: {{local: {{}}, max: 2}}\nbuilders:\n  prints:\n    steps:\n      - name: print\n        run: |\n          \
         until [ -e {out}/go ]; do sleep 0.1; done\n          head -c 9000000 /dev/urandom | base64 | tee {out}/printed\n  sends:\n    steps:\n      \
         - {{name: make, run: 'until [ -e {out}/go ]; do sleep 0.1; done; head -c 3000000 /dev/urandom | tee {out}/sent > file'}}\n      \
         - {{upload: {{paths: file, as: file}}}}\n",
        out = out.display(),
    );
    let mounts = vec![Mount { at: objects.clone(), megabytes: 40 }];
    let bench = Bench::within(scratch, &config, Options { mounts, ..Options::default() });
    let [prints, sends] = ["prints", "sends"].map(|name| bench.start(name));
    bench.running(prints, "the first to run", started);
    bench.running(sends, "the second to run", started);
    let seen = mount::seen_by(&bench.master, &objects);
    mount::fill(&seen);
    let attached = bench.master.log().matches("agent attached").count();
    std::fs::write(out.join("go"), "").expect("the folder is ours");
    full(&bench, "the log store", &objects);
    let since = Instant::now();
    while since.elapsed() < FULL {
        assert!(trouble(&bench).is_some());
        std::thread::sleep(Duration::from_millis(500));
    }
    for request in [prints, sends] {
        let open = bench.api.get(&format!("/builds?request={request}&open=true"));
        assert_eq!(open["items"].as_array().map(Vec::len), Some(1), "it waits: {open:#}");
    }
    mount::empty(&seen);
    ready(&bench, "log store");

    let build = bench.ended(prints);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1);
    let printed = std::fs::read(out.join("printed")).expect("the build has written it");
    assert!(printed.len() > 12_000_000 && build.bytes("print") == printed, "the log is whole");
    let build = bench.ended(sends);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1);
    let artifact = &build.detail["artifacts"][0];
    let sent = std::fs::read(out.join("sent")).expect("the build has written it");
    assert_eq!(bench.api.bytes(&format!("/artifacts/{}/content", artifact["id"])), sent);
    let again = bench.master.log().matches("agent attached").count();
    assert_eq!(again, attached, "the agents' sessions have stayed");
}

#[test]
fn a_database_that_has_no_room_stays_sound_and_goes_on() {
    if !mount::possible() {
        return;
    }
    let scratch = Scratch::new();
    let out = outside(&scratch);
    let folder = scratch.folder("database");
    let file = folder.join("rouse.db");
    let lines = 100;
    let config = format!(
        "pools:\n  here: {{local: {{}}, max: 1}}\nbuilders:\n  counts:\n    steps:\n      - name: count\n        run: |\n          \
         n=0; while [ $n -lt {lines} ]; do n=$((n + 1)); echo \"line $n\"; sleep 0.1; done\n      \
         - {{name: after, run: 'echo after >> {out}/ran'}}\n",
        out = out.display(),
    );
    let mounts = vec![Mount { at: folder.clone(), megabytes: 16 }];
    let database = Database::At(file.display().to_string());
    let bench = Bench::within(scratch, &config, Options { mounts, database, ..Options::default() });
    let [first, second] = [(); 2].map(|()| bench.start("counts"));
    bench.running(first, "the first to run", started);
    let seen = mount::seen_by(&bench.master, &folder);
    mount::fill(&seen);
    full(&bench, "the database", &folder);
    // Nothing is made of a wish that cannot be kept.
    let refused = bench.api.try_post("/builders/counts/build", &serde_json::json!({}));
    assert_eq!(refused.map_err(|refused| refused.status), Err(503));
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(12) {
        assert!(bench.api.try_get("/livez").is_ok());
        std::thread::sleep(Duration::from_millis(500));
    }
    mount::empty(&seen);
    ready(&bench, "database");

    for request in [first, second] {
        let build = bench.ended(request);
        build.must_be("success");
        assert_eq!(build.detail["attempt"], 1);
        let whole: String = (1..=lines).map(|n| format!("line {n}\n")).collect();
        assert_eq!(build.text("count"), whole);
    }
    assert_eq!(std::fs::read_to_string(out.join("ran")).expect("it is there"), "after\nafter\n");
    assert_eq!(bench.api.list("/requests").len(), 2, "what was turned away has left nothing");
    let database = rusqlite::Connection::open(seen.join("rouse.db")).expect("it is there");
    let found: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(found, "ok");
}

#[test]
fn a_full_disk_of_the_worker_makes_no_build_red() {
    if !mount::possible() {
        return;
    }
    let scratch = Scratch::new();
    let out = outside(&scratch);
    let workers = scratch.folder("workers");
    // `greedy` takes more than there is, and again; `unlucky` is there when somebody else has taken all.
    let config = format!(
        "providers:\n  host: {{local: {{folder: {workers}}}}}\npools:\n  here: {{local: {{}}, max: 1}}\nbuilders:\n  \
         unlucky:\n    retries: 5\n    steps:\n      - name: write\n        run: |\n          echo ran >> {out}/unlucky; \
         until [ -e {out}/go ]; do sleep 0.1; done\n          head -c 100000 /dev/zero > file || {{ rm -f file; exit 1; }}\n  \
         greedy:\n    retries: 1\n    steps: [{{name: write, run: 'echo ran >> {out}/greedy; head -c 40000000 /dev/zero > file'}}]\n  \
         wrong:\n    steps: [{{name: fail, run: 'exit 1'}}]\n",
        workers = workers.display(),
        out = out.display(),
    );
    let mounts = vec![Mount { at: workers.clone(), megabytes: 16 }];
    let bench = Bench::within(scratch, &config, Options { mounts, ..Options::default() });
    let lines = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_default().lines().count();
    let seen = mount::seen_by(&bench.master, &workers);

    let unlucky = bench.start("unlucky");
    wait::until_true("the step to run", wait::A_BUILD, || lines("unlucky") == 1);
    mount::fill(&seen);
    std::fs::write(out.join("go"), "").expect("the folder is ours");
    let first: Value = bench.api.until(
        "the attempt to end",
        &format!("/builds?request={unlucky}"),
        wait::A_BUILD,
        |builds| builds["items"].as_array()?.last().filter(|build| !build["result"].is_null()).cloned(),
    );
    assert_eq!(first["result"], "retry", "{first:#}");
    let summary = first["summary"].as_str().expect("it has a summary");
    assert!(summary.contains("the worker's file system is full"), "{summary}");
    assert!(
        summary.contains("of 16.0 MiB are free") && summary.contains(&workers.display().to_string()),
        "{summary}"
    );
    mount::empty(&seen);
    let build = bench.ended(unlucky);
    build.must_be("success");

    let build = bench.run("greedy");
    build.must_be("exception");
    assert!(build.summary().contains("the worker's file system is full"), "{}", build.summary());
    assert!(build.summary().contains("given up after 2 attempts"), "{}", build.summary());
    assert_eq!(lines("greedy"), 2);

    // With room, what fails is red.
    bench.run("wrong").must_be("failure");
}
