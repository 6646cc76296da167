//! The master's own clock set back by an hour while it works: what is timed goes by a clock that nobody sets, and what strikes goes on.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Bench, GitRepo, Options, Scratch, wait};

fn config(url: &str, out: &Path) -> String {
    let out = out.display();
    format!(
        "codebases: {{app: {{git: '{url}', poll: 1s}}}}\npools: {{here: {{local: {{}}, max: 4}}}}\nbuilders:\n  \
         short: {{steps: [{{run: 'true'}}]}}\n  \
         limited: {{timeout: 12s, steps: [{{run: 'touch {out}/limited; sleep 600'}}]}}\n  \
         long: {{steps: [{{run: 'touch {out}/long; while [ ! -e {out}/go ]; do sleep 0.1; done; echo went on'}}]}}\n  \
         killed: {{steps: [{{run: 'if [ -e {out}/killed ]; then exit 0; fi; touch {out}/killed; kill -9 $PPID; sleep 600'}}]}}\n\
         schedulers:\n  settled: {{changes: {{app: {{branch: main}}}}, settle: 2s, builders: short}}\n  \
         often: {{every: 2s, builders: short}}\n  minutes: {{cron: '* * * * *', builders: short}}\n"
    )
}

/// Where Debian has it.
fn library() -> Option<String> {
    let path = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    if Path::new(&path).exists() {
        return Some(path);
    }
    rouse_testkit::back_ends::skip("needs libfaketime (Debian has a package of that name)");
    None
}

fn seconds(moment: &Value) -> i64 {
    let text = moment.as_str().unwrap_or_else(|| panic!("no moment: {moment}"));
    chrono::DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}")).timestamp()
}

#[test]
fn a_clock_set_back_by_an_hour_holds_up_nothing() {
    let Some(library) = library() else { return };
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("a", "1\n")]);
    let outside = scratch.folder("outside");
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o777)).unwrap();
    let clock = scratch.file("clock", "+0");
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let environment = vec![
        set("LD_PRELOAD", &library),
        set("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        set("FAKETIME_CACHE_DURATION", "1"),
        // The kernel's monotonic clock is nobody's to set.
        set("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        set("DONT_FAKE_MONOTONIC", "1"),
    ];
    let config = config(&repo.url(), &outside);
    let bench = Bench::within(scratch, &config, Options { environment, ..Options::default() });
    let api = &bench.api;
    api.until_looked(&["app"]);
    let before = seconds(&api.get("/master")["now"]);
    let long = bench.start("long");
    let limited = bench.start("limited");
    for name in ["long", "limited"] {
        wait::until_true("a build to run", wait::A_BUILD, || outside.join(name).exists());
    }
    let strokes = |scheduler: &str| api.buildsets(scheduler).len();
    wait::until_true("a stroke", wait::A_BUILD, || strokes("often") > 0);

    std::fs::write(&clock, "-3600").unwrap();
    wait::until_true("the master's clock to be set back", wait::SOON, || {
        seconds(&api.get("/master")["now"]) < before - 3000
    });
    let (often, minutes) = (strokes("often"), strokes("minutes"));
    let killed = bench.start("killed");
    let revision = repo.land("main", "under another clock", &[("a", "2\n")]);

    // The time of a build is up when it is.
    let build = bench.ended(limited);
    build.must_be("failure");
    assert!(build.summary().contains("took longer than 12 s"), "{}", build.summary());
    // An agent that is lost is missed, and its build tried again after the pause that is due.
    let build = bench.ended(killed);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 2, "{:#}", build.detail);
    // What is pushed is seen, and settles.
    let settled = api.until_buildsets("settled", 1);
    assert_eq!(settled[0]["sources"][0]["revision"], revision.as_str());
    assert_eq!(api.until_result(settled[0]["id"].as_i64().unwrap()), "success");
    // Clocks strike on, each moment under a name of its own.
    wait::until_true("strokes as often as before", wait::A_BUILD, || strokes("often") >= often + 3);
    wait::until_true("the next minute", wait::A_BUILD, || strokes("minutes") > minutes);
    // What ran before goes on, and ends as it would have.
    std::fs::write(outside.join("go"), "").unwrap();
    let build = bench.ended(long);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1);
    let phases = build.detail["times"].as_object().expect("its times by phase");
    assert!(phases.values().all(|time| time.as_f64().is_some_and(|s| s >= 0.0)), "{phases:?}");
}
