//! What is of its own for each branch: locks that are counted there, caches, and the list of builds.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Bench, Build, GitRepo, Options, Scratch, builds, wait};

const RESTORE: &str = "restore cache tools";

fn deploy(bench: &Bench, branch: &str, name: &str) -> i64 {
    let sources = json!([{"codebase": "app", "branch": branch}]);
    bench.start_with("deploy", &json!({"sources": sources, "properties": {"name": name}}))
}

fn until_begun(outside: &Path, name: &str) {
    wait::until_true("the build to begin", wait::A_BUILD, || outside.join(format!("began-{name}")).exists());
}

fn green(bench: &Bench, request: i64) -> Build {
    let build = bench.ended(request);
    build.must_be("success");
    build
}

#[test]
fn branches_do_not_wait_for_each_other_nor_see_each_others_caches() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "one\n")]);
    repo.branch("side");
    repo.land("side", "two", &[("file", "two\n")]);
    let outside = scratch.folder("outside");
    // Each worker has a user of its own.
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o777)).expect("the folder is ours");
    let config = format!(
        "codebases: {{app: {{git: '{}', branches: [main, side]}}}}\nlocks: {{stage: {{per: branch}}}}\npools: {{here: {{local: {{}}, max: 4}}}}\n\
         builders:\n  deploy:\n    per: branch\n    locks: {{stage: exclusive}}\n    caches: {{tools: {{path: kept}}}}\n    \
         env: {{NAME: '{{{{ props.name }}}}'}}\n    steps:\n      - checkout: app\n      - name: work\n        run: |\n          \
         touch {out}/began-$NAME; until [ -e {out}/go ]; do sleep 0.1; done\n          cat kept/* 2>/dev/null || true\n          \
         mkdir -p kept; cp file kept/file\n",
        repo.url(),
        out = outside.display(),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    bench.api.until_looked(&["app"]);

    let first = deploy(&bench, "main", "first");
    until_begun(&outside, "first");
    let second = deploy(&bench, "main", "second");
    let side = deploy(&bench, "side", "side");
    until_begun(&outside, "side");
    let sentence = builds::explained(&bench.api, second, "it to wait for the lock", |why| {
        let taken = why["primary"]["code"] == "lock_taken";
        taken.then(|| why["primary"]["sentence"].as_str().unwrap_or_default().to_owned())
    });
    assert!(sentence.starts_with("waits for lock `stage` of branch `main`, held by build "), "{sentence}");
    assert!(!outside.join("began-second").exists());
    let lock = bench.api.get("/locks")["items"][0].clone();
    let held: Vec<&Value> = lock["held"].as_array().expect("a list").iter().map(|h| &h["branch"]).collect();
    assert_eq!((&lock["per_branch"], held), (&json!(true), vec![&json!("main"), &json!("side")]));
    let listed = bench.cli(&["lock", "list"]);
    assert!(listed.contains("1 per branch") && listed.contains("all of it of side"), "{listed}");

    std::fs::write(outside.join("go"), "").expect("a file can be written");
    let [first, second, side] = [first, second, side].map(|request| green(&bench, request));
    assert_eq!((first.text("work").as_str(), side.text("work").as_str()), ("", ""));
    assert_eq!(second.text("work"), "one\n", "what the first of its branch has left");
    assert_eq!(side.end_of(RESTORE).1, "nothing is kept yet, under `side:`");
    let again = green(&bench, deploy(&bench, "side", "again"));
    assert_eq!(again.text("work"), "two\n");

    let of = |branch: &str| bench.cli(&["build", "list", "--branch", branch, "-q"]);
    assert_eq!(of("side"), format!("{}\n{}\n", again.id(), side.id()));
    assert_eq!(of("main"), format!("{}\n{}\n", second.id(), first.id()));
    assert_eq!(of("other"), "");
}
