//! `rouse doctor`: well where all is well, and each fault that can be provoked is found, said, and has a way to mend it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::master::{ROUSE, once_free};
use crate::harness::{Database, Docker, Master, Options, Scratch, wait};

const LOCAL: &str =
    "version: 1\npools: {here: {local: {}}}\nbuilders: {unit: {steps: [{run: 'seq 1 5000'}]}}\n";

/// What is looked at, and by which binary.
struct Visit {
    binary: PathBuf,
    config: PathBuf,
    state: PathBuf,
    database: Option<String>,
    docker: String,
}

impl Visit {
    fn to(master: &Master) -> Self {
        Self {
            binary: ROUSE.into(),
            config: master.config_file(),
            state: master.state(),
            database: None,
            docker: "unix:///nonexistent/docker.sock".into(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["doctor", "--config"]).arg(&self.config).arg("--state").arg(&self.state);
        command.env("DOCKER_HOST", &self.docker).env_remove("ROUSE_SERVER").env_remove("ROUSE_TOKEN");
        if let Some(url) = &self.database {
            command.args(["--database", url]);
        }
        command
    }

    /// All findings; whether it says that all is well, which its exit code must say too.
    fn findings(&self) -> (bool, Vec<Value>) {
        let output = once_free(|| self.command().args(["-o", "json"]).output()).expect("the binary starts");
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&output.stderr)));
        let well = said["ok"].as_bool().expect("a verdict");
        assert_eq!(output.status.code(), Some(if well { 0 } else { 1 }), "{said:#}");
        (well, said["checks"].as_array().expect("a list").clone())
    }

    /// One finding is bad, with these words and a way to mend it.
    fn fails(&self, check: &str, words: &str) {
        let (well, all) = self.findings();
        let found = all.iter().any(|one| {
            one["check"] == check
                && one["status"] == "fail"
                && one["found"].as_str().is_some_and(|found| found.contains(words))
                && one["mend"].as_str().is_some_and(|mend| !mend.is_empty())
        });
        assert!(found && !well, "no bad `{check}` with `{words}`: {all:#?}");
    }

    fn is(&self, check: &str, status: &str, words: &str) {
        let (_, all) = self.findings();
        let found = all.iter().any(|one| {
            one["check"] == check
                && one["status"] == status
                && one["found"].as_str().is_some_and(|found| found.contains(words))
        });
        assert!(found, "no `{check}` that is {status} with `{words}`: {all:#?}");
    }
}

fn a_build(master: &Master) {
    let api = master.api();
    let made = api.post("/builders/unit/build", &serde_json::json!({}));
    let request = made["requests"][0]["id"].as_i64().expect("a request");
    assert_eq!(api.until_built(request)["result"], "success");
}

#[test]
fn a_master_that_is_well_is_found_well_while_it_runs_and_after() {
    let scratch = Scratch::new();
    let docker = Docker::of_this_run();
    let more = if docker.is_some() { "providers: {d: {docker: {}}}\n" } else { "" };
    let pools = "pools: {here: {local: {}}, far: {docker: {on: d, image: busybox}}}";
    let config =
        if docker.is_some() { LOCAL.replace("pools: {here: {local: {}}}", pools) } else { LOCAL.to_owned() };
    let options = Options { docker: docker.clone(), ..Options::default() };
    let mut master = Master::start(scratch.path(), &format!("{config}{more}"), options);
    a_build(&master);
    let mut visit = Visit::to(&master);
    if let Some(docker) = &docker {
        visit.docker = docker.host().to_owned();
    }
    let (well, all) = visit.findings();
    // How full the disk of this machine is, is not ours to say.
    let fine = |one: &Value| one["status"] == "ok" || one["check"] == "disk";
    assert!(well && all.iter().all(fine), "{all:#?}");
    visit.is("way back from local", "ok", "a worker was started and called home");
    visit.is("master", "ok", "answers at");
    visit.is("objects", "ok", "all are there");
    if docker.is_some() {
        visit.is("provider d", "ok", "answers");
        visit.is("way back from d", "ok", "can be reached");
    }
    let output = visit.command().output().expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("ok    config: "), "{text}");
    master.leftovers().assert_no_workers(wait::A_BUILD, master.pid());
    master.stop();
    visit.is("master", "skip", "none runs");
    visit.is("way back from local", "ok", "a worker was started and called home");
    assert!(visit.findings().0);
    // One that has the folder and does not answer.
    master.run();
    master.signal(nix::sys::signal::Signal::SIGSTOP);
    let (well, all) = visit.findings();
    master.signal(nix::sys::signal::Signal::SIGCONT);
    let found = all.iter().find(|one| one["check"] == "master").expect("it is looked at");
    assert!(!well && found["status"] == "fail", "{found:#}");
}

#[test]
fn what_is_wrong_is_found_with_the_way_to_mend_it() {
    let scratch = Scratch::new();
    let mut master = Master::start(scratch.path(), LOCAL, Options::default());
    a_build(&master);
    master.stop();
    let visit = Visit::to(&master);
    assert!(visit.findings().0);

    let other = |name: &str, text: &str| {
        let config = scratch.path().join(name);
        std::fs::write(&config, text).expect("written");
        Visit { config, ..Visit::to(&master) }
    };
    other("faulty.yaml", "version: 1\npols: {}\n").fails("config", "pols");
    Visit { config: scratch.path().join("nowhere.yaml"), ..Visit::to(&master) }
        .fails("config", "does not exist");
    other("docker.yaml", "version: 1\nproviders: {d: {docker: {}}}\n").fails("provider d", "docker");
    Visit { database: Some("postgres://ci:pa55@127.0.0.1:1/ci".into()), ..Visit::to(&master) }
        .fails("database", "read the database");

    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode can be set");
    };
    mode(&visit.state, 0o777);
    visit.fails("state", "can be written by others (mode 777)");
    mode(&visit.state, 0o755);
    visit.is("state", "warn", "can be listed by others");
    mode(&visit.state, 0o711);
    let key = visit.state.join("installation.key");
    mode(&key, 0o644);
    visit.fails("key", "can be read by others");
    mode(&key, 0o600);
    std::fs::create_dir(visit.state.join("restoring")).expect("made");
    visit.fails("restore", "not restored to its end");
    std::fs::remove_dir(visit.state.join("restoring")).expect("removed");

    agents(&scratch, &master);

    let object = an_object(&visit.state.join("objects")).expect("a log has one");
    let kept = std::fs::read(&object).expect("it can be read");
    std::fs::remove_file(&object).expect("removed");
    visit.fails("objects", "are not there");
    std::fs::write(&object, kept).expect("written");
    assert!(visit.findings().0, "all is mended");

    let file = visit.state.join("rouse.db");
    let mut bytes = std::fs::read(&file).expect("it can be read");
    let half = bytes.len() / 2;
    bytes[half..].fill(0x5a);
    std::fs::write(&file, bytes).expect("written");
    visit.fails("database", "not sound");
    std::fs::write(&file, "no database at all, but long enough to be looked at\n".repeat(40))
        .expect("written");
    visit.fails("database", "not sound");
}

/// None, one that ends at once, one that is no program.
fn agents(scratch: &Scratch, master: &Master) {
    let folder = scratch.folder("bin");
    let binary = folder.join("rouse");
    std::fs::copy(ROUSE, &binary).expect("the binary can be copied");
    let visit = Visit { binary, ..Visit::to(master) };
    visit.fails("agent", "there is no");
    let place = folder.join(format!("agents/{}-{}", std::env::consts::OS, std::env::consts::ARCH));
    std::fs::create_dir_all(&place).expect("made");
    let agent = place.join("rouse-agent");
    std::fs::write(&agent, "#!/bin/sh\necho rouse-agent 0.0.1; exit 3\n").expect("written");
    visit.fails("agent", "cannot be executed");
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    visit.fails("agent", "ended with");
    visit.fails("way back from local", "a worker ");
}

fn an_object(folder: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let found = if path.is_dir() { an_object(&path) } else { Some(path) };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A file system of its own, taken away when it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, options: &str) -> Self {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
        assert!(done.expect("mount is there").success());
        Self(at.to_path_buf())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_disk_without_room_is_found_and_one_that_cannot_be_written() {
    if !nix::unistd::geteuid().is_root() {
        return rouse_testkit::back_ends::skip("needs root, to mount a small disk");
    }
    let scratch = Scratch::new();
    let config = scratch.path().join("rouse.yaml");
    std::fs::write(&config, "version: 1\n").expect("written");
    let state = scratch.folder("small");
    let visit =
        Visit { binary: ROUSE.into(), config, state: state.clone(), database: None, docker: String::new() };
    {
        let _mount = Mount::tmpfs(&state, "size=32m,mode=711");
        visit.fails("disk", "MiB of 32 MiB are free");
    }
    let _mount = Mount::tmpfs(&state, "size=200m,mode=711,ro");
    visit.is("disk", "ok", "MiB of 200 MiB are free");
    visit.fails("state", "cannot be written");
}

#[test]
fn a_clock_that_went_back_is_found() {
    let Some(database) = Database::fresh_postgres() else { return };
    let scratch = Scratch::new();
    let options = Options { database: database.clone(), ..Options::default() };
    let mut master = Master::start(scratch.path(), LOCAL, options);
    master.stop();
    let visit = Visit { database: database.url(), ..Visit::to(&master) };
    visit.is("clock", "ok", "as the database's");
    visit.is("database", "ok", "PostgreSQL");
    let Database::Postgres(fresh) = &database else { unreachable!("it was made there") };
    fresh.query("UPDATE events SET at = at + 7200000000");
    visit.fails("clock", "in the future");
}
