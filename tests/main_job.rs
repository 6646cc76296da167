//! The main job: a push becomes a build on a worker that did not exist, and the demo that shows it.

use std::process::{Command, Stdio};

use rouse_testkit::back_ends;
use serde_json::Value;

use crate::harness::master::ROUSE;
use crate::harness::{GitRepo, Leftovers, Master, Options, Scratch, wait};

fn demo(docker_host: &str) -> (Scratch, Value) {
    let scratch = Scratch::new();
    let output = Command::new(ROUSE)
        .args(["demo", "--once", "-o", "json", "--port", "0"])
        .current_dir(scratch.path())
        .env("DOCKER_HOST", docker_host)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the demo ended with {}:\n{told}", output.status);
    let summary = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (scratch, summary)
}

fn assert_demo(docker_host: &str, provider: &str, left: &Leftovers) {
    let (scratch, summary) = demo(docker_host);
    assert_eq!(summary["green"], 1, "{summary}");
    assert_eq!(summary["red"], 1, "{summary}");
    assert_eq!(summary["left_over"], 0, "{summary}");
    assert_eq!(summary["provider"], provider, "{summary}");
    assert!(summary["seconds_to_green"].as_f64().is_some_and(|s| s < 60.0), "{summary}");
    assert_eq!(
        std::fs::read_dir(scratch.path()).map_or(0, Iterator::count),
        0,
        "the demo's folder is still there"
    );
    left.assert_none(wait::SOON);
}

#[test]
fn the_demo_runs_without_a_docker_daemon() {
    let scratch = Scratch::new();
    let left = Leftovers::watch(scratch.path(), None);
    assert_demo("unix:///nonexistent/docker.sock", "local", &left);
}

#[test]
fn the_demo_runs_with_a_docker_daemon() {
    let Some(host) = back_ends::docker_host() else { return };
    let scratch = Scratch::new();
    let docker = crate::harness::Docker::of_this_run();
    let left = Leftovers::watch(scratch.path(), docker.as_ref());
    assert_demo(&host, "docker", &left);
}

#[test]
fn a_push_is_built_on_a_local_worker_that_is_gone_afterwards() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("hello", "hello from the tree\n")]);
    let config = format!(
        "version: 1\ncodebases:\n  app: {{git: '{}', poll: 1s}}\npools:\n  here: {{local: {{}}}}\nbuilders:\n  unit:\n    steps:\n      \
         - checkout: app\n      - run: cat hello\nschedulers:\n  push: {{changes: {{app: {{branch: main}}}}, builders: [unit]}}\n",
        repo.url()
    );
    let master = Master::start(scratch.path(), &config, Options::default());
    let api = master.api();
    api.until("the first look", "/codebases", wait::SOON, |c| c["items"][0]["looked"].as_str().map(drop));
    repo.land("main", "change", &[("other", "text\n")]);
    let build = api.until("the build to end", "/builds", wait::A_BUILD, |builds| {
        builds["items"].get(0).filter(|b| !b["result"].is_null()).cloned()
    });
    assert_eq!(build["result"], "success", "{build:#}");
    let detail = api.get(&format!("/builds/{}", build["id"]));
    let step = &detail["steps"][1];
    let log = api.bytes(&format!("/logs/{}/raw", step["logs"][0]["id"]));
    assert_eq!(String::from_utf8_lossy(&log), "hello from the tree\n");
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}
