//! Machines that somebody else starts: they come by themselves, run workers as any provider does, and stop when they are told to.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::builds::explained;
use crate::harness::master::ROUSE;
use crate::harness::{Bench, Options, Scratch, wait};

/// A process of `rouse host`, ended with the test.
struct Machine {
    child: Child,
    log: PathBuf,
}

impl Machine {
    /// With the folder beside the file.
    fn start(enrolment: &Path) -> Self {
        Self::start_with(enrolment, &[])
    }

    fn start_with(enrolment: &Path, flags: &[&str]) -> Self {
        let log = enrolment.with_extension("log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let child = Command::new(ROUSE)
            .arg("host")
            .arg(enrolment)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("rouse runs");
        Self { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn kill9(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }

    /// As a service is stopped.
    fn stop(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("it runs");
        assert!(self.child.wait().expect("it is ours").success(), "{}", self.said());
    }

    /// How often it was let in.
    fn came(&self) -> usize {
        self.said().matches("serves").count()
    }

    fn ends_since(&mut self, why: &str) {
        wait::until_true("the machine to end", wait::A_BUILD, || {
            self.child.try_wait().expect("it is ours").is_some()
        });
        assert!(self.said().contains(why), "{}", self.said());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A master with an account of enrolled machines, whose builds end once a file is there.
fn bench() -> Bench {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let agents = listener.local_addr().expect("a port has an address").to_string();
    drop(listener);
    let waits = |gate: &str| {
        let gate = scratch.path().join(gate);
        format!(
            "cat $HOME/../link/join.json 2>/dev/null && echo the token is there; until [ -e {} ]; do sleep 0.05; done; echo $SHAPE",
            gate.display()
        )
    };
    let config = format!(
        "server: {{agents: {{advertise: {{board: '{agents}'}}}}}}\nproviders: {{rack: {{enrolled: {{workers: 1}}}}}}\n\
         pools: {{board: {{enrolled: {{on: rack, env: {{SHAPE: round}}}}, max: 4}}}}\nbuilders:\n  \
         first: {{steps: [{{name: says, run: '{}'}}]}}\n  second: {{steps: [{{name: says, run: '{}'}}]}}\n",
        waits("one"),
        waits("two")
    );
    let options = Options { flags: vec!["--agents-listen".into(), agents], ..Options::default() };
    Bench::within(scratch, &config, options)
}

/// As the page says it, into a folder of the machine's own.
fn enroll(bench: &Bench, name: &str, folder: &str) -> PathBuf {
    let folder = bench.scratch.path().join(folder);
    std::fs::create_dir(&folder).expect("a folder of the machine's own");
    let file = folder.join(format!("{name}.json"));
    bench.cli(&["worker", "enroll", name, "--on", "rack", "--to", &file.to_string_lossy()]);
    file
}

/// A bench with a machine that is connected, and the file that it came with.
fn with_machine() -> (Bench, PathBuf, Machine) {
    let bench = bench();
    let file = enroll(&bench, "a", "a");
    let machine = Machine::start(&file);
    until_connected(&bench, "a");
    (bench, file, machine)
}

fn until_connected(bench: &Bench, name: &str) {
    until(bench, name, true);
}

fn until(bench: &Bench, name: &str, connected: bool) {
    bench.api.until("the machine to come or go", "/machines", wait::SOON, |machines| {
        let found = machines["items"].as_array()?.iter().find(|m| m["name"] == name)?;
        (found["connected"] == connected).then_some(())
    });
}

fn worker_of(bench: &Bench, request: i64) -> Value {
    let build = bench.running(request, "the step to run", |build| !build.steps().is_empty());
    bench.api.get(&format!("/workers/{}", build.detail["worker"]["id"]))
}

fn until_gone(bench: &Bench, worker: &Value) -> Value {
    let path = format!("/workers/{}", worker["id"]);
    bench.api.until("the worker to go", &path, wait::A_BUILD, |w| (w["phase"] == "gone").then(|| w.clone()))
}

/// The build that began, on its worker and at its first attempt, and then the one that waited for the room.
fn both_end_well(bench: &Bench, first: i64, second: i64, worker: &Value) {
    bench.scratch.file("one", "");
    let build = bench.ended(first);
    build.must_be("success");
    assert_eq!((build.text("says"), build.detail["attempt"].as_i64()), ("round\n".into(), Some(1)));
    assert_eq!(build.detail["worker"]["id"], worker["id"]);
    until_gone(bench, worker);
    bench.scratch.file("two", "");
    bench.ended(second).must_be("success");
}

/// Once every worker is gone and the machine is stopped, nothing is left of them but the master.
fn nothing_is_left(bench: &Bench, machine: Option<&mut Machine>) {
    bench.api.until("all workers to go", "/workers", wait::A_BUILD, |workers| {
        workers["items"].as_array()?.iter().all(|w| w["phase"] == "gone").then_some(())
    });
    if let Some(machine) = machine {
        machine.stop();
    }
    bench.master.leftovers().assert_no_workers(wait::A_BUILD, bench.master.pid());
}

#[test]
fn a_machine_that_comes_by_itself_runs_workers_and_finds_them_again() {
    let bench = bench();
    let file = enroll(&bench, "a", "a");
    // Nobody is there yet, and it is said.
    let request = bench.start("first");
    let why = explained(&bench.api, request, "the machine that is away", |e| {
        let why = e["primary"]["sentence"].as_str()?.to_owned();
        (e["primary"]["code"] == "offering_backing_off").then_some(why)
    });
    assert!(why.contains("none of its machines is connected"), "{why}");
    let mut machine = Machine::start(&file);
    until_connected(&bench, "a");
    let worker = worker_of(&bench, request);
    assert!(worker["provider_ref"].as_str().is_some_and(|at| at.starts_with("a/")), "{worker:#}");
    // One worker fits on it: the next one waits.
    let second = bench.start("second");
    let why = explained(&bench.api, second, "the machine that is full", |e| {
        e["primary"]["sentence"].as_str().filter(|why| why.contains("run 1 each")).map(str::to_owned)
    });
    assert!(why.contains("rack"), "{why}");
    // What it runs outlives it, and is found again.
    machine.kill9();
    let mut machine = Machine::start(&file);
    wait::until_true("the next process to be let in", wait::SOON, || machine.came() == 2);
    both_end_well(&bench, request, second, &worker);
    nothing_is_left(&bench, Some(&mut machine));
}

#[test]
fn a_build_on_a_machine_outlives_its_master() {
    let (mut bench, _, mut machine) = with_machine();
    let request = bench.start("first");
    let worker = worker_of(&bench, request);
    bench.master.kill9();
    bench.master.run();
    bench.api = bench.master.api();
    until_connected(&bench, "a");
    assert_eq!(machine.came(), 2, "the same process again: {}", machine.said());
    // It is known what is there already.
    let second = bench.start("second");
    explained(&bench.api, second, "the machine that is full", |e| {
        e["primary"]["sentence"].as_str()?.contains("run 1 each").then_some(())
    });
    both_end_well(&bench, request, second, &worker);
    nothing_is_left(&bench, Some(&mut machine));
}

#[test]
fn a_second_machine_with_one_key_is_refused_and_one_that_is_revoked_ends_its_workers() {
    let (bench, file, mut machine) = with_machine();
    let request = bench.start("first");
    let worker = worker_of(&bench, request);
    let stolen = bench.scratch.path().join("stolen.json");
    std::fs::copy(&file, &stolen).expect("a copy");
    let folder = bench.scratch.path().join("elsewhere");
    let copy = Machine::start_with(&stolen, &["--folder", &folder.to_string_lossy()]);
    let events = "/events/list?subject=machine/rack/a&kind=machine";
    bench.api.until("the copy to be refused", events, wait::SOON, |events| {
        events["items"].to_string().contains("and this is another one").then_some(())
    });
    drop(copy);
    assert_eq!(bench.api.get(&format!("/workers/{}", worker["id"]))["state"], "busy");
    bench.cli(&["request", "cancel", &request.to_string()]);
    bench.cli(&["worker", "revoke", "a", "--on", "rack"]);
    let list = bench.cli(&["worker", "machines"]);
    assert!(list.contains("revoked"), "{list}");
    // Its name is given again while it is there: with another key, which is not its own.
    let new = enroll(&bench, "a", "new");
    until_gone(&bench, &worker);
    machine.ends_since("this machine was revoked");
    let mut again = Machine::start(&file);
    again.ends_since("no such machine is enrolled here with this key");
    let mut machine = Machine::start(&new);
    until_connected(&bench, "a");
    bench.scratch.file("two", "");
    bench.run("second").must_be("success");
    nothing_is_left(&bench, Some(&mut machine));
    assert_eq!(bench.api.list("/machines").len(), 1);
}

#[test]
fn a_machine_that_was_revoked_while_it_was_away_comes_once_more_to_say_that_its_workers_are_gone() {
    let (bench, file, mut machine) = with_machine();
    let request = bench.start("first");
    let worker = worker_of(&bench, request);
    machine.kill9();
    until(&bench, "a", false);
    bench.cli(&["request", "cancel", &request.to_string()]);
    bench.cli(&["worker", "revoke", "a", "--on", "rack"]);
    let mut machine = Machine::start(&file);
    until_gone(&bench, &worker);
    machine.ends_since("this machine was revoked");
    assert_eq!(machine.came(), 2, "{}", machine.said());
    nothing_is_left(&bench, None);
}
