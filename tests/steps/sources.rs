//! Sources on a worker: fetched by itself with its own git, or shipped by the master; whole, brought up to date, or the newest alone.

use serde_json::json;

use crate::harness::{Bench, GitRepo, Options, Scratch, wait};

const BUILDERS: &str = r#"
pools:
  here: {local: {}, max: 1, reuse: {builds: 100, idle: 5m}}
builders:
  shipped:
    steps:
      - checkout: {app: {by: master, mode: full}}
      - {name: look, run: 'cat file; ls -A; test -x run.sh; readlink link; touch stale'}
  full:
    steps:
      - checkout: {app: {by: worker, mode: full}}
      - {name: look, run: 'cat file; git rev-list --count HEAD; git rev-parse HEAD; ls; touch stale'}
  incremental:
    steps:
      - checkout: {app: {by: worker, mode: incremental, dir: tree}}
      - {name: look, run: 'cat file; git rev-list --count HEAD; ls; git status --porcelain --ignored; touch untracked ignored', dir: tree}
  shallow:
    steps:
      - checkout: {app: {by: worker, mode: shallow, depth: 2}}
      - {name: look, run: 'cat file; git rev-list --count HEAD'}
  both:
    steps:
      - checkout: {app: {dir: one}, lib: {}}
      - {name: look, run: 'cat one/file lib/file; printf "%s" "{{ props.got_revision }}"'}
  branch-of-mine:
    steps:
      - checkout: {lib: {branch: topic}}
      - {name: look, run: 'cat file'}
  nowhere:
    retries: 0
    steps:
      - checkout: {app: {by: worker}}
"#;

#[test]
fn sources_come_by_the_worker_and_by_the_master_in_every_mode() {
    let scratch = Scratch::new();
    let app = GitRepo::empty(scratch.path(), "app");
    std::os::unix::fs::symlink("file", app.work().join("link")).unwrap();
    app.land("main", "one", &[("file", "one\n"), (".gitignore", "ignored\n"), ("run.sh", "#!/bin/sh\n")]);
    for text in ["two\n", "three\n"] {
        app.land("main", text, &[("file", text)]);
    }
    let lib = GitRepo::with(scratch.path(), "lib", &[("file", "lib\n")]);
    lib.branch("topic");
    lib.land("topic", "topic", &[("file", "topic of lib\n")]);
    let (daemon, lib_daemon) = (app.serve(), lib.serve());
    let config = format!(
        "codebases:\n  app: {{git: '{}', poll: 1s}}\n  lib: {{git: '{}'}}\n{BUILDERS}",
        daemon.url(),
        lib_daemon.url()
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let head = app.head();

    let shipped = bench.run("shipped");
    shipped.must_be("success");
    assert_eq!(shipped.text("look"), "three\n.gitignore\nfile\nlink\nrun.sh\nfile\n");
    assert_eq!(shipped.property("got_revision"), head.as_str());
    // Nothing of another build's folder is built.
    let full = bench.run("full");
    full.must_be("success");
    assert_eq!(full.text("look"), format!("three\n3\n{head}\nfile\nlink\nrun.sh\n"));
    let full = bench.run("full");
    assert_eq!(full.text("look"), format!("three\n3\n{head}\nfile\nlink\nrun.sh\n"));

    let first = bench.run("incremental");
    first.must_be("success");
    assert_eq!(first.text("look"), "three\n3\nfile\nlink\nrun.sh\n");
    let revision = app.land("main", "four", &[("file", "four\n")]);
    // A revision that no watched branch is known to have is nobody's to trust.
    bench.api.until("the change to be seen", "/changes", wait::SOON, |changes| {
        changes["items"].as_array()?.iter().find(|change| change["revision"] == revision.as_str()).map(drop)
    });
    let wish = json!({"sources": [{"codebase": "app", "revision": revision, "branch": "main"}]});
    let second = bench.ended(bench.start_with("incremental", &wish));
    second.must_be("success");
    // What git does not know is gone, what it ignores is kept.
    assert_eq!(second.text("look"), "four\n4\nfile\nignored\nlink\nrun.sh\n!! ignored\n");

    let shallow = bench.ended(bench.start_with("shallow", &wish));
    shallow.must_be("success");
    assert_eq!(shallow.text("look"), "four\n2\n");
    let both = bench.ended(bench.start_with("both", &wish));
    both.must_be("success");
    assert_eq!(both.text("look"), format!("four\nlib\n{revision}"));
    let mine = bench.run("branch-of-mine");
    mine.must_be("success");
    assert_eq!(mine.text("look"), "topic of lib\n");

    drop(daemon);
    let away = bench.run("nowhere");
    // Nobody's code is at fault.
    away.must_be("exception");
    assert!(
        away.summary().contains("`checkout`") && away.summary().contains("unable to connect"),
        "{}",
        away.summary()
    );
    drop(lib_daemon);
}
