//! The first minute: what the demo shows, keeps and leaves, and that it can be interrupted at any moment.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rouse_testkit::back_ends;
use serde_json::Value;

use crate::harness::master::ROUSE;
use crate::harness::{Docker, Leftovers, Scratch, processes, wait};

const NO_DOCKER: &str = "unix:///nonexistent/docker.sock";

fn demo(folder: &Path, docker_host: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(ROUSE);
    command.args(["demo", "--port", "0"]).args(flags).current_dir(folder).env("DOCKER_HOST", docker_host);
    command.stdin(Stdio::null());
    command
}

fn assert_demo(docker_host: &str, provider: &str, left: &Leftovers) {
    let scratch = Scratch::new();
    let output =
        demo(scratch.path(), docker_host, &["--once", "-o", "json"]).output().expect("the binary starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the demo ended with {}:\n{told}", output.status);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let expected = serde_json::json!({
        "green": 1, "red": 1, "provider": provider, "seconds_to_green": summary["seconds_to_green"], "left_over": 0,
    });
    assert_eq!(summary, expected);
    assert!(summary["seconds_to_green"].as_f64().is_some_and(|s| s < 60.0), "{summary}");
    let there = std::fs::read_dir(scratch.path()).map_or(0, Iterator::count);
    assert_eq!(there, 0, "the demo's folder is still there");
    left.assert_none(wait::SOON);
}

#[test]
fn it_runs_without_a_docker_daemon() {
    let scratch = Scratch::new();
    let left = Leftovers::watch(scratch.path(), None);
    assert_demo(NO_DOCKER, "local", &left);
}

#[test]
fn it_runs_with_a_docker_daemon() {
    let Some(host) = back_ends::docker_host() else { return };
    let scratch = Scratch::new();
    let docker = Docker::of_this_run();
    let left = Leftovers::watch(scratch.path(), docker.as_ref());
    assert_demo(&host, "docker", &left);
}

/// What a person reads, in its order; colours only where a terminal asks for them.
#[test]
fn it_tells_the_story_and_keeps_a_project_that_a_master_goes_on_with() {
    let scratch = Scratch::new();
    let flags = ["--once", "--keep", "--dir", "kept"];
    let output = demo(scratch.path(), NO_DOCKER, &flags)
        .env("CLICOLOR_FORCE", "1")
        .output()
        .expect("the binary starts");
    let told = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{told}");
    let green = "\u{1b}[32m✓\u{1b}[0m";
    let mut rest = told.as_str();
    for expected in [
        "project      ./kept/project (a git repository, 3 files)",
        "master       http://127.0.0.1:",
        "provider     local (no Docker daemon answers: Socket not found: /nonexistent/docker.sock)",
        "→ pushed       ",
        "\"count words\"",
        "noticed      ",
        "request 1    builder `test`, waiting: no worker yet, launching one",
        "worker demo-",
        "did not exist ",
        "checkout   ",
        "\u{1b}[32mok 14 of 14\u{1b}[0m",
        "test       ok",
        "build 1      \u{1b}[32msuccess\u{1b}[0m      queued ",
        "provisioning ",
        "worker demo-",
        "gone: ",
        "\"break counting\"",
        "request 2    builder `test`",
        "✗ build 2      failure in `test`: exit 1: words_test.sh:19: expected 0, got 1",
        "rouse logs 2 --failed",
        "gone: ",
    ] {
        let at = rest
            .find(expected)
            .unwrap_or_else(|| panic!("no `{expected}` in what follows:\n{rest}\nof\n{told}"));
        rest = &rest[at + expected.len()..];
    }
    assert!(told.lines().next().is_some_and(|line| line.trim_start().starts_with(green)), "{told}");
    goes_on(&scratch.path().join("kept"));
}

/// As its own comment says it: a master on the kept folder builds what is pushed to the kept project.
fn goes_on(kept: &Path) {
    let config = std::fs::read_to_string(kept.join("rouse.yaml")).expect("the kept config");
    assert!(
        config.contains(
            "# Start a master on it, in this folder: rouse serve --config rouse.yaml --state state"
        ),
        "{config}"
    );
    let left = Leftovers::watch(kept, None);
    let mut master = Command::new(ROUSE)
        .args(["serve", "--config", "rouse.yaml", "--state", "state", "--listen", "127.0.0.1:0"])
        .current_dir(kept)
        .env("DOCKER_HOST", NO_DOCKER)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let (send, heard) = std::sync::mpsc::channel();
    let stderr = master.stderr.take().expect("piped");
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
            if let Some(address) = address {
                let _ = send.send(address.to_owned());
            }
        }
    });
    let address = heard.recv_timeout(wait::SOON).expect("the master says where it listens");
    let token = wait::until("the first token", wait::SOON, || {
        std::fs::read_to_string(kept.join("state/admin.token")).ok()
    });
    let api = crate::harness::api::Api::new(&format!("http://{address}"), token.trim());
    api.until("the first look", "/codebases", wait::SOON, |c| c["items"][0]["looked"].as_str().map(drop));
    let clone = kept.join("clone");
    let git = |folder: &Path, arguments: &[&str]| {
        let output = Command::new("git").current_dir(folder).args(arguments).output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(kept, &["clone", "--quiet", "project", "clone"]);
    std::fs::write(clone.join("more"), "more\n").expect("written");
    git(&clone, &["add", "more"]);
    git(&clone, &["-c", "user.name=A", "-c", "user.email=a@localhost", "commit", "--quiet", "-m", "go on"]);
    git(&clone, &["push", "--quiet", "origin", "main"]);
    assert!(kept.join("project/more").exists(), "the project shows what was pushed to it");
    let build = api.until("a build of what was pushed", "/builds", wait::A_BUILD, |builds| {
        builds["items"].get(0).filter(|b| !b["result"].is_null()).cloned()
    });
    assert_eq!(build["builder"], "test", "{build:#}");
    assert_eq!(build["result"], "failure", "{build:#}");
    left.assert_no_workers(wait::SOON, master.id() as i32);
    nix::sys::signal::kill(Pid::from_raw(master.id() as i32), Signal::SIGTERM).expect("it is ours");
    master.wait().expect("it ends");
    left.assert_none(wait::SOON);
}

/// When to interrupt: so many lines have been told, and so many milliseconds more.
#[derive(Clone, Copy)]
struct Instant(usize, u64);

const WITH_DOCKER: [Instant; 14] = [
    Instant(0, 0),
    Instant(0, 60),
    Instant(1, 0),
    Instant(1, 120),
    Instant(2, 0),
    Instant(4, 0),
    Instant(6, 0),
    Instant(6, 100),
    Instant(6, 350),
    Instant(6, 700),
    Instant(8, 0),
    Instant(14, 0),
    Instant(26, 60),
    Instant(27, 200),
];
const WITHOUT: [Instant; 6] =
    [Instant(0, 20), Instant(3, 0), Instant(6, 0), Instant(6, 30), Instant(12, 0), Instant(25, 0)];

#[test]
fn interrupted_at_any_moment_it_leaves_nothing() {
    let Some(host) = back_ends::docker_host() else { return };
    let docker = Docker::of_this_run().expect("it is there");
    // Another installation's worker stays, whatever the demos do.
    let stranger = docker.busybox(&["LABEL rouse.installation=somebody-else"]);
    let name = crate::harness::scratch::unique("stranger");
    docker.run(&[
        "run",
        "--detach",
        "--name",
        &name,
        "--label",
        "rouse.pool=demo",
        "--network",
        "none",
        stranger.name(),
        "/bin/sleep",
        "600",
    ]);
    let images = docker_images(&docker);
    let mut instants: Vec<(&str, Instant)> = WITH_DOCKER.iter().map(|at| (host.as_str(), *at)).collect();
    instants.extend(WITHOUT.iter().map(|at| (NO_DOCKER, *at)));
    let queue = Mutex::new(instants);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((host, at)) = queue.lock().expect("whole").pop() else { return };
                    interrupted(&docker, host, at);
                }
            });
        }
    });
    let new: Vec<String> = docker_images(&docker).difference(&images).cloned().collect();
    wait::until_true(&format!("the demos' images to go: {new:?}"), wait::A_BUILD, || {
        let now = docker_images(&docker);
        !new.iter().any(|image| now.contains(image))
    });
    let running = docker.run(&["container", "inspect", "--format", "{{.State.Running}}", &name]);
    docker.run(&["rm", "--force", &name]);
    assert_eq!(running.trim(), "true", "a demo has ended what is somebody else's");
}

fn docker_images(docker: &Docker) -> BTreeSet<String> {
    let all = docker.run(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    all.lines().filter(|name| name.starts_with("rouse-demo:")).map(str::to_owned).collect()
}

fn interrupted(docker: &Docker, host: &str, at: Instant) {
    let scratch = Scratch::new();
    let mut left = Leftovers::watch(scratch.path(), Some(docker));
    left.files_below(scratch.path());
    let mut child = demo(scratch.path(), host, &["--once"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut told = Vec::new();
    while told.len() < at.0 {
        match lines.next() {
            Some(line) => told.push(line.expect("text")),
            None => panic!("it ended after {told:?}: {:?}", child.wait_with_output()),
        }
    }
    // A moment of the demo's own that nothing tells of.
    std::thread::sleep(Duration::from_millis(at.1));
    let installation = installation_in(&scratch.path().join("rouse-demo/state"));
    assert!(installation.is_some() || at.0 < 2, "no installation in the demo's database after {told:?}");
    // As a terminal does it: the whole group gets it.
    killpg(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it is ours");
    told.extend(lines.map_while(Result::ok));
    let output = end_of(child);
    let what = format!("line {} and {} ms, {host}: {told:#?} {output:?}", at.0, at.1);
    // Before it could hear anything it does as any program: it goes on where a shell has started all this with `&`.
    if at.0 == 0 && output.status.code() == Some(0) && processes::ignores_interrupts() {
        return;
    }
    assert!(output.status.code() == Some(130) || (at.0 == 0 && output.status.code().is_none()), "{what}");
    if let Some(id) = installation {
        left.mark(&id);
    }
    if output.status.code().is_none() {
        let _ = std::fs::remove_dir(scratch.path().join("rouse-demo"));
    }
    let quiet = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| left.assert_none(wait::SOON)));
    assert!(quiet.is_ok(), "left over after {what}");
    assert!(!scratch.path().join("rouse-demo").exists(), "the folder is there after {what}");
}

fn end_of(child: Child) -> std::process::Output {
    child.wait_with_output().expect("it ends")
}

/// The installation's id as its database has it: read as bytes, since the demo is at work on it.
fn installation_in(state: &Path) -> Option<String> {
    const KEY: &[u8] = b"installation";
    let files = std::fs::read_dir(state).ok()?.flatten().map(|entry| entry.path());
    let of_database = files.filter(|file| file.to_string_lossy().contains("rouse.db"));
    let bytes: Vec<u8> = of_database.flat_map(|file| std::fs::read(file).unwrap_or_default()).collect();
    bytes.windows(KEY.len() + 32).filter(|found| found.starts_with(KEY)).find_map(|found| {
        let id = std::str::from_utf8(&found[KEY.len()..]).ok()?;
        id.bytes().all(|b| b.is_ascii_hexdigit()).then(|| id.to_owned())
    })
}
