//! Why a request waits: each reason as it comes about, the same in the API and on the command line, never empty.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::story::id;
use crate::harness::{Docker, GitRepo, Master, Options, Scratch, scratch::unique, wait};

/// Asks both faces, which must say the same, and gives the primary reason.
fn why(master: &Master, request: i64, code: &str) -> Value {
    let api = master.api();
    let answer = api.until(code, &format!("/requests/{request}/explain"), wait::A_BUILD, |answer| {
        let sentence = answer["primary"]["sentence"].as_str().unwrap_or_default();
        assert!(!sentence.is_empty(), "{answer:#}");
        (answer["primary"]["code"] == code).then(|| answer.clone())
    });
    // What is counted in seconds moves on between two questions.
    let shown = wait::until("the command line to say the same", wait::SOON, || {
        let said = master.cli(&["explain", "request", &request.to_string()]);
        assert!(said.status.success(), "{said:?}");
        Some(String::from_utf8(said.stdout).expect("text")).filter(|said| said.contains(&format!("[{code}]")))
    });
    assert!(shown.starts_with(&format!("request {request} · builder ")), "{shown}");
    if let Some(help) = answer["primary"]["help"].as_str() {
        assert!(shown.contains(help), "{shown}");
    }
    answer
}

fn sentence(answer: &Value) -> &str {
    answer["primary"]["sentence"].as_str().unwrap_or_default()
}

#[test]
fn each_reason_is_given_as_it_comes_about() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
    repo.branch("side");
    repo.land("side", "elsewhere", &[("file", "2\n")]);
    let gate = scratch.path().join("gate");
    let config = format!(
        "version: 1\ncodebases: {{app: {{git: '{}', branches: main}}}}\npools:\n  tiny: {{local: {{}}, max: 1}}\n  spare: {{local: {{}}}}\n  \
         none: {{docker: {{image: 'debian:12'}}}}\nbuilders:\n  \
         slow: {{pool: tiny, steps: [{{run: 'while [ ! -e {} ]; do sleep 0.1; done'}}]}}\n  \
         quick: {{pool: tiny, steps: [{{run: 'true'}}]}}\n  either: {{pool: [tiny, spare], steps: [{{run: 'true'}}]}}\n  \
         strange: {{pool: spare, steps: [{{checkout: app}}]}}\n  contained: {{pool: none, steps: [{{run: 'true'}}]}}\n",
        repo.url(),
        gate.display()
    );
    // There is no Docker daemon for this master.
    let master = Master::start(scratch.path(), &config, Options::default());
    let api = master.api();
    api.until_looked(&["app"]);
    let start = |builder: &str, body: Value| {
        id(&api.post(&format!("/builders/{builder}/build"), &body)["requests"][0], "id")
    };

    let slow = start("slow", json!({}));
    let build = api.until("a build", &format!("/requests/{slow}"), wait::A_BUILD, |r| r["build"].as_i64());
    let claimed = why(&master, slow, "claimed");
    assert_eq!(sentence(&claimed), format!("build {build} runs it"));

    let (first, second) = (start("quick", json!({})), start("quick", json!({})));
    let full = why(&master, first, "pool_full");
    assert_eq!(sentence(&full), "its maximum of 1 worker is reached: 1 busy");
    assert_eq!((&full["pools"][0]["counts"]["busy"], &full["pools"][0]["max"]), (&json!(1), &json!(1)));
    assert_eq!(full["pools"][1]["sentence"], "the builder names other pools");
    let full = why(&master, second, "pool_full");
    assert_eq!(sentence(&full), "its maximum of 1 worker is reached: 1 busy; 1 request is ahead");
    let cancelled = master.cli(&["cancel", "--request", &second.to_string(), "--reason", "not needed"]);
    assert!(cancelled.status.success(), "{cancelled:?}");
    let cancelled = why(&master, second, "cancelled");
    assert_eq!(sentence(&cancelled), "cancelled: api (token admin): not needed");

    // The full pool is passed by where another one takes it.
    assert_eq!(api.until_built(start("either", json!({})))["result"], "success");

    let strange = start("strange", json!({"sources": [{"branch": "side"}]}));
    let nobody = why(&master, strange, "no_pool_accepts");
    assert_eq!(
        (&nobody["primary"]["permanent"], nobody["pools"][1]["fits"].as_bool()),
        (&json!(true), Some(false))
    );
    assert!(
        sentence(&nobody)
            .contains("`spare`: the build is untrusted and the pool accepts trusted builds only"),
        "{nobody:#}"
    );
    let waited = master.cli(&["build", "start", "strange", "--branch", "side", "--wait"]);
    assert_eq!(waited.status.code(), Some(14), "what can never run is not waited for: {waited:?}");

    let contained = start("contained", json!({}));
    let away = why(&master, contained, "launch_failed_backing_off");
    assert!(
        sentence(&away).contains("pool `none`") && sentence(&away).contains("the next try is in"),
        "{away:#}"
    );
    assert!(
        away["failures"][0]["message"].as_str().unwrap().contains("/nonexistent/docker.sock"),
        "{away:#}"
    );

    scratch.file("gate", "");
    assert_eq!(api.until_built(first)["result"], "success");
    assert_eq!(sentence(&why(&master, slow, "done")), format!("done: success, build {build}"));

    // From the wish to the end, whenever somebody asks: always a reason, and only such as are true then.
    let begun = start("quick", json!({}));
    let mut seen = BTreeSet::new();
    wait::until_true("the end", wait::A_BUILD, || {
        let answer = api.get(&format!("/requests/{begun}/explain"));
        assert!(!sentence(&answer).is_empty(), "{answer:#}");
        seen.insert(answer["primary"]["code"].as_str().unwrap().to_string());
        answer["primary"]["code"] == "done"
    });
    let known =
        ["pool_full", "resolving_image", "launch_due", "provisioning", "being_matched", "claimed", "done"];
    assert!(seen.iter().all(|code| known.contains(&code.as_str())), "{seen:?}");
    assert!(seen.len() > 1, "{seen:?}");
}

#[test]
fn an_image_that_does_not_resolve_and_one_that_does_not_come_up_are_told_apart() {
    let Some(docker) = Docker::of_this_run() else { return };
    let scratch = Scratch::new();
    let image = docker.busybox(&[]);
    let config = format!(
        "version: 1\npools:\n  missing: {{docker: {{image: '{}:latest', pull: never}}}}\n  \
         broken: {{docker: {{image: '{}', user: nobody-of-this-name}}}}\nbuilders:\n  \
         missing: {{pool: missing, steps: [{{run: 'true'}}]}}\n  broken: {{pool: broken, retries: 0, steps: [{{run: 'true'}}]}}\n",
        unique("nowhere"),
        image.name()
    );
    let master =
        Master::start(scratch.path(), &config, Options { docker: Some(docker), ..Options::default() });
    let api = master.api();
    for (builder, class) in [("missing", "image"), ("broken", "")] {
        let made = api.post(&format!("/builders/{builder}/build"), &json!({}));
        let request = id(&made["requests"][0], "id");
        let build = api.until_built(request);
        assert_eq!(build["result"], "exception", "{build:#}");
        let summary = build["summary"].as_str().unwrap();
        assert!(!summary.is_empty() && (class.is_empty() || build["class"] == class), "{build:#}");
        let answer = why(&master, request, "done");
        assert_eq!(sentence(&answer), format!("done: exception, build {}: {summary}", id(&build, "id")));
        let waited = master.cli(&["build", "start", builder, "--wait"]);
        assert_eq!(waited.status.code(), Some(12), "infrastructure: {waited:?}");
    }
}
