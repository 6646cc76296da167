//! The command line as scripts use it: exit codes, formats, aliases, and data alone on stdout.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::master::ROUSE;
use crate::harness::story::id;
use crate::harness::{Master, Options, Scratch, wait};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn master(scratch: &Scratch) -> Master {
    let gate = scratch.path().join("gate");
    let config = format!(
        "version: 1\npools: {{here: {{local: {{}}, max: 3, reuse: {{builds: 50, idle: 1h}}}}}}\nbuilders:\n  \
         good: {{steps: [{{run: echo well}}]}}\n  bad: {{steps: [{{run: 'echo before; echo wrong >&2; exit 3'}}]}}\n  \
         slow: {{steps: [{{run: 'while [ ! -e {} ]; do sleep 0.1; done'}}]}}\nschedulers:\n  hand: {{force: {{}}, builders: [good, bad]}}\n",
        gate.display()
    );
    Master::start(scratch.path(), &config, Options::default())
}

#[test]
fn exit_codes_say_what_became_of_it_and_only_data_is_on_stdout() {
    let scratch = Scratch::new();
    let master = master(&scratch);
    let api = master.api();
    let run = |arguments: &[&str], code: i32| {
        let output = master.cli(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        output
    };
    let good = json(&run(&["build", "start", "good", "--wait", "-o", "json"], 0));
    let bad = json(&run(&["build", "start", "bad", "--wait", "-o", "json"], 10));
    run(&["force", "hand", "--wait"], 10);
    let late = json(&run(&["build", "start", "slow", "--wait", "--timeout", "1", "-o", "json"], 13));
    let slow = id(&late["requests"][0], "id");
    let slow_build = api
        .until("a build", &format!("/requests/{slow}"), wait::A_BUILD, |r| r["build"].as_i64())
        .to_string();
    run(&["build", "watch", &slow_build, "--timeout", "1"], 13);

    // Ctrl-C detaches: it says how to come back, and cancels nothing.
    let mut watch = Command::new(ROUSE);
    let token = std::fs::read_to_string(master.state().join("admin.token")).unwrap();
    watch
        .args(["logs", &slow_build, "-f"])
        .env("ROUSE_SERVER", master.address())
        .env("ROUSE_TOKEN", token.trim());
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut heading = String::new();
    BufReader::new(watch.stdout.as_mut().unwrap()).read_line(&mut heading).unwrap();
    assert!(heading.starts_with("── "), "{heading}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(watch.id() as i32), nix::sys::signal::Signal::SIGINT)
        .unwrap();
    let detached = watch.wait_with_output().unwrap();
    assert_eq!(detached.status.code(), Some(130), "{detached:?}");
    assert!(text(&detached.stderr).contains(&format!("rouse logs {slow_build} -f")), "{detached:?}");
    assert!(api.get(&format!("/builds/{slow_build}"))["result"].is_null());

    run(&["cancel", &slow_build, "-r", "enough"], 0);
    run(&["build", "watch", &slow_build], 11);
    let cancelled = api.until_built(slow);
    assert!(cancelled["summary"].as_str().unwrap().contains("enough"), "{cancelled:#}");

    let worker = api.list("/workers")[0]["name"].as_str().unwrap().to_string();
    for (arguments, code, said, help) in [
        (&["build", "show", "99999"][..], 3, "there is no build 99999", ""),
        (&["explain", "99999"], 3, "there is no request 99999", ""),
        (&["force", "hnd"], 3, "there is no scheduler `hnd`", ""),
        (&["worker", "show", "nobody-1"], 3, "there is no worker", ""),
        (&["worker", "kill", &worker], 5, "nobody can be asked", "--yes"),
        (&["build", "shwo"], 64, "shwo", "show"),
        (&["build", "list", "--limit", "many"], 64, "many", ""),
        (&["build", "list", "--result", "odd"], 64, "odd", "success"),
        (&[], 64, "Usage", ""),
    ] {
        let output = run(arguments, code);
        let told = text(&output.stderr);
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        assert!(told.contains(said) && told.contains(help), "{arguments:?}: {told}");
    }
    let elsewhere = |name: &str, value: &str| {
        let mut command = Command::new(ROUSE);
        command
            .args(["build", "list"])
            .env("ROUSE_SERVER", master.address())
            .env("ROUSE_TOKEN", token.trim());
        command.env(name, value).output().unwrap()
    };
    let nobody = elsewhere("ROUSE_SERVER", "http://127.0.0.1:1");
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(1), 0), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("no master answers at http://127.0.0.1:1"), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("rouse serve"), "{nobody:?}");
    let stranger = elsewhere("ROUSE_TOKEN", "wrong");
    assert_eq!((stranger.status.code(), stranger.stdout.len()), (Some(4), 0), "{stranger:?}");

    // The daily five, and the three formats of the same objects.
    let bad_build = id(&api.until_built(id(&bad["requests"][0], "id")), "id").to_string();
    let logs = run(&["logs", &bad_build, "--failed"], 0);
    assert!(text(&logs.stdout).contains("wrong"), "{logs:?}");
    let good_request = id(&good["requests"][0], "id").to_string();
    assert!(text(&run(&["explain", &good_request], 0).stdout).contains("done: success"));
    let again = json(&run(&["retry", &bad_build, "--wait", "-o", "json"], 10));
    assert_ne!(again["buildset"], bad["buildset"]);
    let table = text(&run(&["build", "show", &bad_build], 0).stdout);
    assert!(table.contains("failure") && !table.contains('\u{1b}'), "no colours where nobody looks: {table}");
    let as_json = json(&run(&["build", "show", &bad_build, "-o", "json"], 0));
    assert_eq!(as_json, api.get(&format!("/builds/{bad_build}")));
    let as_yaml = text(&run(&["build", "show", &bad_build, "-o", "yaml"], 0).stdout);
    assert!(as_yaml.lines().any(|line| line == format!("id: {bad_build}")), "{as_yaml}");
    for key in as_json.as_object().unwrap().keys() {
        assert!(as_yaml.lines().any(|line| line.starts_with(&format!("{key}:"))), "no {key}: {as_yaml}");
    }
    let listed = json(&run(&["build", "list", "-o", "json"], 0));
    assert!(listed.as_array().is_some_and(|all| all.len() >= 5), "{listed:#}");
    let ids = text(&run(&["build", "list", "-q"], 0).stdout);
    assert!(ids.lines().all(|line| line.parse::<i64>().is_ok()) && ids.lines().any(|line| line == bad_build));
    for noun in [
        "build",
        "request",
        "worker",
        "pool",
        "builder",
        "change",
        "scheduler",
        "codebase",
        "project",
        "token",
    ] {
        assert!(json(&run(&[noun, "list", "-o", "json"], 0)).is_array(), "{noun}");
        assert!(run(&[noun, "list"], 0).stdout.is_ascii() || noun != "token");
    }
}

#[test]
fn a_master_listens_on_loopback_and_its_first_token_lies_in_a_private_file_alone() {
    let scratch = Scratch::new();
    let mut master = master(&scratch);
    let file = master.state().join("admin.token");
    let token = std::fs::read_to_string(&file).unwrap().trim().to_string();
    assert!(token.len() >= 32, "a token of {} characters", token.len());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    master.restart();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), token, "the first token stays");
    master.api().post("/builders/good/build", &json!({}));
    assert!(!master.log().contains(&token), "the token is in the log");
    // Nor in what the master hands to its children, nor on any command line.
    assert_eq!(crate::harness::processes::mentioning(&token), [], "somebody was told the token");
    // Without a token nothing is told, but whether it is alive.
    let stranger = master.api().with_token("");
    assert_eq!(stranger.try_get("/builds").unwrap_err().status, 401);
    assert!(stranger.try_get("/livez").is_ok() && stranger.try_get("/readyz").is_ok());
    let help = text(&Command::new(ROUSE).args(["serve", "--help"]).output().unwrap().stdout);
    assert!(help.contains("127.0.0.1:8010"), "{help}");
}
