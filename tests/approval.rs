//! Approval: what strangers push waits for a person, and so do deployments; no worker is made for what waits, and a word that was given lasts through
//! lost workers and `kill -9` of the master.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::story::id;
use crate::harness::{Api, Bench, Database, GitRepo, Options, Scratch, wait};

/// The request of each of these builders in a buildset.
fn requests<const N: usize>(api: &Api, buildset: &Value, builders: [&str; N]) -> [i64; N] {
    let whole = api.get(&format!("/buildsets/{}", id(buildset, "id")));
    let all = whole["requests"].as_array().expect("a list").clone();
    builders.map(|builder| {
        id(all.iter().find(|request| request["builder"] == builder).expect("its request"), "id")
    })
}

fn state(api: &Api, request: i64) -> String {
    api.get(&format!("/requests/{request}"))["state"].as_str().expect("a state").to_owned()
}

fn approve(api: &Api, request: i64, reason: &str) -> Value {
    api.post(&format!("/requests/{request}/approve"), &json!({"reason": reason}))
}

fn ended(api: &Api, request: i64) -> Value {
    let path = format!("/requests/{request}");
    api.until("a request to end", &path, wait::A_BUILD, |r| (r["state"] == "done").then(|| r.clone()))
}

/// A repository with a branch that nobody declared, and a master that is told of what is pushed there.
struct Strangers {
    repo: GitRepo,
    bench: Bench,
}

impl Strangers {
    fn new() -> Self {
        let scratch = Scratch::new();
        let repo = GitRepo::with(scratch.path(), "app", &[("file", "ours\n")]);
        repo.branch("pull/1");
        let config = format!(
            "codebases: {{app: {{git: '{}', branches: main, poll: never}}}}\npools: {{here: {{local: {{}}, accepts: any, max: 4}}}}\n\
             builders:\n  unit:\n    approval: strangers\n    caches: {{tools: {{path: kept}}}}\n    steps:\n      - checkout: app\n      \
             - {{name: look, run: 'cat file; mkdir -p kept; cp file kept'}}\n  \
             lint: {{approval: strangers, steps: [{{run: 'true'}}]}}\n  free: {{steps: [{{run: 'true'}}]}}\n\
             schedulers: {{push: {{changes: {{app: {{}}}}, builders: [unit, lint]}}}}\n",
            repo.url()
        );
        let bench = Bench::within(scratch, &config, Options::default());
        bench.api.until_looked(&["app"]);
        Self { repo, bench }
    }

    /// Pushes and gives the buildset that comes of it.
    fn push(&self, text: &str, count: usize) -> Value {
        let revision = self.repo.land("pull/1", text, &[("file", &format!("{text}\n"))]);
        let hint = json!({"codebase": "app", "branch": "pull/1", "revision": revision});
        assert_eq!(self.bench.api.post("/changes", &hint)["trust"], "untrusted");
        self.bench.api.until_buildsets("push", count).remove(count - 1)
    }
}

#[test]
fn what_a_stranger_pushes_waits_for_one_word_and_stays_a_strangers() {
    let strangers = Strangers::new();
    let (bench, api) = (&strangers.bench, &strangers.bench.api);
    let [unit, lint] = requests(api, &strangers.push("theirs", 1), ["unit", "lint"]);

    // One that need not wait passes, and shows that the fleet has looked.
    bench.run("free").must_be("success");
    let why = api.get(&format!("/requests/{unit}/explain"));
    assert_eq!((&why["primary"]["code"], &why["pools"][0]["code"]), (&json!("approval"), &json!("approval")));
    let told = bench.cli(&["explain", &unit.to_string()]);
    assert!(told.contains("[approval]") && told.contains(&format!("rouse request approve {unit}")), "{told}");
    assert_eq!(bench.cli(&["request", "list", "--phase", "unapproved", "-q"]), format!("{lint}\n{unit}\n"));
    assert_eq!(api.list("/workers").len(), 1, "no worker was made for what waits");
    assert_eq!(api.get("/pools/here")["waiting"], 0);

    let made = api.post("/tokens", &json!({"name": "reader", "role": "read"}));
    let reader = api.with_token(made["token"].as_str().expect("a token"));
    let refused = reader.try_post(&format!("/requests/{unit}/approve"), &json!({})).unwrap_err();
    assert_eq!((refused.status, state(api, unit).as_str()), (403, "unapproved"));

    let told = bench.cli(&["request", "approve", &unit.to_string(), "--reason", "read it"]);
    assert_eq!(told, format!("request {unit} of unit is approved, and with it request {lint}\n"));
    let build = bench.ended(unit);
    build.must_be("success");
    assert_eq!((build.text("look").as_str(), &build.detail["trust"]), ("theirs\n", &json!("untrusted")));
    assert_eq!(
        build.end_of("keep cache tools"),
        ("skipped", "skipped: only trusted builds write caches"),
        "an approval trusts nobody"
    );
    let worker = api.get(&format!("/workers/{}", build.detail["worker"]["id"]));
    assert_eq!(worker["trust"], "untrusted");
    let said = &build.detail["approval"];
    assert_eq!((&said["by"], &said["reason"]), (&json!("api (token admin)"), &json!("read it")));
    assert!(bench.cli(&["build", "show", &build.id().to_string()]).contains("by api (token admin): read it"));
    bench.ended(lint).must_be("success");

    // The next push is asked for anew, and refused.
    let [unit, lint] = requests(api, &strangers.push("worse", 2), ["unit", "lint"]);
    bench.run("free").must_be("success");
    assert_eq!([state(api, unit), state(api, lint)], ["unapproved", "unapproved"]);
    bench.cli(&["request", "cancel", &unit.to_string(), "--reason", "a miner"]);
    let refused = ended(api, unit);
    assert_eq!((&refused["result"], &refused["build"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(refused["cancel"], "api (token admin): a miner");
    let late = api.try_post(&format!("/requests/{unit}/approve"), &json!({})).unwrap_err();
    assert_eq!(late.status, 409, "{late:?}");
    assert_eq!(state(api, lint), "unapproved");

    // A branch that a person names is built as it is then, whatever is pushed before it is approved.
    let named = bench.start_with("unit", &json!({"sources": [{"codebase": "app", "branch": "pull/1"}]}));
    strangers.push("worst", 3);
    approve(api, named, "");
    let named = bench.ended(named);
    named.must_be("success");
    assert_eq!((named.text("look").as_str(), &named.detail["trust"]), ("worse\n", &json!("untrusted")));

    // What was approved once may be built once more without another word, by whoever may give it.
    let again = api.post(&format!("/builds/{}/rebuild", build.id()), &json!({}));
    let again = bench.ended(id(&again["requests"][0], "id"));
    again.must_be("success");
    assert_eq!((again.text("look").as_str(), &again.detail["trust"]), ("theirs\n", &json!("untrusted")));
}

#[test]
fn what_nobody_approves_in_time_ends_with_its_reason() {
    let bench = Bench::new(
        "pools: {here: {local: {}}}\nbuilders:\n  deploy: {approval: {of: all, within: 2s}, steps: [{run: 'true'}]}\n",
    );
    let request = bench.start("deploy");
    let lapsed = ended(&bench.api, request);
    assert_eq!(
        (&lapsed["result"], &lapsed["cancel"]),
        (&json!("cancelled"), &json!("nobody approved it within 2s"))
    );
    assert_eq!(bench.api.until_result(id(&lapsed, "buildset")), "cancelled");
    let why = bench.api.get(&format!("/requests/{request}/explain"));
    assert_eq!(why["primary"]["sentence"], "cancelled: nobody approved it within 2s");
    assert_eq!(bench.api.list("/workers").len(), 0);
}

#[test]
fn a_word_is_for_one_deployment_and_for_all_its_attempts() {
    let scratch = Scratch::new();
    let outside = scratch.folder("outside");
    let file = outside.join("ran");
    // Each worker has a user of its own.
    std::fs::write(&file, "").expect("a file can be written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("it is ours");
    let config = format!(
        "pools: {{here: {{local: {{}}, max: 4}}}}\nlocks: {{production: 1}}\nbuilders:\n  deploy:\n    approval: all\n    \
         locks: {{production: exclusive}}\n    steps:\n      \
         - {{name: work, run: 'echo ran >> {0}; if [ \"$(wc -l < {0})\" = 1 ]; then kill -9 $PPID; sleep 600; fi'}}\n",
        file.display()
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let (first, second) = (bench.start("deploy"), bench.start("deploy"));
    // The one that is before it in the queue has no lock as long as nobody has approved it.
    approve(&bench.api, second, "tested");
    let done = bench.ended(second);
    done.must_be("success");
    assert_eq!((&done.detail["attempt"], &done.detail["approval"]["reason"]), (&json!(2), &json!("tested")));
    assert_eq!(state(&bench.api, first), "unapproved");
    approve(&bench.api, first, "");
    let done = bench.ended(first);
    done.must_be("success");
    assert_eq!((&done.detail["approval"]["reason"], &done.detail["attempt"]), (&Value::Null, &json!(1)));
}

#[test]
fn a_word_is_kept_or_not_given_where_the_master_is_killed_at_it() {
    let config = "pools: {here: {local: {}}}\nbuilders:\n  deploy: {approval: all, steps: [{run: 'true'}]}\n";
    let databases: [fn() -> Option<Database>; 2] = [|| Some(Database::File), Database::fresh_postgres];
    for fresh in databases {
        for (place, given) in [
            ("request.approve:before:1", false),
            ("request.approve:after:1", true),
            ("worker.request:before:1", true),
            ("worker.request:after:1", true),
        ] {
            let Some(database) = fresh() else { break };
            let environment = vec![("ROUSE_FAILPOINT".to_owned(), place.to_owned())];
            let options = Options { database, environment, ..Options::default() };
            let mut bench = Bench::within(Scratch::new(), config, options);
            let request = bench.start("deploy");
            let path = format!("/requests/{request}/approve");
            // The answer may come before the end, or not at all.
            let _ = bench.api.try_post(&path, &json!({"reason": "tested"}));
            bench.master.wait_for_end(wait::A_BUILD);
            bench.master.set_environment(vec![]);
            bench.master.run();
            let api = bench.master.api();
            if !given {
                assert_eq!(state(&api, request), "unapproved", "{place}");
                approve(&api, request, "tested");
            }
            let build = api.until_built(request);
            assert_eq!(
                (&build["result"], &build["attempt"], &build["approval"]["reason"]),
                (&json!("success"), &json!(1), &json!("tested")),
                "{place}: {build:#}"
            );
        }
    }
}
