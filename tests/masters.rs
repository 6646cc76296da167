//! Two masters on one database: each build and each instant once; what one leaves, killed or frozen, the other goes on with.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::database::Fresh;
use crate::harness::{Api, Build, Database, GitRepo, Master, Options, Scratch, builds, wait};

/// How long a master is frozen, at least.
const A_MINUTE: Duration = Duration::from_secs(60);
/// Lines that the long build prints at its beginning and at its end: more than a row holds.
const LINES: usize = 5_000;

struct Pair {
    // In this order: the masters end before their folder goes.
    one: Master,
    two: Master,
    database: Arc<Fresh>,
    repo: GitRepo,
    outside: PathBuf,
    token: String,
    _scratch: Scratch,
}

impl Pair {
    fn start() -> Option<Self> {
        let scratch = Scratch::new();
        let database = Database::fresh_postgres()?;
        let Database::Postgres(fresh) = database.clone() else { unreachable!("it was just made") };
        let repo = GitRepo::with(scratch.path(), "app", &[("a", "1\n")]);
        let outside = scratch.folder("outside");
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o777))
            .expect("the folder is ours");
        let config = config(&repo, &outside);
        let options = |name: &str| Options {
            name: name.into(),
            database: database.clone(),
            flags: vec!["--objects".into(), scratch.path().join("objects").display().to_string()],
            ..Options::default()
        };
        let one = Master::start(scratch.path(), &config, options("one"));
        let token = std::fs::read_to_string(one.state().join("admin.token"))
            .expect("it has made the first token")
            .trim()
            .to_owned();
        until_it_has_all_roles(&Api::new(&one.address(), &token), "one");
        let mut two = Master::prepare(scratch.path(), &config, options("two"));
        two.join(&one);
        two.run();
        Some(Self { one, two, database: fresh, repo, outside, token, _scratch: scratch })
    }

    fn api_of(&self, master: &Master) -> Api {
        Api::new(&master.address(), &self.token)
    }

    /// Starts a build that goes on until it is let go, through one master; once it has printed, its request.
    fn long(&self, api: &Api, name: &str) -> i64 {
        let request = builds::start(api, "long", json!({"name": name}));
        wait::until_true("the build to print", wait::A_BUILD, || {
            self.outside.join(format!("began-{name}")).exists()
        });
        request
    }

    /// Lets it go and looks at what came of it.
    fn ends_as_if_nothing_had_happened(&self, api: &Api, name: &str, request: i64) {
        std::fs::write(self.outside.join(format!("go-{name}")), "").expect("a file can be written");
        let build = Build::of(api, api.until_built(request));
        build.must_be("success");
        assert_eq!(build.detail["attempt"], 1, "{:#}", build.detail);
        let ran = std::fs::read_to_string(self.outside.join(format!("began-{name}"))).expect("it has begun");
        assert_eq!(ran, "began\n", "no command ran twice");
        let mut expected = String::new();
        for word in ["first", "last"] {
            (1..=LINES).for_each(|n| expected.push_str(&format!("{word} {n}\n")));
        }
        assert_eq!(build.text("work"), expected, "the log is complete to the byte");
    }

    /// Pushes a commit and tells one master of it; nobody polls.
    fn push_and_tell(&self, api: &Api, count: usize) {
        let revision = self.repo.land("main", &format!("change {count}"), &[("a", &format!("{count}\n"))]);
        let posted = json!({"codebase": "app", "branch": "main", "revision": revision});
        api.post("/changes", &posted);
        let made = api.until_buildsets("push", count);
        assert_eq!(
            api.until_result(made[count - 1]["id"].as_i64().expect("a buildset has a number")),
            "success"
        );
    }

    fn query(&self, sql: &str) -> String {
        self.database.query(sql)
    }
}

fn roles(api: &Api, name: &str) -> BTreeSet<String> {
    let master = api.get("/master");
    let peers = master["masters"].as_array().expect("a master knows all");
    let peer = peers.iter().find(|peer| peer["name"] == name);
    let roles = peer.and_then(|peer| peer["roles"].as_array());
    roles.into_iter().flatten().filter_map(|role| role.as_str().map(str::to_owned)).collect()
}

fn until_it_has_all_roles(api: &Api, name: &str) {
    let all = ["fleet", "matcher", "poller app", "scheduler cron", "scheduler push", "scheduler ticks"];
    let all: BTreeSet<String> = all.map(str::to_owned).into();
    wait::until_true(&format!("`{name}` to have all roles"), wait::A_BUILD, || roles(api, name) == all);
}

fn config(repo: &GitRepo, outside: &Path) -> String {
    let (url, out) = (repo.url(), outside.display());
    format!(
        "version: 1\ncodebases: {{app: {{git: '{url}', poll: never}}}}\n\
         pools: {{here: {{local: {{}}, max: 3, reuse: {{builds: 1000, idle: 1h}}}}}}\n\
         builders:\n  short: {{steps: [{{run: 'true'}}]}}\n  \
         asked: {{approval: all, steps: [{{run: 'true'}}]}}\n  unit: {{steps: [{{checkout: app}}, {{run: cat a}}]}}\n  long:\n    steps:\n      \
         - name: work\n        run: |\n          for n in $(seq {LINES}); do echo \"first $n\"; done\n          \
         echo began >> {out}/began-$NAME; while [ ! -e {out}/go-$NAME ]; do sleep 0.1; done\n          \
         for n in $(seq {LINES}); do echo \"last $n\"; done\n        env: {{NAME: '{{{{ props.name }}}}'}}\n  \
         leads: {{steps: [{{trigger: {{builder: long, properties: {{name: '{{{{ props.name }}}}'}}}}}}, {{run: 'true'}}]}}\n\
         schedulers:\n  push: {{changes: {{app: {{branch: main}}}}, builders: unit}}\n  \
         ticks: {{every: 3s, builders: short}}\n  cron: {{cron: '* * * * *', builders: short}}\n"
    )
}

#[test]
fn what_one_master_leaves_killed_or_frozen_the_other_goes_on_with() {
    let Some(mut pair) = Pair::start() else { return };
    let (one, two) = (pair.api_of(&pair.one), pair.api_of(&pair.two));
    one.until_looked(&["app"]);

    // Either serves, whoever has the role for it.
    pair.push_and_tell(&two, 1);
    assert_eq!(builds::run(&two, "short", json!({}))["result"], "success");
    let asked = builds::start(&one, "asked", json!({}));
    two.post(&format!("/requests/{asked}/approve"), &json!({}));
    assert_eq!(one.until_built(asked)["result"], "success");

    // Killed under a build: the other goes on with it where it was.
    let request = pair.long(&two, "killed");
    pair.one.kill9();
    until_it_has_all_roles(&two, "two");
    pair.ends_as_if_nothing_had_happened(&two, "killed", request);
    pair.push_and_tell(&two, 2);

    // Back again it joins, and serves as the other did.
    pair.one.run();
    pair.push_and_tell(&one, 3);
    let request = pair.long(&one, "frozen");
    pair.two.signal(Signal::SIGSTOP);
    let asleep = Instant::now();
    until_it_has_all_roles(&one, "one");
    pair.ends_as_if_nothing_had_happened(&one, "frozen", request);
    pair.push_and_tell(&one, 4);
    let before = one.buildsets("cron").len();
    wait::until_true("a minute to strike", wait::A_BUILD, || one.buildsets("cron").len() > before);

    wait::until_true("a minute of its sleep to pass", wait::A_BUILD, || asleep.elapsed() >= A_MINUTE);

    // Awake again it is refused, says so and ends, and has written nothing.
    let row = "SELECT * FROM masters WHERE name = 'two'";
    let frozen = pair.query(row);
    pair.two.signal(Signal::SIGCONT);
    let status = pair.two.wait_for_end(wait::A_BUILD);
    assert_eq!(status.code(), Some(1), "{}", pair.two.log());
    assert!(pair.two.log().contains("another one has taken its place"), "{}", pair.two.log());
    assert_eq!(pair.query(row), frozen);
    assert_eq!(builds::run(&one, "short", json!({}))["result"], "success");
    pair.two.run();
    assert_eq!(builds::run(&two, "short", json!({}))["result"], "success");

    // Each request has one build, at its first attempt; each instant one buildset, and none is missing.
    let odd = "SELECT builder, request, count(*), max(attempt) FROM builds GROUP BY builder, request HAVING count(*) > 1";
    assert_eq!(pair.query(odd), "");
    assert_eq!(
        pair.query(
            "SELECT builder, result FROM builds WHERE result IS DISTINCT FROM 0 AND finished IS NOT NULL"
        ),
        ""
    );
    instants(&one.buildsets("cron"), 60);
}

#[test]
fn a_build_that_waits_for_others_waits_on_with_another_master() {
    let Some(mut pair) = Pair::start() else { return };
    let two = pair.api_of(&pair.two);
    let leads = builds::start(&two, "leads", json!({"name": "led"}));
    wait::until_true("its build to print", wait::A_BUILD, || pair.outside.join("began-led").exists());
    let led = two.list("/requests?builder=long").remove(0)["id"].as_i64().expect("a number");
    pair.one.kill9();
    until_it_has_all_roles(&two, "two");
    pair.ends_as_if_nothing_had_happened(&two, "led", led);
    let build = Build::of(&two, two.until_built(leads));
    build.must_be("success");
    assert_eq!((&build.detail["attempt"], build.end_of("trigger long").1), (&1.into(), "it succeeded"));
    assert_eq!(two.list("/requests?builder=long").len(), 1, "it was started once");
}

#[test]
fn the_one_that_decides_for_the_fleet_tells_how_it_stands() {
    let Some(mut pair) = Pair::start() else { return };
    let (one, two) = (pair.api_of(&pair.one), pair.api_of(&pair.two));
    let tells = |api: &Api, lines: &[&str]| {
        let text = String::from_utf8(api.bytes("/metrics")).expect("text");
        lines.iter().all(|line| text.lines().any(|l| l == *line))
    };
    let both = "rouse_masters{state=\"up\"} 2";
    wait::until_true("both to see each other", wait::SOON, || {
        tells(&one, &["rouse_fleet_role 1", "rouse_pool_max{pool=\"here\"} 3", both])
            && tells(&two, &["rouse_fleet_role 0", both])
    });
    assert!(!tells(&two, &["rouse_pool_max{pool=\"here\"} 3"]), "it was not asked to decide");
    pair.one.kill9();
    wait::until_true("the other one to decide", wait::A_BUILD, || {
        tells(
            &two,
            &["rouse_fleet_role 1", "rouse_pool_max{pool=\"here\"} 3", "rouse_masters{state=\"up\"} 1"],
        )
    });
}

/// Each minute from the first to the last has struck once.
fn instants(made: &[Value], apart: i64) {
    let at = |set: &Value| {
        let reason = set["reason"].as_str().unwrap_or_default().strip_prefix("scheduled for ");
        let text = reason.unwrap_or_else(|| panic!("{set:#}")).replace(" UTC", "");
        let parsed = chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M").expect("a moment");
        parsed.and_utc().timestamp()
    };
    let struck: Vec<i64> = made.iter().map(at).collect();
    assert!(!struck.is_empty());
    assert!(struck.windows(2).all(|two| two[1] - two[0] == apart), "{struck:?}");
}
