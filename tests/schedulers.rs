//! Changes, clocks, other builds and people become buildsets, each cause once.

use serde_json::{Value, json};

use crate::harness::story::{id, sources};
use crate::harness::{Database, GitRepo, Master, Options, Scratch, wait};

const POOL: &str = "pools: {here: {local: {}, max: 2, reuse: {builds: 100, idle: 1h}}}\n";
const BUILDERS: &str = "builders: {unit: {steps: [{run: 'true'}]}, red: {steps: [{run: 'false'}]}}\n";

fn names(made: &[Value]) -> Vec<String> {
    sources(made).iter().map(|source| source.split(' ').nth(1).unwrap_or_default().to_string()).collect()
}

#[test]
fn changes_are_filtered_settled_and_followed_by_others() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("src/a", "1\n")]);
    let config = format!(
        "version: 1\ncodebases: {{app: {{git: '{}', poll: 1s}}}}\n{POOL}{BUILDERS}schedulers:\n  \
         settled: {{changes: {{app: {{branch: main}}}}, settle: 8s, builders: unit}}\n  \
         sources: {{changes: {{app: {{branch: main, paths: ['src/**', '!src/doc/**']}}}}, builders: unit}}\n  \
         spoken: {{changes: {{app: {{branch: main}}}}, message: '!*[skip ci]*', builders: unit}}\n  \
         releases: {{changes: {{app: {{branch: ['release/*', '!release/0.*']}}}}, builders: unit}}\n  \
         any: {{changes: {{app: {{}}}}, builders: unit}}\n  \
         then: {{after: any, builders: unit}}\n  \
         last: {{after: then, builders: unit}}\n  \
         broken: {{changes: {{app: {{branch: dev}}}}, builders: red}}\n  \
         not-after: {{after: broken, builders: unit}}\n  \
         rescue: {{after: {{broken: failure}}, builders: unit}}\n  \
         often: {{every: 1s, only_if_changed: true, codebases: {{app: {{branch: release/1}}}}, builders: unit}}\n",
        repo.url()
    );
    let mut master = Master::start(scratch.path(), &config, Options::default());
    let api = master.api();
    api.until_looked(&["app"]);

    // Three pushes of one window; each is a change set of its own.
    let push = |message: &str, file: &str| {
        let revision = repo.land("main", message, &[(file, message)]);
        api.until_head("app", "main", Some(&revision));
        revision
    };
    let a = push("a", "src/a");
    let b = push("b [skip ci]", "docs/b");
    let c = push("c", "src/doc/c");
    assert_eq!(sources(&api.until_buildsets("sources", 1)), [format!("app main {a}")]);
    assert_eq!(
        sources(&api.until_buildsets("spoken", 2)),
        [format!("app main {a}"), format!("app main {c}")]
    );
    let settled = api.until_buildsets("settled", 1);
    assert_eq!(sources(&settled), [format!("app main {c}")]);
    assert_eq!(settled[0]["reason"], "3 pushes on main by Ada Example");
    assert_eq!(sources(&api.until_buildsets("any", 3))[1], format!("app main {b}"));

    for (branch, file) in [("release/0.9", "src/0"), ("release/1", "src/1"), ("dev", "src/2")] {
        repo.branch(branch);
        repo.land(branch, branch, &[(file, branch)]);
        repo.go_to("main");
    }
    assert_eq!(names(&api.until_buildsets("releases", 1)), ["release/1"]);
    api.until_buildsets("any", 6);
    let then = api.until_buildsets("then", 6);
    let last = api.until_buildsets("last", 6);
    assert!(
        last[0]["reason"].as_str().unwrap().starts_with("after then: after any: 1 commit on"),
        "{last:#?}"
    );
    assert_eq!(names(&then), names(&last), "a chain builds what its first link has built");
    assert_eq!(names(&api.until_buildsets("rescue", 1)), ["dev"]);

    // A clock that minds changes: once for nothing that was known before, once for the branch. It keeps its beat over a restart.
    let often = api.until_buildsets("often", 2);
    assert_eq!(
        sources(&often[1..]),
        [format!("app release/1 {}", repo.git(&["rev-parse", "release/1"]).trim())]
    );
    master.restart();
    repo.go_to("release/1");
    let again = repo.land("release/1", "again", &[("src/a", "again\n")]);
    let often = api.until_buildsets("often", 3);
    assert_eq!(sources(&often[2..]), [format!("app release/1 {again}")]);
    api.until_buildsets("last", 7);
    for (scheduler, count) in
        [("settled", 1), ("sources", 1), ("spoken", 2), ("broken", 1), ("rescue", 1), ("not-after", 0)]
    {
        assert_eq!(api.buildsets(scheduler).len(), count, "{scheduler}");
    }

    // One that goes and comes back begins anew: what happened meanwhile is not its business.
    let without = config.replace("  spoken:", "  other:");
    master.write_config(&without);
    assert_eq!(api.post("/config/reload", &json!({}))["changed"], true);
    repo.go_to("main");
    push("while it was gone", "src/a");
    api.until_buildsets("other", 1);
    master.write_config(&config);
    assert_eq!(api.post("/config/reload", &json!({}))["changed"], true);
    let back = push("when it is back", "src/a");
    let spoken = api.until_buildsets("spoken", 3);
    assert_eq!(sources(&spoken[2..]), [format!("app main {back}")]);
}

#[test]
fn people_are_asked_typed_questions_and_what_they_ask_for_twice_is_made_once() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
    let old = repo.head();
    repo.land("main", "newer", &[("file", "2\n")]);
    repo.branch("side");
    let side = repo.land("side", "elsewhere", &[("file", "3\n")]);
    let config = format!(
        "version: 1\ncodebases: {{app: {{git: '{}', branches: main, poll: 1s}}}}\n{POOL}builders:\n  show:\n    steps:\n      \
         - run: [echo, \"{{{{ props.version }}}} {{{{ props.jobs }}}} {{{{ props.sign }}}} {{{{ props.channel }}}} {{{{ props.notes }}}}\"]\n\
         schedulers:\n  by-hand:\n    builders: show\n    codebases: {{app: {{}}}}\n    force:\n      parameters:\n        \
         version: {{string: {{required: true, pattern: '[0-9.]+', help: as in 1.4}}}}\n        notes: {{text: {{default: none}}}}\n        \
         jobs: {{int: {{min: 1, max: 64, default: 4}}}}\n        sign: {{bool: {{default: false}}}}\n        \
         channel: {{choice: {{of: [beta, stable], default: beta}}}}\n  clock: {{every: 1h, builders: show, properties: {{version: x, jobs: 1, sign: false, channel: c, notes: n}}}}\n",
        repo.url()
    );
    let master = Master::start(scratch.path(), &config, Options::default());
    let api = master.api();
    api.until_looked(&["app"]);

    let made = api.post("/schedulers/by-hand/force", &json!({"parameters": {"version": "1.4"}}));
    let build = api.until_built(id(&made["requests"][0], "id"));
    assert_eq!(api.output(&build, 0), "1.4 4 False beta none\n".to_lowercase());
    let answers = [
        "-p",
        "version=2",
        "-p",
        "jobs=64",
        "-p",
        "sign=true",
        "-p",
        "channel=stable",
        "-p",
        "notes=two\nlines",
    ];
    let mut force = vec!["force", "by-hand", "--wait", "-o", "json", "--key", "my own"];
    force.extend(answers);
    let forced = master.cli(&force);
    assert_eq!(forced.status.code(), Some(0), "{forced:?}");
    let made: Value = serde_json::from_slice(&forced.stdout).unwrap();
    let build = api.until_built(id(&made["requests"][0], "id"));
    assert_eq!(api.output(&build, 0), "2 64 true stable two\nlines\n");

    // All that is wrong at once: the parameter, the value, and what would do.
    let bad =
        json!({"parameters": {"version": "v1", "jobs": 65, "sign": "yes", "channel": "stabel", "what": 1}});
    let refused = api.try_post("/schedulers/by-hand/force", &bad).unwrap_err();
    let faults = refused.body["error"]["detail"]["faults"].clone();
    assert_eq!(
        faults,
        json!([
            "parameter `version`: `v1` does not match `[0-9.]+` (give a line of text that matches `[0-9.]+`; as in 1.4)",
            "parameter `jobs`: 65 is more than 64 (give a whole number from 1 to 64)",
            "parameter `sign`: \"yes\" is neither `true` nor `false` (give `true` or `false`)",
            "parameter `channel`: `stabel` is not among the choices (did you mean `stable`?)",
            "parameter `what` is not known; there are: version, notes, jobs, sign, channel"
        ])
    );
    assert_eq!(refused.status, 400);
    for (arguments, code, said) in [
        (vec!["force", "by-hand"], 1, "parameter `version`: an answer is required (give a line of text"),
        (
            vec!["force", "by-hand", "-p", "version=1", "-p", "notes=x\ny", "-p", "jobs=many"],
            1,
            "`jobs`: \"many\" is no whole number",
        ),
        (vec!["force", "clock"], 1, "it has no `force:`"),
        (vec!["force", "by-hnd"], 3, "there is no scheduler `by-hnd`"),
        (vec!["force", "by-hand", "-p", "version"], 64, "NAME=VALUE"),
    ] {
        let refused = master.cli(&arguments);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(
            (refused.status.code(), refused.stdout.len()),
            (Some(code), 0),
            "{arguments:?}: {refused:?}"
        );
        assert!(told.contains(said), "{arguments:?}: {told}");
    }

    // The same key makes the same thing once; nothing was made of what was refused.
    let again = master.cli(&force);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again["buildset"], &again["fresh"]), (&made["buildset"], &json!(false)));
    assert_eq!(api.buildsets("by-hand").len(), 2);

    // What no declared branch holds is not trusted; what one holds is, however old.
    let trust = |source: Value| {
        let body = json!({"parameters": {"version": "3"}, "sources": [source]});
        let made = api.post("/schedulers/by-hand/force", &body);
        api.get(&format!("/buildsets/{}", id(&made, "buildset")))["trust"].as_str().unwrap().to_string()
    };
    assert_eq!(trust(json!({"branch": "main"})), "trusted");
    assert_eq!(trust(json!({"revision": old})), "trusted");
    assert_eq!(trust(json!({"branch": "side"})), "untrusted");
    assert_eq!(trust(json!({"branch": "main", "revision": side})), "untrusted");
    let refused = api.try_post(
        "/schedulers/by-hand/force",
        &json!({"parameters": {"version": "3"}, "sources": [{"codebase": "apq"}]}),
    );
    assert_eq!(refused.unwrap_err().status, 400);
}

#[test]
fn on_postgresql_a_push_becomes_green_and_moments_that_passed_meanwhile_count_as_configured() {
    let Some(database) = Database::fresh_postgres() else { return };
    let Database::Postgres(server) = database.clone() else { unreachable!() };
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("word", "first\n")]);
    let config = format!(
        "version: 1\ncodebases: {{app: {{git: '{}', poll: 1s}}}}\n{POOL}\
         builders: {{unit: {{steps: [{{checkout: app}}, {{run: cat word}}]}}, tick: {{steps: [{{run: 'true'}}]}}}}\nschedulers:\n  \
         push: {{changes: {{app: {{branch: main}}}}, builders: unit}}\n  \
         minute: {{cron: '* * * * *', builders: tick}}\n  \
         once: {{cron: '30 4 1 1 *', timezone: Pacific/Auckland, missed: once, builders: tick}}\n  \
         skipped: {{cron: '30 4 1 1 *', missed: skip, builders: tick}}\n",
        repo.url()
    );
    let mut master = Master::start(scratch.path(), &config, Options { database, ..Options::default() });
    let api = master.api();
    api.until_looked(&["app"]);
    repo.land("main", "pushed", &[("word", "pushed\n")]);
    let made = api.until_buildsets("push", 1).remove(0);
    assert_eq!(api.until_result(id(&made, "id")), "success");
    let build = api.get(&format!("/builds/{}", id(&api.list("/builds?builder=unit")[0], "id")));
    assert_eq!(api.output(&build, 1), "pushed\n");

    // The master is down for two years, as far as its clocks know.
    wait::until_true("the clocks to have begun", wait::SOON, || {
        server.query("SELECT count(*) FROM scheduler_states WHERE scheduler IN ('once', 'skipped')") == "2"
    });
    master.stop();
    let moved = "UPDATE scheduler_states SET value = CAST(CAST(value AS BIGINT) - 63072000000000 AS TEXT) \
                 WHERE scheduler IN ('once', 'skipped')";
    server.query(moved);
    repo.land("main", "while down", &[("word", "down\n")]);
    master.run();
    let struck = api.until_buildsets("once", 1).remove(0);
    // Half past four on New Year's Day in Auckland, of the last year that has one behind it.
    let reason = struck["reason"].as_str().unwrap();
    assert!(reason.starts_with("scheduled for 20") && reason.ends_with("-12-31 15:30 UTC"), "{reason}");
    let seen = api.until_buildsets("push", 2).remove(1);
    assert_eq!(api.until_result(id(&seen, "id")), "success");
    let minute = wait::until("the full minute", wait::A_BUILD, || api.buildsets("minute").pop());
    assert!(minute["reason"].as_str().unwrap().starts_with("scheduled for "), "{minute:#}");
    assert_eq!(api.until_result(id(&minute, "id")), "success");
    assert_eq!((api.buildsets("once").len(), api.buildsets("skipped").len()), (1, 0));
    assert_eq!(api.buildsets("push").len(), 2);
}
