//! Workers that are lost under a build: it is tried again where that may be, never otherwise, and never red.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid};
use serde_json::Value;

use crate::harness::{Bench, Build, Options, Scratch, processes, wait};

/// Each builder kills its agent, the parent of its step, as often as its file says.
fn config(folder: &str) -> String {
    let dies = |name: &str, times: u32| {
        format!(
            "run: 'echo ran >> {folder}/{name}; if [ \"$(wc -l < {folder}/{name})\" -le {times} ]; then kill -9 $PPID; sleep 600; fi'"
        )
    };
    let shot = |name: &str, more: &str| {
        format!(
            "  {name}:\n    steps:\n      - {{name: work, {more}run: 'echo ran >> {folder}/{name}; echo $$ > {folder}/{name}.pid; [ \"$(wc -l < {folder}/{name})\" = 2 ] || sleep 600'}}\n"
        )
    };
    format!(
        "pools:\n  here: {{local: {{}}, max: 7}}\nbuilders:\n  retried:\n    retries: 2\n    steps:\n      - {{name: work, {}}}\n      \
         - {{name: after, run: 'echo after'}}\n  failed:\n    on_lost: fail\n    steps:\n      - {{name: work, {}}}\n      \
         - {{name: clean, run: 'true', always: true}}\n  unrepeatable:\n    steps:\n      - {{name: sign, repeatable: false, {}}}\n  \
         signed:\n    steps:\n      - {{name: sign, repeatable: false, run: 'echo signed >> {folder}/signed'}}\n      \
         - {{name: work, {}}}\n  spent:\n    retries: 1\n    steps:\n      - {{name: work, {}}}\n{}{}",
        dies("retried", 1),
        dies("failed", 9),
        dies("unrepeatable", 9),
        dies("later", 9),
        dies("spent", 9),
        shot("shot", ""),
        shot("shot-once", "repeatable: false, "),
    )
}

fn lines(folder: &std::path::Path, name: &str) -> usize {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default().lines().count()
}

/// Kills all that a step runs, but not its agent.
fn kill_group_of_step(file: &std::path::Path) {
    let pid = wait::until("the step to run", wait::A_BUILD, || {
        std::fs::read_to_string(file).unwrap_or_default().trim().parse().ok()
    });
    let group = getpgid(Some(Pid::from_raw(pid))).expect("it runs");
    killpg(group, Signal::SIGKILL).expect("it runs");
}

fn never_red(build: &Build) {
    assert_ne!(build.result(), "failure", "{:#}", build.detail);
    assert!(build.steps().iter().all(|step| step["result"] != "failure"), "{:#}", build.detail);
}

#[test]
fn a_build_whose_agent_is_killed_is_tried_again_only_where_it_may_be() {
    let scratch = Scratch::new();
    let outside = scratch.folder("outside");
    // Each worker has a user of its own.
    let files = ["retried", "failed", "unrepeatable", "signed", "later", "spent"];
    for name in files.into_iter().chain(["shot", "shot.pid", "shot-once", "shot-once.pid"]) {
        let file = outside.join(name);
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    let config = config(outside.to_str().unwrap());
    let bench = Bench::within(scratch, &config, Options::default());
    let names = ["retried", "failed", "unrepeatable", "signed", "spent", "shot", "shot-once"];
    let [retried, failed, unrepeatable, signed, spent, shot, shot_once] = names.map(|name| bench.start(name));
    for name in ["shot", "shot-once"] {
        kill_group_of_step(&outside.join(format!("{name}.pid")));
    }

    let done = bench.ended(retried);
    done.must_be("success");
    assert_eq!((done.detail["attempt"].as_i64(), lines(&outside, "retried")), (Some(2), 2));
    let attempts = bench.api.list(&format!("/builds?request={retried}"));
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    let first = bench.build(attempts[1]["id"].as_i64().unwrap());
    first.must_be("retry");
    never_red(&first);
    assert_eq!(first.detail["class"], "agent_lost", "{:#}", first.detail);
    let worker = first.detail["worker"]["name"].as_str().unwrap();
    // The page says what happened.
    for said in [first.summary(), first.end_of("work").1] {
        assert!(said.contains(&format!("worker {worker} was lost")), "{said}");
    }
    assert!(!first.has_step("after") || first.end_of("after").0 == "skipped", "{:#}", first.detail);
    assert_ne!(done.detail["worker"]["name"], first.detail["worker"]["name"]);

    let failed = bench.ended(failed);
    failed.must_be("exception");
    never_red(&failed);
    assert!(failed.summary().contains("on_lost: fail"), "{}", failed.summary());
    assert_eq!(failed.end_of("clean").0, "skipped", "nothing can run on a worker that is gone");
    assert_eq!(lines(&outside, "failed"), 1);

    let unrepeatable = bench.ended(unrepeatable);
    unrepeatable.must_be("exception");
    assert!(unrepeatable.summary().contains("`sign` is not repeatable"), "{}", unrepeatable.summary());
    assert_eq!(lines(&outside, "unrepeatable"), 1);

    // What was done once is not done again for the sake of a later step.
    let signed = bench.ended(signed);
    signed.must_be("exception");
    assert!(signed.summary().contains("`sign` is not repeatable"), "{}", signed.summary());
    assert_eq!((lines(&outside, "signed"), lines(&outside, "later")), (1, 1));

    let spent = bench.ended(spent);
    spent.must_be("exception");
    never_red(&spent);
    assert!(spent.summary().contains("given up after 2 attempts"), "{}", spent.summary());
    assert_eq!(lines(&outside, "spent"), 2);
    // The agent lives; what it ran was killed by somebody else.
    let done = bench.ended(shot);
    done.must_be("success");
    assert_eq!((done.detail["attempt"].as_i64(), lines(&outside, "shot")), (Some(2), 2));
    let attempts = bench.api.list(&format!("/builds?request={shot}"));
    let first = bench.build(attempts[1]["id"].as_i64().unwrap());
    first.must_be("retry");
    never_red(&first);
    let page = bench.cli(&["build", "show", &first.id().to_string()]);
    assert!(page.contains("killed by signal 9 from outside the build"), "{page}");
    let shot_once = bench.ended(shot_once);
    shot_once.must_be("exception");
    assert!(shot_once.summary().contains("`work` is not repeatable"), "{}", shot_once.summary());
    assert_eq!(lines(&outside, "shot-once"), 1);
    let left = |seen: &processes::Seen| seen.command == "sleep 600" && mentions(seen, &outside);
    wait::until_true("what the killed agents left to be gone", wait::SOON, || {
        !processes::all().any(|seen| left(&seen))
    });
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
}

fn mentions(seen: &processes::Seen, folder: &std::path::Path) -> bool {
    let scratch = folder.parent().expect("it is there").display().to_string();
    processes::mentioning(&scratch).iter().any(|other| other.pid == seen.pid)
}

#[test]
fn files_arrive_whole_though_the_master_is_killed_under_them() {
    let builder = "pools: {here: {local: {}}}\nbuilders:\n  large:\n    steps:\n      - {name: make, run: 'head -c 120000000 /dev/urandom > big; sha256sum < big'}\n      \
                   - {name: keep, upload: {paths: big, as: big}}\n      - {name: fetch, download: {artifact: big, to: back}}\n      \
                   - {name: look, run: 'sha256sum < back/big'}\n";
    let mut bench = Bench::new(builder);
    let request = bench.start("large");
    let begun = |name: &'static str| move |build: &Build| build.has_step(name);
    bench.running(request, "the upload to begin", begun("keep"));
    bench.master.kill9();
    bench.master.run();
    bench.running(request, "the download to begin", begun("fetch"));
    bench.master.kill9();
    bench.master.run();
    let build = bench.ended(request);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1);
    assert_eq!(build.text("make"), build.text("look"));
    let artifacts = build.detail["artifacts"].as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(artifacts.len(), 1, "{artifacts:#?}");
    assert_eq!(artifacts[0]["bytes"], Value::from(120_000_000));
}
