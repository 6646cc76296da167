//! The configuration is applied again without a restart: all or nothing, on each of the three ways, and never under a build that runs.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::master::ROUSE;
use crate::harness::story::id;
use crate::harness::{Master, Options, Scratch, wait};

const BROKEN: &str = "version: 1
pools:
  here: {local: {}, mx: 2}
builders:
  unit:
    pool: heer
    timout: 5m
    steps:
      - rum: make
schedulers:
  hand: {force: {}, builders: unti}
";

/// What each way of reading `BROKEN` must say: every fault, each with its place, its line and what would do.
fn assert_all_faults(told: &str, way: &str) {
    for part in [
        "unknown key `mx`",
        "rouse.yaml:3:21",
        "3 │   here: {local: {}, mx: 2}",
        "did you mean `max`?",
        "`heer`",
        "rouse.yaml:6:11",
        "did you mean `here`?",
        "unknown key `timout`",
        "rouse.yaml:7:5",
        "did you mean `timeout`?",
        "`rum`",
        "rouse.yaml:9:9",
        "did you mean `run`?",
        "`unti`",
        "rouse.yaml:11:31",
        "did you mean `unit`?",
        "5 errors",
    ] {
        assert!(told.contains(part), "{way} does not say {part:?}:\n{told}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A builder that prints a word once a file is there.
fn gated(gate: &Path, word: &str) -> String {
    format!(
        "version: 1\npools: {{here: {{local: {{}}, max: 2}}}}\nbuilders:\n  unit:\n    steps:\n      \
         - run: while [ ! -e {} ]; do sleep 0.1; done\n      - run: echo {word}\n",
        gate.display()
    )
}

#[test]
fn a_reload_is_all_or_nothing_on_each_way() {
    let scratch = Scratch::new();
    let good = |word: &str| {
        format!(
            "version: 1\npools: {{here: {{local: {{}}}}}}\nbuilders: {{unit: {{steps: [{{run: echo {word}}}]}}}}\n"
        )
    };
    let mut master = Master::start(scratch.path(), &good("one"), Options::default());
    let api = master.api();
    let revision = || id(&api.get("/config"), "revision");
    let first = revision();
    let says = |build: &Value| api.output(build, 0);
    let run = || {
        let made = api.post("/builders/unit/build", &json!({}));
        api.until_built(id(&made["requests"][0], "id"))
    };

    // By a signal.
    master.write_config(&good("two"));
    master.reload();
    api.until("the next revision", "/config", wait::SOON, |c| (id(c, "revision") != first).then_some(()));
    assert_eq!(says(&run()), "two\n");
    // By the command line, with what it did.
    master.write_config(&good("three").replace("{unit:", "{other: {steps: [{run: 'true'}]}, unit:"));
    let plan = master.cli(&["config", "plan", "--detailed-exitcode"]);
    assert_eq!(plan.status.code(), Some(2), "{plan:?}");
    assert!(text(&plan.stdout).contains("+ builder other"), "{plan:?}");
    let done = master.cli(&["config", "reload"]);
    assert!(done.status.success() && text(&done.stdout).contains("is in force\n"), "{done:?}");
    assert_eq!(
        text(&plan.stdout),
        text(&done.stdout).split_once('\n').unwrap().1,
        "the plan was what happened"
    );
    assert_eq!(says(&run()), "three\n");
    assert_eq!(master.cli(&["config", "plan", "--detailed-exitcode"]).status.code(), Some(0));
    // By the API.
    master.write_config(&good("four"));
    let done = api.post("/config/reload", &json!({}));
    assert_eq!(
        (&done["changed"], done["changes"].as_array().map(Vec::len)),
        (&json!(true), Some(2)),
        "{done:#}"
    );
    assert_eq!(says(&run()), "four\n");
    let applied = revision();
    assert_eq!(api.post("/config/reload", &json!({}))["changed"], false);

    // What has faults changes nothing, and says them all.
    master.write_config(BROKEN);
    let offline = std::process::Command::new(ROUSE)
        .args(["config", "check"])
        .arg(master.config_file())
        .output()
        .unwrap();
    assert_eq!((offline.status.code(), offline.stdout.len()), (Some(1), 0), "{offline:?}");
    assert_all_faults(&text(&offline.stderr), "config check");
    let plan = master.cli(&["config", "plan"]);
    assert_eq!((plan.status.code(), plan.stdout.len()), (Some(1), 0), "{plan:?}");
    assert_all_faults(&text(&plan.stderr), "config plan");
    let refused = master.cli(&["config", "reload"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0), "{refused:?}");
    assert_all_faults(&text(&refused.stderr), "config reload");
    let refused = api.try_post("/config/reload", &json!({})).unwrap_err();
    assert_eq!(refused.status, 400);
    let error = &refused.body["error"];
    assert!(error["message"].as_str().unwrap().ends_with("nothing was changed"), "{error:#}");
    let told = format!("{}{}", error["detail"]["text"].as_str().unwrap(), error["message"]);
    assert_all_faults(&told, "the API");
    assert_eq!(error["detail"]["faults"].as_array().map(Vec::len), Some(5));
    let before = master.log().len();
    master.reload();
    let told = wait::until("the faults in the log", wait::SOON, || {
        Some(master.log()[before..].to_string()).filter(|told| told.contains("the one in force stays"))
    });
    assert_all_faults(&told, "the log after SIGHUP");
    assert_eq!(revision(), applied);
    assert_eq!(says(&run()), "four\n");

    // A start with such a file goes on with what was in force; one with the file of that time makes no revision of it.
    let before = master.log().len();
    master.restart();
    assert_all_faults(&master.log()[before..], "the log after a start");
    assert_eq!(revision(), applied);
    master.write_config(&good("four"));
    master.restart();
    assert_eq!(revision(), applied);
    assert_eq!(says(&run()), "four\n");
    let revisions = api.list("/config/revisions");
    let authors: Vec<&str> = revisions.iter().filter_map(|r| r["author"].as_str()).collect();
    assert_eq!(
        authors,
        ["file (api (token admin))", "file (api (token admin))", "file (SIGHUP)", "file (start)"]
    );
}

#[test]
fn a_build_keeps_the_configuration_that_it_began_with() {
    let scratch = Scratch::new();
    let gate = scratch.path().join("gate");
    let mut master = Master::start(scratch.path(), &gated(&gate, "old"), Options::default());
    let api = master.api();
    let start = || id(&api.post("/builders/unit/build", &json!({}))["requests"][0], "id");
    let request = start();
    let build = api
        .until("the build to run", &format!("/requests/{request}"), wait::A_BUILD, |r| r["build"].as_i64());
    api.until("its first step", &format!("/builds/{build}"), wait::A_BUILD, |b| {
        (b["phase"] == "running").then_some(())
    });
    let old = id(&api.get("/config"), "revision");
    master.write_config(&gated(&gate, "new"));
    let new = id(&api.post("/config/reload", &json!({})), "revision");
    let second = start();
    api.until("the second build", &format!("/requests/{second}"), wait::A_BUILD, |r| r["build"].as_i64());
    master.kill9();
    master.run();
    scratch.file("gate", "");
    let (first, second) = (api.until_built(request), api.until_built(second));
    assert_eq!((id(&first, "config"), api.output(&first, 1)), (old, "old\n".to_string()));
    assert_eq!((id(&second, "config"), api.output(&second, 1)), (new, "new\n".to_string()));
    assert_eq!((&first["result"], &first["attempt"]), (&json!("success"), &json!(1)));
}

#[test]
fn what_is_taken_out_while_it_is_used_ends_with_a_reason() {
    let scratch = Scratch::new();
    let gate = scratch.path().join("gate");
    let steps = format!("{{steps: [{{run: 'while [ ! -e {} ]; do sleep 0.1; done'}}]}}", gate.display());
    let config =
        |pools: &str, builders: &str| format!("version: 1\npools: {{{pools}}}\nbuilders: {{{builders}}}\n");
    let both = "old: {local: {}, max: 1, reuse: {builds: 9, idle: 1h}}, other: {local: {}}";
    let master = Master::start(
        scratch.path(),
        &config(both, &format!("slow: {{pool: old, {}, waits: {{pool: old, {}", &steps[1..], &steps[1..])),
        Options::default(),
    );
    let api = master.api();
    let start =
        |builder: &str| id(&api.post(&format!("/builders/{builder}/build"), &json!({}))["requests"][0], "id");
    let slow = start("slow");
    let build = api.until("a build", &format!("/requests/{slow}"), wait::A_BUILD, |r| r["build"].as_i64());
    let worker = api.get(&format!("/builds/{build}"))["worker"]["name"].as_str().unwrap().to_string();
    let waits = start("waits");
    let why = api.until("a reason", &format!("/requests/{waits}/explain"), wait::SOON, |why| {
        (why["primary"]["code"] == "pool_full").then(|| why.clone())
    });
    assert!(why["primary"]["sentence"].as_str().unwrap().contains("1 busy"), "{why:#}");

    // A builder that goes takes its waiting requests with it, and says so.
    master.write_config(&config(both, &format!("slow: {{pool: old, {}", &steps[1..])));
    api.post("/config/reload", &json!({}));
    let ended = api.until_built(waits);
    assert_eq!(ended["result"], "exception");
    assert_eq!(ended["summary"], "builder `waits` is not configured any more");
    let why = api.get(&format!("/requests/{waits}/explain"));
    assert_eq!(why["primary"]["code"], "done");
    assert!(why["primary"]["sentence"].as_str().unwrap().contains("not configured any more"), "{why:#}");

    // A pool that goes lets its build end, and its worker after it.
    master.write_config(&config("other: {local: {}}", &format!("slow: {steps}")));
    api.post("/config/reload", &json!({}));
    api.until("the worker to drain", &format!("/workers/{worker}"), wait::SOON, |w| {
        (w["wanted"] != "run").then_some(())
    });
    scratch.file("gate", "");
    let done = api.until_built(slow);
    assert_eq!((&done["result"], &done["attempt"]), (&json!("success"), &json!(1)));
    let gone = api.until("the worker to go", &format!("/workers/{worker}"), wait::A_BUILD, |w| {
        Some(w.clone()).filter(|w| !w["gone"].is_null())
    });
    assert!(gone.to_string().contains("pool `old` was removed"), "{gone:#}");
    let again = api.until_built(start("slow"));
    assert_eq!(again["result"], "success");
    assert_ne!(again["worker"]["name"], done["worker"]["name"]);
}

#[test]
fn the_schema_is_draft_07_and_a_check_needs_no_master() {
    let rouse = |arguments: &[&str]| std::process::Command::new(ROUSE).args(arguments).output().unwrap();
    let schema = rouse(&["config", "schema"]);
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|e| e == "yaml") {
            let good = rouse(&["config", "check", file.to_str().unwrap()]);
            assert!(good.status.success() && text(&good.stdout).contains(": good: "), "{good:?}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} examples");
    let missing = rouse(&["config", "check", "/nowhere/rouse.yaml", "-o", "json"]);
    let answer: Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!(
        (missing.status.code(), &answer["ok"], &answer["errors"]),
        (Some(1), &json!(false), &json!(1))
    );
}

#[test]
fn what_was_applied_is_told_compared_and_taken_back() {
    let scratch = Scratch::new();
    let config = |max: u32, word: &str| {
        format!(
            "version: 1\npools: {{here: {{local: {{}}, max: {max}}}}}\nbuilders: {{unit: {{steps: [{{run: echo {word}}}]}}}}\n"
        )
    };
    let mut master = Master::start(scratch.path(), &config(1, "good"), Options::default());
    let api = master.api();
    let said = |master: &Master, arguments: &[&str]| {
        let said = master.cli(arguments);
        assert!(said.status.success(), "{arguments:?}: {said:?}");
        text(&said.stdout)
    };
    let run = || {
        let made = api.post("/builders/unit/build", &json!({}));
        api.output(&api.until_built(id(&made["requests"][0], "id")), 0)
    };
    let first = id(&api.get("/config"), "revision");
    master.write_config(&config(2, "bad"));
    let second = id(&api.post("/config/reload", &json!({})), "revision");
    let (a, b) = (first.to_string(), second.to_string());

    // Forward, back, against what is in force, and against itself.
    let forward = said(&master, &["config", "diff", &a, &b]);
    assert!(forward.contains("~ pool here  max 1 → 2\n"), "{forward}");
    assert!(forward.contains("~ builder unit  "), "{forward}");
    assert!(said(&master, &["config", "diff", &b, &a]).contains("max 2 → 1"));
    assert_eq!(said(&master, &["config", "diff", &a]), forward);
    assert_eq!(said(&master, &["config", "diff", &a, &a]), format!("revisions {a} and {a} are the same\n"));
    let missing = master.cli(&["config", "diff", &a, "999"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    let old = api.get(&format!("/config/revisions/{first}"));
    assert_eq!(old["files"][0]["text"], config(1, "good").as_str());

    // Back again, as a revision of its own, with who did it; builds follow.
    let done = said(&master, &["config", "rollback", &a]);
    assert!(done.contains("is in force\n") && done.contains("~ pool here  max 2 → 1\n"), "{done}");
    let third = id(&api.get("/config"), "revision");
    assert!(third > second);
    assert_eq!(run(), "good\n");
    assert_eq!(api.get("/config")["files"], old["files"]);
    let again = said(&master, &["config", "rollback", &a]);
    assert_eq!(again, format!("revision {a} is what is in force; revision {third} stays in force\n"));
    assert_eq!(master.cli(&["config", "rollback", "999"]).status.code(), Some(3));
    let history = api.list("/config/revisions");
    let authors: Vec<&str> = history.iter().filter_map(|r| r["author"].as_str()).collect();
    assert_eq!(
        authors,
        [format!("rollback to {a}, api (token admin)").as_str(), "file (api (token admin))", "file (start)"]
    );
    let table = said(&master, &["config", "history"]);
    assert!(table.lines().nth(1).is_some_and(|line| line.contains("rollback to")), "{table}");
    assert_eq!(said(&master, &["config", "history", "-q", "--limit", "1"]), format!("{third}\n"));
    let told = api.get("/config/revisions?limit=1");
    assert_eq!(told["items"][0]["revision"], third);

    // Only an administrator may; a reader may look.
    for (role, diff, rollback) in [("read", true, false), ("operate", true, false), ("admin", true, true)] {
        let made = api.post("/tokens", &json!({"name": format!("a-{role}"), "role": role}));
        let theirs = api.with_token(made["token"].as_str().unwrap());
        assert_eq!(theirs.try_get(&format!("/config/diff?from={a}&to={b}")).is_ok(), diff, "{role}");
        let back = theirs.try_post("/config/rollback", &json!({"revision": first}));
        assert_eq!(back.is_ok(), rollback, "{role}: {back:?}");
    }

    // The file as it was read last changes nothing of it, by a reload or a start; a file that has changed does.
    assert_eq!(api.post("/config/reload", &json!({}))["changed"], false);
    master.restart();
    assert_eq!(id(&api.get("/config"), "revision"), third);
    assert_eq!(run(), "good\n");
    master.write_config(&config(2, "mended"));
    assert_eq!(api.post("/config/reload", &json!({}))["changed"], true);
    assert_eq!(run(), "mended\n");
}
