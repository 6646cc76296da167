//! What of a codebase is checked out: with its submodules, some folders alone, merged into another branch. By the worker's git and by the
//! master it is the same files.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::lfs::LfsServer;
use crate::harness::{Bench, Build, GitRepo, Options, Scratch};

const LIST: &str = "find . -name .git -prune -o -type f -print | LC_ALL=C sort | while read -r f; do echo \"$f\"; cat \"$f\"; done";

/// A commit that has other repositories within it, path to address and revision.
fn land_with(repo: &GitRepo, submodules: &[(&str, &str, &str)], files: &[(&str, &str)]) -> String {
    let mut modules = String::new();
    for (path, url, revision) in submodules {
        modules.push_str(&format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n"));
        std::fs::create_dir_all(repo.work().join(path)).expect("a folder can be made");
        repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{revision},{path}")]);
    }
    let files: Vec<_> = files.iter().copied().chain([(".gitmodules", modules.as_str())]).collect();
    repo.land("main", "with submodules", &files)
}

fn green(build: Build) -> Build {
    build.must_be("success");
    build
}

#[test]
fn submodules_come_by_the_worker_and_by_the_master_from_hosts_that_are_allowed() {
    let scratch = Scratch::new();
    let repo = |name: &str| GitRepo::empty(scratch.path(), name);
    let (deep, lib, app, evil) = (repo("deep"), repo("lib"), repo("app"), repo("evil"));
    let deep_at = deep.land("main", "deep", &[("deep", "deep\n")]);
    let lib_at = land_with(&lib, &[("in/deep", "../deep.git", &deep_at)], &[("lib", "lib\n")]);
    let lib_later = lib.land("main", "later", &[("lib", "later\n")]);
    let first =
        land_with(&app, &[("libs/lib", "./../lib.git", &lib_at)], &[("app", "app\n"), ("src/a", "a\n")]);
    let daemon = app.serve();
    let base = daemon.url().trim_end_matches("app.git").to_owned();
    let elsewhere = base.replace("127.0.0.1", "localhost");
    land_with(&evil, &[("x", &format!("{elsewhere}lib.git"), &lib_at)], &[]);
    let checkout = |by: &str| format!("{{app: {{by: {by}, submodules: recursive}}}}");
    let config = format!(
        "codebases:\n  app: {{git: '{base}app.git'}}\n  evil: {{git: '{base}evil.git', submodule_hosts: git.example.org}}\n  \
         fine: {{git: '{base}evil.git', submodule_hosts: [localhost]}}\n\
         pools:\n  here: {{local: {{}}, max: 1, accepts: any, reuse: {{builds: 100, idle: 5m}}}}\nbuilders:\n  \
         master: {{steps: [{{checkout: {}}}, {{name: look, run: '{LIST}'}}]}}\n  \
         worker: {{steps: [{{checkout: {}}}, {{name: look, run: '{LIST}'}}, {{name: state, run: 'git status --porcelain; git submodule status --recursive'}}]}}\n  \
         own:\n    steps:\n      - checkout: {{app: {{by: worker, mode: incremental, submodules: true, dir: tree}}}}\n      - {{name: look, run: '{LIST}', dir: tree}}\n  \
         plain: {{steps: [{{checkout: app}}, {{name: look, run: '{LIST}'}}]}}\n  \
         evil: {{steps: [{{checkout: {{evil: {{submodules: true}}}}}}]}}\n  \
         fine: {{steps: [{{checkout: {{fine: {{submodules: true}}}}}}, {{name: look, run: cat x/lib}}]}}\n",
        checkout("master"),
        checkout("worker"),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let at =
        |revision: &str| json!({"sources": [{"codebase": "app", "revision": revision, "branch": "main"}]});
    let run = |builder: &str, revision: &str| green(bench.ended(bench.start_with(builder, &at(revision))));

    let own = run("own", &first).text("look");
    assert!(
        own.contains("./app\napp\n") && own.contains("./libs/lib/lib\nlib\n") && !own.contains("deep/deep"),
        "{own}"
    );
    let by_master = run("master", &first).text("look");
    assert!(
        by_master.contains("./libs/lib/in/deep/deep\ndeep\n") && by_master.contains("./src/a\n"),
        "{by_master}"
    );
    let by_worker = run("worker", &first);
    assert_eq!(by_worker.text("look"), by_master);
    // As git itself sees it, nothing is amiss.
    let state = by_worker.text("state");
    let words = |line: &str| line.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = state.lines().map(words).collect();
    assert_eq!(lines, [format!(" {lib_at} libs/lib"), format!(" {deep_at} libs/lib/in/deep")], "{state}");
    let plain = run("plain", &first).text("look");
    assert!(plain.contains("./app\n") && !plain.contains("libs/lib/"), "{plain}");

    // Another revision brings another one of the submodule's; where there is none, none is left.
    app.git(&["update-index", "--cacheinfo", &format!("160000,{lib_later},libs/lib")]);
    let second = app.land("main", "a later one", &[]);
    let own = run("own", &second).text("look");
    assert!(own.contains("./libs/lib/lib\nlater\n"), "{own}");
    app.git(&["rm", "-q", "--cached", "libs/lib"]);
    std::fs::remove_dir_all(app.work().join("libs")).expect("it is ours");
    let third = app.land("main", "without", &[(".gitmodules", "")]);
    let own = run("own", &third).text("look");
    assert!(own.contains("./app\n") && !own.contains("libs/lib"), "{own}");

    let evil = bench.run("evil");
    evil.must_be("failure");
    for said in ["submodule `x`", "localhost", "`submodule_hosts`"] {
        assert!(evil.summary().contains(said), "{}", evil.summary());
    }
    assert_eq!(green(bench.run("fine")).text("look"), "lib\n");
    drop(daemon);
}

#[test]
fn folders_come_alone_by_the_worker_and_by_the_master() {
    let scratch = Scratch::new();
    let app = GitRepo::with(
        scratch.path(),
        "app",
        &[("top", "1\n"), ("a/one", "2\n"), ("a/b/two", "3\n"), ("a/c/three", "4\n"), ("d/four", "5\n")],
    );
    let daemon = app.serve();
    let builder = |name: &str, how: &str| {
        format!("  {name}: {{steps: [{{checkout: {{app: {{{how}}}}}}}, {{name: look, run: '{LIST}'}}]}}\n")
    };
    let config = format!(
        "codebases: {{app: {{git: '{}', mirror: always}}}}\n\
         pools: {{here: {{local: {{}}, max: 1, reuse: {{builds: 100, idle: 5m}}}}}}\nbuilders:\n{}{}{}",
        daemon.url(),
        builder("master", "sparse: a/b/"),
        builder("worker", "by: worker, sparse: a/b"),
        builder("kept", "by: worker, mode: incremental, sparse: ['{{ props.of }}', a/b]")
            .replace("kept: {", "kept: {properties: {of: .}, "),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let some = "./a/b/two\n3\n./a/one\n2\n./top\n1\n";
    assert_eq!(green(bench.run("master")).text("look"), some);
    assert_eq!(green(bench.run("worker")).text("look"), some);
    // What is there may become more, and less again.
    let kept = |of: &str| {
        let wish = if of.is_empty() { json!({}) } else { json!({"properties": {"of": of}}) };
        green(bench.ended(bench.start_with("kept", &wish))).text("look")
    };
    assert_eq!(kept("d"), "./a/b/two\n3\n./a/one\n2\n./d/four\n5\n./top\n1\n");
    assert!(kept("").contains("./a/c/three\n"));
    assert_eq!(kept("a/b"), some);
    drop(daemon);
}

/// A step that waits until a file is there.
fn gate(at: &Path) -> String {
    format!("{{name: gate, run: 'until test -e {}; do sleep 0.1; done'}}", at.display())
}

#[test]
fn a_merge_is_of_the_same_two_revisions_for_all_builds_of_a_buildset_and_for_those_that_repeat_them() {
    let scratch = Scratch::new();
    let app = GitRepo::with(scratch.path(), "app", &[("file", "1\n2\n3\n4\n5\n"), ("both", "base\n")]);
    app.branch("topic");
    let topic = app.land("topic", "of the topic", &[("file", "1\n2\n3\n4\nfive\n"), ("t", "t\n")]);
    app.go_to("main");
    app.branch("clash");
    app.land("clash", "of the clash", &[("both", "clash\n")]);
    app.go_to("main");
    let main =
        app.land("main", "of main", &[("file", "one\n2\n3\n4\n5\n"), ("m", "m\n"), ("both", "main\n")]);
    let daemon = app.serve();
    let opened = scratch.path().join("opened");
    let look = "{name: look, run: 'cat file t m; git log -1 --format=\"%H %P\" 2>/dev/null || true'}";
    let config = format!(
        "codebases: {{app: {{git: '{}', poll: 1h}}}}\npools:\n  here: {{local: {{}}, max: 3, reuse: {{builds: 100, idle: 5m}}}}\nbuilders:\n  \
         master: {{properties: {{into: main}}, steps: [{{checkout: {{app: {{merge: '{{{{ props.into }}}}'}}}}}}, {look}]}}\n  \
         worker: {{steps: [{}, {{checkout: {{app: {{by: worker, merge: main}}}}}}, {look}]}}\n  \
         shallow: {{steps: [{{checkout: {{app: {{by: worker, mode: shallow, merge: main}}}}}}, {look}]}}\n\
         schedulers: {{both: {{force: {{}}, builders: [master, worker]}}}}\n",
        daemon.url(),
        gate(&opened),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let of = |branch: &str| json!({"sources": [{"codebase": "app", "branch": branch}]});
    let api = &bench.api;
    let made = api.post("/schedulers/both/force", &of("topic"));
    let request = |n: usize| made["requests"][n]["id"].as_i64().expect("a request");
    let first = green(bench.ended(request(0)));
    let merged = "one\n2\n3\n4\nfive\nt\nm\n";
    assert_eq!(first.text("look"), merged);
    let target = first.property("got_merge_target").clone();
    assert_eq!((first.property("got_revision"), &target), (&json!(topic), &json!(main)));
    let said = first.step("checkout")["summary"].as_str().unwrap_or_default();
    assert_eq!(said, format!("{} merged into main {}", &topic[..7], &main[..7]));

    // From now on the target is another one, but not for those that belong to what was begun.
    let later = app.land("main", "later", &[("m", "later\n")]);
    std::fs::write(&opened, "").expect("a file can be written");
    let second = green(bench.ended(request(1)));
    let commit = second.property("got_merge").as_str().expect("a revision").to_owned();
    assert_eq!(second.text("look"), format!("{merged}{commit} {main} {topic}\n"));
    assert_eq!(first.property("got_merge"), &json!(commit));
    let again = |build: &Build| {
        let made = api.post(&format!("/builds/{}/rebuild", build.id()), &json!({}));
        green(bench.ended(made["requests"][0]["id"].as_i64().expect("a request")))
    };
    for build in [&first, &second] {
        let again = again(build);
        assert_eq!((again.property("got_merge"), again.text("look")), (&json!(commit), build.text("look")));
    }
    let fresh = green(bench.ended(bench.start_with("shallow", &of("topic"))));
    let commit = fresh.property("got_merge").as_str().expect("a revision");
    assert_eq!(fresh.text("look"), format!("one\n2\n3\n4\nfive\nt\nlater\n{commit} {later} {topic}\n"));

    // What is of the target itself is built as it is.
    let own = bench.ended(bench.start_with("master", &of("main")));
    own.must_be("failure");
    assert_eq!((own.end_of("checkout").0, own.property("got_revision")), ("success", &json!(main)));
    assert_eq!(own.property("got_merge"), &Value::Null);
    let clash = bench.ended(bench.start_with("master", &of("clash")));
    clash.must_be("failure");
    assert_eq!(clash.end_of("checkout").0, "failure");
    assert!(clash.summary().contains("conflicts in both"), "{}", clash.summary());
    let known = |branch: &str| {
        bench.ended(bench.start_with(
            "master",
            &json!({"sources": [{"codebase": "app", "branch": "topic"}], "properties": {"into": branch}}),
        ))
    };
    let nowhere = known("nowhere");
    nowhere.must_be("failure");
    assert!(nowhere.summary().contains("does not have the branch `nowhere`"), "{}", nowhere.summary());
    let unmerged = known("");
    assert_eq!((unmerged.end_of("checkout").0, unmerged.property("got_merge")), ("success", &Value::Null));
    drop(daemon);
}

/// Whether large files can be made and fetched here.
fn has_lfs() -> bool {
    let version = std::process::Command::new("git").args(["lfs", "version"]).output();
    let there = version.is_ok_and(|output| output.status.success());
    if !there {
        rouse_testkit::back_ends::skip("there is no git-lfs (Debian: apt-get install git-lfs)");
    }
    there
}

#[test]
fn large_files_come_by_the_worker_from_the_codebases_own_server() {
    if !has_lfs() {
        return;
    }
    let scratch = Scratch::new();
    let app = GitRepo::empty(scratch.path(), "app");
    let lib = GitRepo::empty(scratch.path(), "lib");
    let large = "large ".repeat(10_000);
    let home = scratch.folder("home");
    let lfs = |repo: &GitRepo, arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(arguments)
            .current_dir(repo.work())
            .env("HOME", &home)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for repo in [&app, &lib] {
        lfs(repo, &["lfs", "install", "--local"]);
        repo.git(&["config", "lfs.url", &format!("file://{}", repo.bare().display())]);
        repo.commit("attributes", &[(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")]);
    }
    let lib_at = lib.land("main", "large", &[("three.bin", "three")]);
    app.commit("large", &[("a/one.bin", &large), ("b/two.bin", "two"), ("file", "1\n")]);
    // Who follows this has not listened to its own configuration.
    let astray = GitRepo::empty(&scratch.folder("astray"), "astray");
    let elsewhere = LfsServer::of(&astray);
    let file = format!(
        "[lfs]\n\turl = {0}/astray.git/info/lfs\n[remote \"origin\"]\n\tlfsurl = {0}/x.git\n",
        elsewhere.base()
    );
    land_with(&app, &[("lib", "../lib.git", &lib_at)], &[(".lfsconfig", &file)]);
    for repo in [&app, &lib] {
        lfs(repo, &["lfs", "push", "--all", "origin", "main"]);
        let mut command = std::process::Command::new("git");
        command.arg("update-server-info").current_dir(repo.bare()).status().expect("git runs");
    }
    // Workers that have a shell, and one of them git.
    let tools = ["nothing", "git"].map(|name| {
        let folder = scratch.folder(name);
        for tool in ["sh", "find", "rm", "cat", "mkdir", name] {
            let found = format!("/usr/bin/{tool}");
            if Path::new(&found).exists() {
                std::os::unix::fs::symlink(&found, folder.join(tool)).expect("a link can be made");
            }
        }
        folder.display().to_string()
    });
    let server = LfsServer::of(&app);
    let look = "wc -c < a/one.bin; if test -e b; then cat b/two.bin; fi";
    let builder = |name: &str, how: &str| {
        format!(
            "  {name}: {{pool: here, retries: 0, steps: [{{checkout: {{app: {{{how}}}}}}}, {{name: look, run: '{look}'}}]}}\n"
        )
    };
    let lacking = |name: &str, pool: &str, how: &str| {
        format!("  {name}: {{pool: {pool}, steps: [{{checkout: {{app: {{{how}}}}}}}]}}\n")
    };
    let config = format!(
        "codebases: {{app: {{git: '{}/app.git'}}}}\n\
         pools:\n  here: {{local: {{}}, max: 1, accepts: any, reuse: {{builds: 100, idle: 5m}}}}\n  \
         nothing: {{local: {{env: {{PATH: '{}'}}}}}}\n  git: {{local: {{env: {{PATH: '{}'}}}}}}\nbuilders:\n{}{}{}{}{}{}{}{}",
        server.base(),
        tools[0],
        tools[1],
        lacking("no-git", "nothing", "by: worker"),
        lacking("no-lfs", "git", "lfs: true"),
        "  pointers: {pool: here, steps: [{checkout: {app: {by: worker, submodules: true}}}, {name: look, run: cat lib/three.bin}]}\n",
        "  deep: {pool: here, steps: [{checkout: {app: {lfs: true, submodules: true}}}, {name: look, run: 'wc -c < a/one.bin; cat lib/three.bin'}]}\n",
        builder("without", "by: worker, mode: incremental"),
        builder("whole", "lfs: true"),
        builder("some", "lfs: true, sparse: a"),
        builder("kept", "by: worker, mode: incremental, lfs: true"),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let batches = || server.asked().iter().filter(|asked| asked.ends_with("/batch")).count();
    let pointer = green(bench.run("without")).text("look");
    assert!(pointer.starts_with("130\nversion https://git-lfs"), "{pointer}");
    assert_eq!(batches(), 0);
    assert_eq!(green(bench.run("whole")).text("look"), "60000\ntwo");
    assert!(batches() > 0);
    assert_eq!(green(bench.run("some")).text("look"), "60000\n");
    assert_eq!(green(bench.run("kept")).text("look"), "60000\ntwo");
    assert_eq!(green(bench.run("kept")).text("look"), "60000\ntwo");
    // Those of submodules are asked for with them, at their own server.
    let pointer = green(bench.run("pointers")).text("look");
    assert!(pointer.starts_with("version https://git-lfs"), "{pointer}");
    assert_eq!(green(bench.run("deep")).text("look"), "60000\nthree");
    assert!(server.asked().iter().any(|asked| asked == "POST /lib.git/info/lfs/objects/batch"));
    assert_eq!(elsewhere.asked(), Vec::<String>::new());
    // A worker that lacks what it takes: no other one of its pool would do better, so it is red at once, and says what to do.
    for (builder, lacks) in [("no-git", "no git on the worker"), ("no-lfs", "no git-lfs on the worker")] {
        let build = bench.run(builder);
        build.must_be("failure");
        let (result, said) = build.end_of("checkout");
        assert_eq!((result, &build.detail["attempt"]), ("failure", &json!(1)), "{said}");
        assert!(said.contains(lacks) && said.contains("install it in the pool's image"), "{said}");
        assert!(build.text("checkout").contains("on the worker"), "{}", build.text("checkout"));
    }
    // What is not there is not made up.
    std::fs::remove_dir_all(app.bare().join("lfs/objects")).expect("they are ours");
    let gone = bench.run("whole");
    gone.must_be("exception");
    assert!(gone.summary().contains("could not be fetched"), "{}", gone.summary());
}
