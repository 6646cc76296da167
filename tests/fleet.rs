//! The fleet where its surroundings misbehave: daemons that are away, silent or forgetful; and how many workers there are.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::builds::{explained, run_green, start};
use crate::harness::{Docker, Master, Options, Scratch, wait};

fn options(docker: &Docker) -> Options {
    Options { docker: Some(docker.clone()), ..Options::default() }
}

/// A socket before a daemon's, which can be taken away.
struct Door {
    path: PathBuf,
    daemon: PathBuf,
    open: Option<Arc<Open>>,
}

struct Open {
    stop: AtomicBool,
    through: Mutex<Vec<UnixStream>>,
}

impl Door {
    fn before(docker: &Docker, path: PathBuf) -> Self {
        let daemon = docker.host().strip_prefix("unix://").expect("the test's daemon has a socket").into();
        Self { path, daemon, open: None }
    }

    fn open(&mut self) {
        let listener = UnixListener::bind(&self.path).expect("a socket");
        let open = Arc::new(Open { stop: AtomicBool::new(false), through: Mutex::default() });
        self.open = Some(Arc::clone(&open));
        let daemon = self.daemon.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if open.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(daemon) = UnixStream::connect(&daemon) else { continue };
                let pairs =
                    [(&client, &daemon), (&daemon, &client)].map(|(a, b)| (a.try_clone(), b.try_clone()));
                for (from, to) in pairs {
                    let (from, to) = (from.expect("a handle"), to.expect("a handle"));
                    std::thread::spawn(move || pass_on(from, to));
                }
                open.through.lock().expect("whole").extend([client, daemon]);
            }
        });
    }

    /// Nobody comes in any more, and who is in is cut off.
    fn shut(&mut self) {
        let Some(open) = self.open.take() else { return };
        open.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
        std::fs::remove_file(&self.path).expect("the socket was there");
        for stream in open.through.lock().expect("whole").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shut();
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream) {
    let mut some = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut some) {
        if to.write_all(&some[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn a_daemon_that_is_away_is_waited_for() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    let mut door = Door::before(&docker, scratch.path().join("d.sock"));
    let config = format!(
        "version: 1\nproviders: {{far: {{docker: {{host: 'unix://{}'}}}}}}\n\
         pools: {{boxes: {{docker: {{on: far, image: '{}', pull: never, network: none, mounts: [{{source: '{}', target: /go}}]}}}}}}\n\
         builders:\n  waits: {{pool: boxes, steps: [{{run: 'touch /go/runs; until [ -e /go/on ]; do sleep 0.05; done'}}]}}\n  \
         quick: {{pool: boxes, steps: [{{run: 'echo done'}}]}}\n",
        door.path.display(),
        image.name(),
        go.display()
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    // Away at the start.
    let request = start(&api, "waits", json!({}));
    let said = explained(&api, request, "the daemon that is away", |e| {
        let why = e["primary"]["sentence"].as_str()?.to_owned();
        (e["primary"]["code"] == "launch_failed_backing_off").then_some(why)
    });
    assert!(said.contains("d.sock") && said.contains("the next try is in"), "{said}");
    door.open();
    wait::until_true("the step to run", wait::A_BUILD, || go.join("runs").exists());
    // Away while a build runs: it does not need the daemon.
    door.shut();
    std::fs::write(go.join("on"), "").expect("written");
    let build = api.until_built(request);
    assert_eq!((&build["result"], &build["attempt"]), (&json!("success"), &json!(1)), "{build:#}");
    // A worker that cannot be taken away is not said to be gone, and the next build waits.
    let worker = format!("/workers/{}", build["worker"]["id"]);
    let ending = |w: &Value| (w["phase"] == "terminating").then_some(());
    api.until("the worker's end to be wanted", &worker, wait::SOON, ending);
    let next = start(&api, "quick", json!({}));
    explained(&api, next, "the daemon that is away again", |e| {
        (e["primary"]["code"] == "launch_failed_backing_off").then_some(())
    });
    door.open();
    api.until("the first worker to go", &worker, wait::A_BUILD, |w| (w["phase"] == "gone").then_some(()));
    assert_eq!(api.until_built(next)["result"], "success");
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

/// Takes every connection, and never says a word.
fn deaf(path: &Path) {
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || {
        let mut held = Vec::new();
        held.extend(listener.incoming().map_while(Result::ok));
    });
}

#[test]
fn a_daemon_that_never_answers_holds_up_nobody_else() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let scratch = Scratch::new();
    let socket = scratch.path().join("deaf.sock");
    deaf(&socket);
    let config = format!(
        "version: 1\nproviders: {{deaf: {{docker: {{host: 'unix://{}'}}}}, sound: {{docker: {{host: '{}'}}}}}}\n\
         pools:\n  deaf: {{docker: {{on: deaf, image: any, network: none}}}}\n  sound: {{docker: {{on: sound, image: '{}', pull: never, network: none}}}}\n\
         builders:\n  deaf: {{pool: deaf, steps: [{{run: 'true'}}]}}\n  sound: {{pool: sound, steps: [{{run: 'echo sound'}}]}}\n",
        socket.display(),
        docker.host(),
        image.name()
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let lost = start(&api, "deaf", json!({}));
    explained(&api, lost, "the image that is asked for", |e| {
        (e["primary"]["code"] == "resolving_image").then_some(())
    });
    let before = std::time::Instant::now();
    let builds = (0..3).map(|_| run_green(&api, "sound", json!({}))).collect::<Vec<_>>();
    assert_eq!(builds, ["sound\n"; 3]);
    // All three while the question hangs: the provider itself gives up after 20 s, and then it is said.
    let took = before.elapsed();
    eprintln!("three builds beside a daemon that never answers: {took:?}");
    // What nobody has on record is reaped beside it, too.
    let stray = stray(&docker, &master, image.name());
    wait::until_true("the stray to be reaped", wait::A_BUILD, || {
        docker.try_run(&["container", "inspect", &stray]).is_err()
    });
    let said = explained(&api, lost, "what became of the question", |e| {
        let why = e["primary"]["sentence"].as_str()?.to_owned();
        (e["primary"]["code"] == "launch_failed_backing_off").then_some(why)
    });
    assert!(said.contains("does not answer"), "{said}");
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

/// A container as a worker of this installation would have it, of which nothing is on record.
fn stray(docker: &Docker, master: &Master, image: &str) -> String {
    let installation = master.api().get("/master")["installation"].as_str().expect("an id").to_owned();
    let name = crate::harness::scratch::unique("stray");
    let labels = [
        format!("rouse.installation={installation}"),
        "rouse.account=sound".to_owned(),
        "rouse.epoch=1".to_owned(),
        "rouse.pool=sound".to_owned(),
        "rouse.worker=sound-stray".to_owned(),
        "rouse.worker-id=999999".to_owned(),
        format!("rouse.token={installation}-1-999999-1"),
    ];
    let mut arguments = vec!["run", "--detach", "--network", "none", "--name", &name];
    for label in &labels {
        arguments.extend(["--label", label]);
    }
    arguments.extend([image, "/bin/sleep", "600"]);
    docker.run(&arguments);
    name
}

#[test]
fn what_happened_while_the_master_was_dead_is_put_right_at_its_start() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let scratch = Scratch::new();
    let seen = scratch.folder("seen");
    let config = format!(
        "version: 1\nproviders: {{sound: {{docker: {{}}}}}}\n\
         pools: {{sound: {{docker: {{image: '{}', pull: never, network: none, mounts: [{{source: '{}', target: /seen}}]}}, max: 4}}}}\n\
         builders:\n  base: {{template: true, pool: sound}}\n  \
         kept: {{like: base, steps: [{{run: 'echo x >> /seen/kept; until [ -e /seen/on ]; do sleep 0.05; done'}}]}}\n  \
         ghost: {{like: base, steps: [{{run: 'echo x >> /seen/ghost; [ $(wc -l < /seen/ghost) = 2 ] || sleep 300'}}]}}\n",
        image.name(),
        seen.display()
    );
    let mut master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let (kept, ghost) = (start(&api, "kept", json!({})), start(&api, "ghost", json!({})));
    wait::until_true("both to run", wait::A_BUILD, || {
        seen.join("kept").exists() && seen.join("ghost").exists()
    });
    let of_ghost = container_of(&api, ghost);
    let stray = stray(&docker, &master, image.name());
    master.kill9();
    // Nobody tells the master of this.
    docker.run(&["rm", "--force", "--volumes", &of_ghost]);
    master.run();
    let build = api.until_built(ghost);
    assert_eq!((&build["result"], &build["attempt"]), (&json!("success"), &json!(2)), "{build:#}");
    std::fs::write(seen.join("on"), "").expect("written");
    let build = api.until_built(kept);
    assert_eq!((&build["result"], &build["attempt"]), (&json!("success"), &json!(1)), "{build:#}");
    assert_eq!(std::fs::read_to_string(seen.join("kept")).expect("written"), "x\n", "each command runs once");
    wait::until_true("the stray to be reaped", wait::A_BUILD, || {
        docker.try_run(&["container", "inspect", &stray]).is_err()
    });
    assert!(master.log().contains("reaping an orphan"), "{}", master.log());
    wait::until_true("it to be counted", wait::SOON, || {
        let metrics = String::from_utf8(api.bytes("/metrics")).expect("text");
        let of = |line: &str| {
            line.strip_prefix("rouse_reaped_orphans_total{provider=\"sound\"} ")?.parse::<f64>().ok()
        };
        metrics.lines().find_map(of).is_some_and(|reaped| reaped >= 1.0)
    });
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

fn container_of(api: &crate::harness::api::Api, request: i64) -> String {
    let build = api.list(&format!("/builds?request={request}")).remove(0);
    let worker = api.get(&format!("/workers/{}", build["worker"]["id"]));
    let reference = worker["provider_ref"].as_str().expect("a reference");
    reference.split_once(':').expect("KEY:CONTAINER").1.to_owned()
}

#[test]
fn there_are_as_many_workers_as_the_pool_says() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    let pool = |more: &str| {
        let image = image.name();
        let go = go.display();
        format!(
            "{{docker: {{image: '{image}', pull: never, network: none, mounts: [{{source: '{go}', target: /go}}]}}, {more}}}"
        )
    };
    let config = format!(
        "version: 1\npools:\n  roomy: {}\n  kept: {}\n\
         builders:\n  meet: {{pool: roomy, steps: [{{run: 'touch /go/{{{{ props.me }}}}; until [ -e /go/on ]; do sleep 0.05; done'}}]}}\n  \
         twice: {{pool: kept, steps: [{{run: 'true'}}]}}\n",
        pool("max: 2, slots: 2, reuse: {builds: 10, idle: 2s}"),
        pool("min: 1, max: 2, reuse: {builds: 3, idle: 1s}"),
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let live = |pool: &str| -> Vec<Value> {
        let all = api.list("/workers?live=true");
        all.into_iter().filter(|w| w["pool"] == pool).collect()
    };
    // Five wishes: two workers with two slots each, and one that waits, with its reason.
    let requests: Vec<i64> = (0..5).map(|n| start(&api, "meet", json!({"me": format!("m{n}")}))).collect();
    wait::until_true("four to run", wait::A_BUILD, || (0..4).all(|n| go.join(format!("m{n}")).exists()));
    assert_eq!(live("roomy").len(), 2);
    explained(&api, requests[4], "the full pool", |e| (e["primary"]["code"] == "pool_full").then_some(()));
    assert!(!go.join("m4").exists(), "a fifth build on four slots");
    std::fs::write(go.join("on"), "").expect("written");
    let mut workers: Vec<i64> = Vec::new();
    for request in requests {
        let build = api.until_built(request);
        assert_eq!(build["result"], "success", "{build:#}");
        workers.push(build["worker"]["id"].as_i64().expect("a worker"));
    }
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers.len(), 2, "{workers:?}");
    // Idle for longer than the pool allows, both go.
    wait::until_true("the idle workers to go", wait::A_BUILD, || live("roomy").is_empty());
    let detail = api.get(&format!("/workers/{}", workers[0]));
    assert_eq!(detail["cause"]["code"], "idle", "{detail:#}");
    // One stays for `min`, serves three builds, and then goes as used up.
    let builds: Vec<Value> = (0..3).map(|_| crate::harness::builds::run(&api, "twice", json!({}))).collect();
    let of: Vec<&Value> = builds.iter().map(|b| &b["worker"]["id"]).collect();
    assert!(of.iter().all(|w| *w == of[0]), "{of:?}");
    api.until("the used worker to go", &format!("/workers/{}", of[0]), wait::A_BUILD, |w| {
        (w["phase"] == "gone" && w["cause"]["code"] == "used").then_some(())
    });
    let build = crate::harness::builds::run(&api, "twice", json!({}));
    let id = build["worker"]["id"].clone();
    // It idles beyond its time, and stays.
    let since = std::time::Instant::now();
    wait::until_true("it to idle for long", wait::SOON, || {
        let idle = api.get(&format!("/workers/{id}"));
        assert_eq!(idle["phase"], "up", "{idle:#}");
        since.elapsed() > std::time::Duration::from_secs(3)
    });
    // A person ends it.
    let name = build["worker"]["name"].as_str().expect("a name").to_owned();
    let output = master.cli(&["worker", "kill", &name, "--yes"]);
    assert!(output.status.success(), "{output:?}");
    api.until("the worker to go", &format!("/workers/{id}"), wait::A_BUILD, |w| {
        (w["phase"] == "gone").then_some(())
    });
    assert_eq!(api.get(&format!("/workers/{id}"))["cause"]["code"], "operator");
    // Another takes its place, though nothing waits, until the pool says otherwise.
    let other = |w: &Value| w["id"] != id && w["state"] == "idle";
    wait::until_true("another in its place", wait::A_BUILD, || live("kept").iter().any(other));
    master.write_config(&config.replace("min: 1", "min: 0"));
    master.reload();
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}
