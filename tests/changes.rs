//! What moves in repositories becomes change sets, each seen once: the first morning, the days after it, and the bad ones.

use serde_json::json;

use crate::harness::story::{id, sources};
use crate::harness::{GitRepo, Master, Options, Scratch, wait};

const POOL: &str = "pools: {here: {local: {}, max: 2, reuse: {builds: 100, idle: 1h}}}\n";

/// A chain of commits without any change of files, which the branch that is checked out does not have.
fn chain(repo: &GitRepo, from: &str, length: usize) -> String {
    let mut tip = from.to_string();
    for n in 0..length {
        let message = format!("commit {n}");
        tip = repo.git(&["commit-tree", "HEAD^{tree}", "-p", &tip, "-m", &message]).trim().to_string();
    }
    tip
}

#[test]
fn a_repository_with_many_branches_is_seen_rightly_from_the_first_morning_on() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
    let first = repo.head();
    let old: Vec<String> =
        (0..200).map(|n| format!("{}:refs/heads/old/{n}", chain(&repo, &first, 1))).collect();
    let mut push = vec!["push", "--quiet", "origin"];
    push.extend(old.iter().map(String::as_str));
    repo.git(&push);
    let config = format!(
        "version: 1\ncodebases: {{app: {{git: '{}', first: main, tags: 'v*', poll: 1s}}}}\n{POOL}\
         builders: {{unit: {{steps: [{{run: 'true'}}]}}}}\n\
         schedulers: {{push: {{changes: {{app: {{branch: '**', tags: 'v*'}}}}, builders: unit}}}}\n",
        repo.url()
    );
    let mut master = Master::start(scratch.path(), &config, Options::default());
    let api = master.api();
    api.until_buildsets("push", 1);
    assert_eq!(api.get("/codebases/app")["heads"].as_array().map(Vec::len), Some(201));
    let mut expected = vec![format!("app main {first}")];

    let topic = chain(&repo, &first, 300);
    repo.git(&["merge", "--quiet", "--no-ff", "--message", "merge the topic", &topic]);
    repo.push("main");
    let merged = api.until_buildsets("push", 2).remove(1);
    assert_eq!(merged["reason"], "301 commits on main by Ada Example");
    let set = api.get(&format!("/change-sets/{}", id(&merged["sources"][0], "change_set")));
    assert_eq!((&set["commits"], &set["base"]), (&json!(301), &json!(first)));
    expected.push(format!("app main {}", repo.head()));

    repo.push_tag("not-watched");
    repo.push_tag("v1");
    api.until_buildsets("push", 3);
    expected.push(format!("app refs/tags/v1 {}", repo.head()));

    repo.delete_branch("old/7");
    api.until_head("app", "old/7", None);

    repo.git(&["reset", "--quiet", "--hard", &first]);
    let other = repo.commit("another past", &[("file", "2\n")]);
    repo.force_push("main");
    let forced = api.until_buildsets("push", 4).remove(3);
    let subject = format!("change_set/{}", id(&forced["sources"][0], "change_set"));
    let events = api.get(&format!("/events/list?kind=change_set_seen&subject={subject}"));
    assert_eq!(events["items"][0]["payload"]["rewritten"], true, "{events:#}");
    expected.push(format!("app main {other}"));

    repo.branch("topic/new");
    let new = repo.land("topic/new", "new", &[("file", "3\n")]);
    api.until_buildsets("push", 5);
    expected.push(format!("app topic/new {new}"));

    // The poller remembers where it was, whatever happens meanwhile.
    master.stop();
    repo.go_to("main");
    for n in 0..3 {
        repo.commit(&format!("while away {n}"), &[("file", &format!("away {n}\n"))]);
    }
    repo.push("main");
    repo.delete_branch("old/8");
    master.run();
    let seen = api.until_buildsets("push", 6).remove(5);
    assert_eq!(seen["reason"], "3 commits on main by Ada Example");
    expected.push(format!("app main {}", repo.head()));
    api.until_head("app", "old/8", None);

    master.kill9();
    master.run();
    let last = repo.land("main", "after a power cut", &[("file", "4\n")]);
    let made = api.until_buildsets("push", 7);
    expected.push(format!("app main {last}"));
    assert_eq!(sources(&made), expected);
    for buildset in made {
        assert_eq!(api.until_result(id(&buildset, "id")), "success");
    }
}

#[test]
fn word_from_outside_makes_a_look_due_and_is_believed_in_nothing_else() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
    repo.branch("rel/1");
    repo.push("rel/1");
    repo.go_to("main");
    let config = |branches: &str| {
        format!(
            "version: 1\ncodebases: {{app: {{git: '{}', branches: {branches}, poll: never}}}}\n{POOL}\
             builders: {{unit: {{steps: [{{run: 'true'}}]}}}}\nschedulers: {{push: {{changes: {{app: {{}}}}, builders: unit}}}}\n",
            repo.url()
        )
    };
    let master = Master::start(scratch.path(), &config("main"), Options::default());
    let api = master.api();
    api.until_looked(&["app"]);

    let posted = repo.land("main", "one", &[("file", "2\n")]);
    let hint = json!({"codebase": "app", "branch": "main", "revision": posted});
    assert_eq!(api.post("/changes", &hint), json!({"codebase": "app", "known": false, "trust": "trusted"}));
    let made = api.until_buildsets("push", 1);
    let set = api.get(&format!("/change-sets/{}", id(&made[0]["sources"][0], "change_set")));
    assert_eq!(set["noticed_by"], "api (token admin)", "{set:#}");
    assert_eq!(api.post("/changes", &hint)["known"], true);

    // Word that comes before the push has arrived: it is looked for again.
    let early = repo.commit("two", &[("file", "3\n")]);
    let sent = master.cli(&["change", "send", "app", "--branch", "main", "--revision", &early]);
    assert!(sent.status.success() && sent.stdout.is_empty(), "{sent:?}");
    api.until_head("app", "main", Some(&posted));
    repo.push("main");
    api.until_buildsets("push", 2);

    // A branch that nobody declared is looked at when it is named, and what is there is not trusted.
    repo.branch("pull/1");
    let pulled = repo.land("pull/1", "from somebody", &[("file", "4\n")]);
    let hint = json!({"codebase": "app", "branch": "pull/1", "revision": pulled});
    assert_eq!(api.post("/changes", &hint)["trust"], "untrusted");
    let made = api.until_buildsets("push", 3).remove(2);
    assert_eq!((&made["trust"], &made["sources"][0]["trust"]), (&json!("untrusted"), &json!("untrusted")));
    let request = id(&api.get(&format!("/buildsets/{}", id(&made, "id")))["requests"][0], "id");
    let why = api.get(&format!("/requests/{request}/explain"));
    assert_eq!(why["primary"]["code"], "no_pool_accepts", "{why:#}");
    let sentence = why["primary"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("`here`") && sentence.contains("untrusted"), "{sentence}");

    // What is not there is refused with a way out.
    for (body, said, help) in [
        (json!({"codebase": "apq"}), "there is no codebase `apq`", "codebases: app"),
        (json!({"codebase": "app", "revision": "main"}), "\"main\" is no full object id", "git rev-parse"),
        (json!({"codebase": "app", "branch": "a..b"}), "is no name of a branch", ""),
    ] {
        let refused = api.try_post("/changes", &body).unwrap_err();
        let error = &refused.body["error"];
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
        assert!(error["help"].as_str().unwrap_or_default().contains(help), "{error}");
    }
    let sent = master.cli(&["change", "send", "app", "--branch", "pull/2", "-o", "json"]);
    assert!(
        String::from_utf8_lossy(&sent.stderr).contains("not watched, so what is there is untrusted"),
        "{sent:?}"
    );
    let answer: serde_json::Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(answer, json!({"codebase": "app", "known": false, "trust": "untrusted"}));
    let refused = master.cli(&["change", "send", "apq"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), refused.stdout.is_empty()), (Some(1), true));
    assert!(told.contains("there is no codebase `apq`") && told.contains("codebases: app"), "{told}");

    // Branches that are newly watched have a past, and that is no news.
    master.write_config(&config("[main, 'rel/*']"));
    assert_eq!(api.post("/config/reload", &json!({}))["changed"], true);
    let head = repo.git(&["rev-parse", "origin/rel/1"]);
    api.until_head("app", "rel/1", Some(head.trim()));
    repo.go_to("rel/1");
    let fix = repo.land("rel/1", "a fix", &[("file", "5\n")]);
    master.cli(&["codebase", "poll", "app"]);
    let made = api.until_buildsets("push", 4);
    assert_eq!(
        sources(&made),
        [
            format!("app main {posted}"),
            format!("app main {early}"),
            format!("app pull/1 {pulled}"),
            format!("app rel/1 {fix}")
        ]
    );
}

#[test]
fn a_repository_that_is_away_holds_up_nobody_and_loses_nothing() {
    let scratch = Scratch::new();
    let folder = |name: &str| scratch.folder(name);
    let app = GitRepo::with(&folder("a"), "app", &[("word", "app\n")]);
    let lib = GitRepo::with(&folder("l"), "lib", &[("word", "lib\n")]);
    let empty = GitRepo::empty(&folder("e"), "empty");
    let wide = GitRepo::with(&folder("w"), "wide", &[("word", "wide\n")]);
    let mut refs = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for n in 0..50_001 {
        refs.push_str(&format!("{} refs/heads/b{n:05}\n", wide.head()));
    }
    std::fs::write(wide.bare().join("packed-refs"), refs).unwrap();
    let mut daemon = lib.serve();
    let config = format!(
        "version: 1\ncodebases:\n  app: {{git: '{}', poll: 1s}}\n  lib: {{git: '{}', poll: 1s}}\n  empty: {{git: '{}', poll: 1s}}\n  \
         wide: {{git: '{}', poll: 1s}}\n  nowhere: {{git: 'git://127.0.0.1:1/x.git', poll: 1s}}\n  wrong: {{git: '{}/x.git', poll: 1s}}\n{POOL}\
         builders:\n  solo: {{steps: [{{checkout: app}}, {{run: cat word}}]}}\n  fresh: {{steps: [{{checkout: empty}}, {{run: cat word}}]}}\n  \
         both: {{steps: [{{checkout: {{app: {{dir: one}}, lib: {{dir: two}}}}}}, {{run: cat one/word two/word}}]}}\n\
         schedulers:\n  solo: {{changes: {{app: {{branch: main}}}}, builders: solo}}\n  fresh: {{changes: {{empty: {{}}}}, builders: fresh}}\n  \
         both: {{changes: {{lib: {{branch: main}}, app: {{wake: false}}}}, builders: both}}\n",
        app.url(),
        daemon.url(),
        empty.url(),
        wide.url(),
        scratch.path().display()
    );
    let master = Master::start(scratch.path(), &config, Options::default());
    let api = master.api();
    api.until_looked(&["app", "lib", "empty"]);
    let error = |codebase: &str| {
        api.until("an error", &format!("/codebases/{codebase}"), wait::A_BUILD, |c| {
            c["error"].as_str().filter(|_| c["looked"].is_null()).map(str::to_string)
        })
    };
    assert!(error("nowhere").contains("the server cannot be reached"), "{}", error("nowhere"));
    assert!(error("wrong").contains("there is no repository at this address"), "{}", error("wrong"));
    assert!(error("wide").contains("50002 branches and tags; no more than 50000"), "{}", error("wide"));

    let one = lib.land("main", "one", &[("word", "lib 1\n")]);
    let made = api.until_buildsets("both", 1);
    let mut stamps = sources(&made);
    stamps.sort();
    assert_eq!(stamps, [format!("app main {}", app.head()), format!("lib main {one}")]);
    assert_eq!(api.until_result(id(&made[0], "id")), "success");
    let builds = api.list("/builds?builder=both");
    let build = api.get(&format!("/builds/{}", id(&builds[0], "id")));
    assert_eq!(api.output(&build, 1), "app\nlib 1\n");

    daemon.stop();
    let two = lib.land("main", "two", &[("word", "lib 2\n")]);
    let away = api
        .until("the error", "/codebases/lib", wait::A_BUILD, |lib| lib["error"].as_str().map(str::to_string));
    assert!(away.contains("the server cannot be reached"), "{away}");
    let shown = master.cli(&["codebase", "show", "lib"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("failing (since") && shown.contains("cannot be reached"), "{shown}");
    let listed = String::from_utf8(master.cli(&["codebase", "list"]).stdout).unwrap();
    assert!(listed.lines().any(|line| line.starts_with("lib ") && line.contains("failing: ")), "{listed}");
    app.land("main", "meanwhile", &[("word", "app 1\n")]);
    let made = api.until_buildsets("solo", 1);
    assert_eq!(api.until_result(id(&made[0], "id")), "success");
    let begun = empty.land("main", "the very first", &[("word", "no more\n")]);
    let made = api.until_buildsets("fresh", 1);
    assert_eq!(sources(&made), [format!("empty main {begun}")]);
    assert_eq!(api.until_result(id(&made[0], "id")), "success");

    daemon.start();
    let made = api.until_buildsets("both", 2);
    let mut stamps = sources(&made[1..]);
    stamps.sort();
    assert_eq!(stamps, [format!("app main {}", app.head()), format!("lib main {two}")]);
    assert_eq!(api.until_result(id(&made[1], "id")), "success");
    let lib = api.get("/codebases/lib");
    assert!(lib["error"].is_null() && lib["failing_since"].is_null(), "{lib:#}");
}
