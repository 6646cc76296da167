//! Locks: taken before there is a worker, given in order, kept until the build ends, through `kill -9` of the master, and never had by two.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::builds::{explained, start};
use crate::harness::{Api, Database, GitRepo, Master, Options, Scratch, builds, wait};

/// Builders whose builds see for themselves whether they are alone, and go on until they are let go.
struct Scene {
    // In this order: the master ends before its folder goes.
    master: Master,
    outside: PathBuf,
    scratch: Scratch,
}

const LOCKS: &str = "locks: {key: 1, licence: 2, open: {count: 1, accepts: any}, rig: {per: worker}}\n";

impl Scene {
    fn prepare(environment: Vec<(String, String)>) -> Self {
        let scratch = Scratch::new();
        let outside = scratch.folder("outside");
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o777)).expect("ours");
        let ran = scratch.file("outside/ran", "");
        std::fs::set_permissions(&ran, std::fs::Permissions::from_mode(0o666)).expect("ours");
        let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
        repo.branch("side");
        repo.land("side", "elsewhere", &[("file", "2\n")]);
        let config = config(&repo, &outside.display().to_string());
        let options = Options { database: Database::File, environment, ..Options::default() };
        let master = Master::prepare(scratch.path(), &config, options);
        Self { master, outside, scratch }
    }

    fn start(&self, builder: &str, name: &str) -> i64 {
        start(&self.master.api(), builder, json!({"name": name}))
    }

    fn let_go(&self, name: &str) {
        std::fs::write(self.outside.join(format!("go-{name}")), "").expect("a file can be written");
    }

    fn until_it_runs(&self, name: &str) {
        wait::until_true(&format!("`{name}` to run"), wait::A_BUILD, || self.ran().iter().any(|n| n == name));
    }

    /// Those that have begun, in order.
    fn ran(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.outside.join("ran")).expect("it was made");
        text.lines().map(str::to_owned).collect()
    }
}

fn config(repo: &GitRepo, out: &str) -> String {
    let builder = |name: &str, locks: &str| {
        format!(
            "  {name}:\n    like: base\n    locks: {locks}\n    steps:\n      - name: work\n        run: |\n          \
             if [ {name} != part ]; then mkdir {out}/in-use || exit 9; fi\n          echo $NAME >> {out}/ran\n          \
             while [ ! -e {out}/go-$NAME ]; do sleep 0.1; done\n          \
             if [ {name} != part ]; then rmdir {out}/in-use; fi\n"
        )
    };
    format!(
        "version: 1\ncodebases: {{app: {{git: '{}', branches: main}}}}\n{LOCKS}pools: {{here: {{local: {{}}, max: 4, accepts: any}}, wide: {{local: {{}}, max: 2, slots: 4, reuse: {{builds: 100}}}}}}\n\
         builders:\n  rigged:\n    like: base\n    pool: wide\n    locks: {{rig: 1}}\n    steps:\n      - name: work\n        run: |\n          \
         echo $NAME >> {out}/ran\n          while [ ! -e {out}/go-$NAME ]; do sleep 0.1; done\n  \
         beside: {{pool: wide, steps: [{{run: 'true'}}]}}\n  base: {{template: true, env: {{NAME: '{{{{ props.name }}}}'}}}}\n{}{}{}  \
         free: {{steps: [{{run: 'true'}}]}}\n  \
         strange: {{locks: {{key: exclusive}}, steps: [{{checkout: app}}]}}\n  \
         welcome: {{locks: {{open: exclusive}}, steps: [{{checkout: app}}]}}\n",
        repo.url(),
        builder("alone", "{key: 1}"),
        builder("whole", "{licence: exclusive}"),
        builder("part", "{licence: 1}"),
    )
}

fn sentence(answer: &Value) -> Option<String> {
    (answer["primary"]["code"] == "lock_taken")
        .then(|| answer["primary"]["sentence"].as_str().unwrap_or_default().to_owned())
}

/// What `explain` says of a request that waits for a lock, once it says what it should.
fn waits(api: &Api, request: i64, expected: &str) -> Value {
    explained(api, request, expected, |answer| {
        (sentence(answer).as_deref() == Some(expected)).then(|| answer.clone())
    })
}

fn build_of(api: &Api, request: i64) -> i64 {
    api.until("a build", &format!("/requests/{request}"), wait::A_BUILD, |r| r["build"].as_i64())
}

fn lock(api: &Api, name: &str) -> Value {
    let locks = api.get("/locks");
    let found = locks["items"].as_array().into_iter().flatten().find(|lock| lock["name"] == name);
    found.unwrap_or_else(|| panic!("{locks:#}")).clone()
}

#[test]
fn who_waits_for_a_lock_has_no_worker_and_all_have_their_turn() {
    let mut scene = Scene::prepare(vec![]);
    scene.master.run();
    let api = scene.master.api();
    api.until_looked(&["app"]);

    // One has the lock. The next waits without a worker, says for what, and may be cancelled.
    let first = scene.start("alone", "first");
    scene.until_it_runs("first");
    let holder = build_of(&api, first);
    let (second, third) = (scene.start("alone", "second"), scene.start("alone", "third"));
    let why = waits(&api, second, &format!("waits for lock `key`, held by build {holder}"));
    assert_eq!(why["pools"][0]["sentence"], "could run it once it has its locks");
    let last = waits(
        &api,
        third,
        &format!("waits for lock `key`, held by build {holder}; request {second} is ahead"),
    );
    assert_eq!(last["primary"]["docs"], "docs/reference/reasons.md#lock_taken");
    assert_eq!(builds::run(&api, "free", json!({}))["result"], "success", "who needs no lock goes by");
    let held = lock(&api, "key");
    assert_eq!((&held["held"][0]["build"], &held["waiting"]), (&json!(holder), &json!(2)), "{held:#}");
    let shown = scene.master.cli(&["lock", "list"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("build {holder} (alone)")), "{shown}");
    let workers = api.list("/workers?limit=100");
    assert_eq!(workers.len(), 2, "of those that wait none has ever had a worker: {workers:#?}");
    assert!(scene.master.cli(&["cancel", "--request", &second.to_string()]).status.success());
    api.until("the second to end", &format!("/requests/{second}"), wait::A_BUILD, |request| {
        (request["result"] == "cancelled").then_some(())
    });
    assert_eq!(scene.ran(), ["first"]);
    scene.let_go("first");
    scene.until_it_runs("third");
    // One that is cancelled while it runs gives its lock back, too.
    let fourth = scene.start("alone", "fourth");
    std::fs::remove_dir(scene.outside.join("in-use")).expect("the third has made it");
    assert!(scene.master.cli(&["cancel", "--request", &third.to_string()]).status.success());
    scene.until_it_runs("fourth");
    scene.let_go("fourth");
    assert_eq!(api.until_built(fourth)["result"], "success");

    // Two share the licence; one wants all of it, and who comes later does not pass it.
    let shared = [scene.start("part", "a"), scene.start("part", "b")];
    ["a", "b"].iter().for_each(|name| scene.until_it_runs(name));
    let sharing = shared.map(|request| build_of(&api, request));
    let whole = scene.start("whole", "all");
    let both = format!("held by build {} and build {}", sharing[0], sharing[1]);
    waits(&api, whole, &format!("waits for all of lock `licence`, {both}"));
    scene.let_go("a");
    assert_eq!(api.until_built(shared[0])["result"], "success");
    let later = scene.start("part", "late");
    let by = format!("held by build {}; request {whole} is ahead", sharing[1]);
    waits(&api, later, &format!("waits for 1 of lock `licence`, of which there are 2, {by}"));
    scene.let_go("b");
    scene.until_it_runs("all");
    scene.let_go("late");
    scene.let_go("all");
    assert_eq!(api.until_built(whole)["result"], "success");
    assert_eq!(api.until_built(later)["result"], "success");
    assert_eq!(scene.ran(), ["first", "third", "fourth", "a", "b", "all", "late"]);

    // A stranger's build does not come near a lock that is not open to it.
    let asked = |builder: &str| {
        let made = api.post(&format!("/builders/{builder}/build"), &json!({"sources": [{"branch": "side"}]}));
        made["requests"][0]["id"].as_i64().expect("a request")
    };
    let strange = asked("strange");
    let refused = explained(&api, strange, "to be refused", |answer| {
        (answer["primary"]["code"] == "lock_refused").then(|| answer["primary"].clone())
    });
    assert_eq!(refused["permanent"], true, "{refused:#}");
    assert_eq!(api.until_built(asked("welcome"))["result"], "success");
    let free = scene.start("alone", "fifth");
    scene.until_it_runs("fifth");
    scene.let_go("fifth");
    assert_eq!(api.until_built(free)["result"], "success", "it holds up nobody");
    assert!(lock(&api, "key")["held"].as_array().is_some_and(Vec::is_empty));
    drop(scene.scratch);
}

#[test]
fn a_lock_outlives_its_master() {
    let mut scene = Scene::prepare(vec![]);
    scene.master.run();
    let first = scene.start("alone", "first");
    scene.until_it_runs("first");
    let second = scene.start("alone", "second");
    let holder = build_of(&scene.master.api(), first);
    let held = format!("waits for lock `key`, held by build {holder}");
    waits(&scene.master.api(), second, &held);
    scene.master.kill9();
    scene.master.run();
    let api = scene.master.api();
    waits(&api, second, &held);
    assert_eq!(scene.ran(), ["first"]);
    // It ends while nobody is there.
    scene.master.kill9();
    scene.let_go("first");
    scene.let_go("second");
    wait::until_true("the first to end", wait::A_BUILD, || !scene.outside.join("in-use").exists());
    scene.master.run();
    let api = scene.master.api();
    for request in [first, second] {
        let build = api.until_built(request);
        assert_eq!((&build["result"], &build["attempt"]), (&json!("success"), &json!(1)), "{build:#}");
    }
    assert_eq!(scene.ran(), ["first", "second"]);
}

#[test]
fn a_lock_of_each_worker_is_had_once_on_each() {
    let mut scene = Scene::prepare(vec![]);
    scene.master.run();
    let api = scene.master.api();
    // Two workers at most, of four slots each: so two of them run.
    let requests = ["a", "b", "c"].map(|name| scene.start("rigged", name));
    ["a", "b"].iter().for_each(|name| scene.until_it_runs(name));
    let workers =
        [0, 1].map(|n| api.get(&format!("/builds/{}", build_of(&api, requests[n])))["worker"].clone());
    assert_ne!(workers[0], workers[1], "one on each worker");
    let why = "its maximum of workers is reached, and lock `rig` is taken on each that has a free slot";
    explained(&api, requests[2], why, |answer| (sentence(answer)? == why).then_some(()));
    assert_eq!(builds::run(&api, "beside", json!({}))["result"], "success", "the slot is free for others");
    let held = lock(&api, "rig");
    assert_eq!(held["held"].as_array().map(Vec::len), Some(2), "{held:#}");
    assert_eq!(scene.ran().len(), 2);
    scene.let_go("b");
    scene.until_it_runs("c");
    ["a", "c"].iter().for_each(|name| scene.let_go(name));
    for request in requests {
        assert_eq!(api.until_built(request)["result"], "success");
    }
}

/// Killed at each batch in which a lock is taken, handed on, or given back.
#[test]
fn a_master_killed_as_a_lock_changes_hands_neither_loses_nor_doubles_it() {
    let places = [
        "request.lock:before:1",
        "request.lock:after:1",
        "build.claim:before:1",
        "build.claim:after:1",
        "request.lock:before:2",
        "request.lock:after:2",
    ];
    std::thread::scope(|scope| {
        for place in places {
            scope.spawn(move || {
                let mut scene = Scene::prepare(vec![("ROUSE_FAILPOINT".to_owned(), place.to_owned())]);
                for name in ["one", "two", "three"] {
                    scene.let_go(name);
                }
                scene.master.run();
                let api = scene.master.api();
                let mut asked = 0;
                for name in ["one", "two", "three"] {
                    let body = json!({"properties": {"name": name}});
                    asked += usize::from(api.try_post_once("/builders/alone/build", &body, name).is_ok());
                }
                scene.master.wait_for_end(wait::A_BUILD);
                scene.master.set_environment(vec![]);
                scene.master.run();
                let api = scene.master.api();
                let requests =
                    api.until(&format!("all to end after {place}"), "/requests", wait::A_BUILD, |r| {
                        let items = r["items"].as_array()?;
                        items.iter().all(|r| r["state"] == "done").then(|| items.clone())
                    });
                assert!(requests.len() >= asked, "{place}: {requests:#?}");
                assert!(requests.iter().all(|r| r["result"] == "success"), "{place}: {requests:#?}");
                let mut ran = scene.ran();
                assert_eq!(ran.len(), requests.len(), "{place}: each ran once: {ran:?}");
                ran.sort();
                ran.dedup();
                assert_eq!(ran.len(), requests.len(), "{place}: none ran twice");
                assert!(lock(&api, "key")["held"].as_array().is_some_and(Vec::is_empty), "{place}");
            });
        }
    });
}
