//! Git mirrors on the hosts of workers: what one build has fetched is there for those that follow, can be read by whom it is meant for, and be
//! changed by none of them.

use serde_json::{Value, json};

use crate::harness::{Bench, Build, Docker, GitRepo, Options, Scratch, wait};

const FROM_THE_MIRROR: &str = "from this host's mirror";

/// What the master has on record of a mirror, once it is as asked for.
fn mirror(bench: &Bench, account: &str, codebase: &str, layers: u64) -> Value {
    let file = bench.master.state().join("host-mirrors.json");
    wait::until("a mirror on the host", wait::A_BUILD, || {
        let text = std::fs::read_to_string(&file).ok()?;
        let all: Value = serde_json::from_str(&text).expect("it is written whole");
        let found = all[account][codebase].clone();
        (found["layers"].as_u64()? >= layers).then_some(found)
    })
}

/// Whether a checkout says that it had its files from there. One that the master shipped says nothing.
fn is_mirrored(build: &Build) -> bool {
    let logs = build.step("checkout")["logs"].as_array().map_or(0, Vec::len);
    logs > 0 && build.text("checkout").contains(FROM_THE_MIRROR)
}

fn green(bench: &Bench, builder: &str) -> Build {
    let build = bench.run(builder);
    build.must_be("success");
    build
}

#[test]
fn a_second_checkout_comes_from_the_hosts_mirror() {
    let scratch = Scratch::new();
    let app = GitRepo::empty(scratch.path(), "app");
    std::os::unix::fs::symlink("file", app.work().join("link")).unwrap();
    let files = [
        ("file", "one\n"),
        ("run.sh", "#!/bin/sh\n"),
        ("sub/deep", "deep\n"),
        (".gitattributes", "file ident\n"),
    ];
    app.land("main", "one", &files);
    app.land("main", "two", &[("file", "two\n")]);
    let secret = GitRepo::with(scratch.path(), "secret", &[("file", "of others\n")]);
    let mut daemon = app.serve();
    let look = "find . -type f -o -type l | sort; readlink link; test -x run.sh; ls ../../../mirrors 2>/dev/null || true";
    let config = format!(
        "projects: {{other: {{}}}}\ncodebases:\n  app: {{git: '{}', poll: 1s, mirror: always}}\n  secret: {{git: '{}', project: other, mirror: always}}\n\
         pools:\n  here: {{local: {{}}, accepts: any}}\nbuilders:\n  \
         tree: {{steps: [{{checkout: app}}, {{name: look, run: '{look}'}}]}}\n  \
         history: {{steps: [{{checkout: {{app: {{by: worker, dir: src}}}}}}, {{name: look, run: 'git log --format=%s; git fsck 2>&1; cat file', dir: src}}]}}\n  \
         other: {{project: other, steps: [{{checkout: secret}}, {{name: look, run: 'ls ../../../mirrors || echo none'}}]}}\n  \
         poison:\n    steps:\n      - checkout: app\n      - name: look\n        run: |\n          set +e\n          m=$(echo ../../../mirrors/app/*/)\n          \
         for f in $(find $m -type f); do echo x 2>/dev/null > $f && echo wrote; chmod u+w $f 2>/dev/null && echo changed; rm -f $f 2>/dev/null; test -e $f || echo removed; done\n          \
         touch $m/more 2>/dev/null && echo added; test -s $m/ok && echo there\n",
        daemon.url(),
        secret.url()
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let first = green(&bench, "tree");
    mirror(&bench, "local", "app", 1);
    green(&bench, "other");
    mirror(&bench, "local", "secret", 1);

    // From now on nobody can fetch anything.
    daemon.stop();
    let revision = app.head();
    let wish = json!({"sources": [{"codebase": "app", "revision": revision, "branch": "main"}]});
    let run = |builder: &str| bench.ended(bench.start_with(builder, &wish));
    let second = run("tree");
    second.must_be("success");
    assert!(is_mirrored(&second), "{:#}", second.detail);
    // Just what the master would have shipped, and of mirrors none but its own project's.
    let listed = |build: &Build| build.text("look").trim_end().trim_end_matches("app").trim_end().to_owned();
    assert_eq!(listed(&second), listed(&first));
    assert!(second.text("look").ends_with("app\n") && !first.text("look").ends_with("app\n"));
    let history = run("history");
    history.must_be("success");
    assert!(is_mirrored(&history), "{:#}", history.detail);
    assert_eq!(history.text("look"), "two\none\ntwo\n");
    assert_eq!(green(&bench, "other").text("look"), "secret\n");

    // Where workers have users of their own, nothing that one does there is seen by another. A master's own user may do what it likes.
    if nix::unistd::geteuid().is_root() {
        let poison = run("poison");
        poison.must_be("success");
        assert_eq!(poison.text("look"), "there\n");
    }

    // What comes later is a layer of its own.
    daemon.start();
    app.land("main", "three", &[("file", "three\n")]);
    wait::until("the new commit in the mirror", wait::A_BUILD, || {
        let text = green(&bench, "history").text("look");
        text.starts_with("three\n").then_some(())
    });
    mirror(&bench, "local", "app", 2);
    daemon.stop();
    let wish = json!({"sources": [{"codebase": "app", "revision": app.head(), "branch": "main"}]});
    let third = bench.ended(bench.start_with("history", &wish));
    third.must_be("success");
    assert!(is_mirrored(&third), "{:#}", third.detail);
    assert_eq!(third.text("look"), "three\ntwo\none\nthree\n");
}

#[test]
fn a_mirror_in_a_volume_is_read_by_containers_that_reach_nothing() {
    let Some(docker) = Docker::of_this_run() else { return };
    let scratch = Scratch::new();
    let app = GitRepo::with(scratch.path(), "app", &[("file", "one\n")]);
    app.branch("stranger");
    app.land("stranger", "strange", &[("file", "strange\n")]);
    app.go_to("main");
    let image = docker.busybox(&[]);
    let mounts = ["/usr", "/lib", "/lib64"]
        .map(|path| format!("{{source: {path}, target: {path}, readonly: true}}"))
        .join(", ");
    let config = format!(
        "codebases:\n  app: {{git: '{}', branches: main, poll: 1s, mirror: always}}\n\
         pools:\n  boxes: {{docker: {{image: '{}', pull: never, network: none, mounts: [{mounts}]}}, accepts: any}}\nbuilders:\n  \
         tree: {{steps: [{{checkout: app}}, {{name: look, run: 'cat file; ls /.rouse'}}]}}\n  \
         history: {{steps: [{{checkout: {{app: {{by: worker}}}}}}, {{name: look, run: 'git log --format=%s'}}]}}\n  \
         poison:\n    steps:\n      - checkout: app\n      - name: look\n        run: |\n          set +e\n          id -u\n          \
         for f in $(find /.rouse/mirrors/app -type f); do echo x 2>/dev/null > $f && echo wrote; rm -f $f 2>/dev/null; test -e $f || echo removed; done\n          \
         touch /.rouse/mirrors/app/more 2>/dev/null && echo added\n          mount -o remount,rw /.rouse/mirrors/app 2>/dev/null && echo remounted\n          true\n",
        app.url(),
        image.name(),
    );
    let options = Options { docker: Some(docker.clone()), ..Options::default() };
    let bench = Bench::within(scratch, &config, options);
    green(&bench, "tree");
    mirror(&bench, "docker", "app", 1);
    let second = green(&bench, "tree");
    assert!(is_mirrored(&second), "{:#}", second.detail);
    assert!(second.text("look").starts_with("one\n"));
    // Its network reaches nobody.
    let history = green(&bench, "history");
    assert_eq!(history.text("look"), "first\n");
    assert_eq!(green(&bench, "poison").text("look"), "0\n");
    // Whoever is not trusted gets the one tree that it builds, and sees of the rest nothing: it is no public repository.
    let wish = json!({"sources": [{"codebase": "app", "branch": "stranger"}]});
    let stranger = bench.ended(bench.start_with("tree", &wish));
    stranger.must_be("success");
    assert_eq!(stranger.detail["trust"], "untrusted");
    let seen = stranger.text("look");
    assert!(seen.starts_with("strange\n") && !seen.contains("mirrors"), "{seen}");
    // Taken away by somebody, it comes again.
    let shelf = mirror(&bench, "docker", "app", 1)["shelf"].as_str().expect("a name").to_owned();
    let volumes = docker.run(&["volume", "ls", "--quiet", "--filter", &format!("name={shelf}")]);
    let volume = volumes.trim().to_owned();
    wait::until_true("the volume to be free", wait::A_BUILD, || {
        docker.try_run(&["volume", "rm", &volume]).is_ok()
    });
    green(&bench, "tree");
    wait::until("the mirror to be put up again", wait::A_BUILD, || {
        is_mirrored(&green(&bench, "tree")).then_some(())
    });
}
