//! The main job: a push becomes a build on a worker that did not exist.

use crate::harness::{GitRepo, Master, Options, Scratch, wait};

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
