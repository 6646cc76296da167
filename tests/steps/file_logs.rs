//! Files that a step writes, as logs of their own: live, whole, and on any worker.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Bench, Build, Docker, Options, Scratch, wait};

/// `$GO` is a folder in which the test says when to go on.
const MAKES: &str = r#"
builders:
  makes:
    properties: {kind: unit}
    steps:
      - name: make
        dir: app
        run: |
          mkdir -p tests; echo begins; echo first > tests/out.log
          while [ ! -e "$GO/on" ]; do sleep 0.05; done
          echo last >> tests/out.log; echo 'all of it' > "$KIND.log"
        env: {GO: GO_FOLDER, KIND: unit}
        logs: {tests: tests/out.log, cover: "{{ props.kind }}.log", never: none.log}
      - name: again
        dir: app
        run: echo more >> tests/out.log
        logs: {tests: ./tests/out.log}
"#;

fn config(pools: &str, go: &str) -> String {
    format!("{pools}{}", MAKES.replace("GO_FOLDER", go))
}

fn logs<'a>(build: &'a Build, step: &str) -> &'a [Value] {
    build.step(step)["logs"].as_array().map_or(&[][..], Vec::as_slice)
}

fn log<'a>(build: &'a Build, step: &str, name: &str) -> &'a Value {
    let found = logs(build, step).iter().find(|log| log["name"] == name);
    found.unwrap_or_else(|| panic!("no log {name}: {:#}", build.detail))
}

fn text(bench: &Bench, log: &Value) -> String {
    String::from_utf8_lossy(&bench.api.bytes(&format!("/logs/{}/raw", log["id"]))).into_owned()
}

fn are_logs_of_their_own(bench: &Bench, go: &Path) {
    let request = bench.start("makes");
    let build = bench.running(request, "its logs to be there", |build| {
        build.has_step("make") && logs(build, "make").len() == 4
    });
    let path = format!("/logs/{}/lines", log(&build, "make", "tests")["id"]);
    bench.api.until("the first line while it runs", &path, wait::A_BUILD, |page| {
        (page["lines"][0]["text"] == "first" && page["end"] == false).then_some(())
    });
    std::fs::write(go.join("on"), "").expect("the folder is ours");
    let build = bench.ended(request);
    build.must_be("success");
    let names: Vec<&str> = logs(&build, "make").iter().filter_map(|log| log["name"].as_str()).collect();
    assert_eq!(names, ["stdio", "tests", "cover", "never"]);
    for (name, expected) in
        [("stdio", "begins\n"), ("tests", "first\nlast\n"), ("cover", "all of it\n"), ("never", "")]
    {
        let log = log(&build, "make", name);
        assert_eq!(text(bench, log), expected, "{log:#}");
        assert_eq!(log["sealed"], true, "{log:#}");
        assert_eq!(log["note"].is_null(), name != "never", "{log:#}");
    }
    assert_eq!(log(&build, "make", "never")["note"], "no file was ever at `build/makes/app/none.log`");
    assert_eq!(build.end_of("make"), ("success", "ok"));
    // Of a file that was there, what this step has added.
    assert_eq!(text(bench, log(&build, "again", "tests")), "more\n");

    let id = build.id().to_string();
    assert_eq!(bench.cli(&["logs", &id, "--step", "make", "--log", "tests"]), "first\nlast\n");
    let all = bench.cli(&["logs", &id]);
    assert!(all.contains("── make · tests\nfirst\n") && all.contains("── again · tests\nmore\n"), "{all}");
    let wrong = bench.master.cli(&["logs", &id, "--log", "test"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("cover, never, stdio, tests"), "{said}");
}

#[test]
fn files_of_a_step_are_logs_of_their_own_on_a_local_worker() {
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    let config = config("pools: {here: {local: {}}}", &go.display().to_string());
    let bench = Bench::within(scratch, &config, Options::default());
    are_logs_of_their_own(&bench, &go);
}

#[test]
fn files_of_a_step_are_logs_of_their_own_in_a_container() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    let pools = format!(
        "pools: {{boxes: {{docker: {{image: '{}', pull: never, mounts: [{{source: '{}', target: /go}}]}}, accepts: any}}}}",
        image.name(),
        go.display()
    );
    let options = Options { docker: Some(docker), ..Options::default() };
    let bench = Bench::within(scratch, &config(&pools, "/go"), options);
    are_logs_of_their_own(&bench, &go);
}

#[test]
fn a_file_that_grows_while_the_master_is_killed_is_whole_to_the_byte() {
    const LINES: usize = 200_000;
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    // It goes on writing while there is no master, up to a point; its own output likewise.
    let config = format!(
        "pools: {{here: {{local: {{}}}}}}\nbuilders:\n  grows:\n    steps:\n      - name: grow\n        logs: {{grown: grown.log}}\n        run: |\n          \
         seq 1 1000 > grown.log; echo begun\n          while [ ! -e {go}/on ]; do sleep 0.05; done\n          \
         seq 1001 100000 >> grown.log; echo half; touch {go}/half\n          while [ ! -e {go}/end ]; do sleep 0.05; done\n          \
         seq 100001 {LINES} >> grown.log; echo ended\n",
        go = go.display()
    );
    std::fs::set_permissions(&go, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("it is ours");
    let mut bench = Bench::within(scratch, &config, Options::default());
    let request = bench.start("grows");
    let build = bench.running(request, "the first of it", |build| {
        build.has_step("grow") && logs(build, "grow").len() == 2 && {
            let page = bench.api.get(&format!("/logs/{}/lines?from=-1", log(build, "grow", "grown")["id"]));
            page["lines"][0]["text"] == "1000"
        }
    });
    bench.master.kill9();
    std::fs::write(go.join("on"), "").unwrap();
    wait::until("it to grow without a master", wait::SOON, || go.join("half").exists().then_some(()));
    bench.master.run();
    let path = format!("/logs/{}/lines?from=-1", log(&build, "grow", "grown")["id"]);
    bench.api.until("what it wrote meanwhile", &path, wait::A_BUILD, |page| {
        (page["lines"][0]["text"] == "100000").then_some(())
    });
    // Once more, in the very middle of it.
    std::fs::write(go.join("end"), "").unwrap();
    bench.master.kill9();
    bench.master.run();
    let ended = bench.ended(request);
    ended.must_be("success");
    assert_eq!((ended.id(), ended.text("grow").as_str()), (build.id(), "begun\nhalf\nended\n"));
    let whole: String = (1..=LINES).map(|n| format!("{n}\n")).collect();
    let grown = log(&ended, "grow", "grown");
    assert!(text(&bench, grown) == whole, "{grown:#}");
    assert!(grown["note"].is_null(), "{grown:#}");
}

const ENDS: &str = r#"
pools: {here: {local: {}, max: 3}}
builders:
  lost:
    on_lost: fail
    steps:
      - name: work
        run: echo first > a.log; while [ ! -e GO_FOLDER/on ]; do sleep 0.05; done; kill -9 $PPID; sleep 600
        logs: {a: a.log}
  much:
    steps:
      - {name: work, run: yes 0123456789abcde | head -c 3145728 > a.log, logs: {a: a.log}}
  printed:
    steps:
      - name: plan
        steps_from: |
          echo planned > plan.log
          echo '[{"name": "made", "run": "echo made > a.log", "logs": {"a": "a.log"}}, {"name": "red", "run": "echo why > a.log; exit 3", "logs": {"a": "a.log"}}]'
        logs: {plan: plan.log}
"#;

#[test]
fn what_came_of_a_file_is_kept_however_its_step_ends() {
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    let options = Options { flags: vec!["--log-limit".into(), "1 MiB".into()], ..Options::default() };
    let bench = Bench::within(scratch, &ENDS.replace("GO_FOLDER", &go.display().to_string()), options);
    let [lost, much, printed] = ["lost", "much", "printed"].map(|builder| bench.start(builder));
    bench.running(lost, "the first of it", |build| {
        build.has_step("work") && logs(build, "work").len() == 2 && {
            let page = bench.api.get(&format!("/logs/{}/lines", log(build, "work", "a")["id"]));
            page["lines"][0]["text"] == "first"
        }
    });
    std::fs::write(go.join("on"), "").unwrap();
    let lost = bench.ended(lost);
    assert_ne!(lost.result(), "failure", "{:#}", lost.detail);
    let kept = log(&lost, "work", "a");
    assert_eq!((text(&bench, kept).as_str(), kept["sealed"].as_bool()), ("first\n", Some(true)), "{kept:#}");
    assert!(kept["note"].as_str().is_some_and(|note| note.contains("was lost")), "{kept:#}");

    let much = bench.ended(much);
    much.must_be("success");
    let cut = log(&much, "work", "a");
    assert_eq!((cut["bytes"].as_i64(), text(&bench, cut).len()), (Some(1 << 20), 1 << 20), "{cut:#}");
    let note = cut["note"].as_str().unwrap_or_default();
    assert!(note.contains("truncated: 2097152 bytes beyond the first 1048576"), "{cut:#}");
    assert!(much.end_of("work").1.contains("cut after 1048576 bytes"), "{:#}", much.detail);

    let printed = bench.ended(printed);
    printed.must_be("failure");
    let texts = [("plan", "plan"), ("made", "a"), ("red", "a")]
        .map(|(step, name)| text(&bench, log(&printed, step, name)));
    assert_eq!(texts, ["planned\n", "made\n", "why\n"]);
    assert_eq!(printed.end_of("red").1, "exit 3");
}
