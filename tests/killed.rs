//! `kill -9` of the master before and after each batch that it commits on the way from a push to the log's seal: the build ends as if
//! nothing had happened.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::api::Api;
use crate::harness::{Database, GitRepo, Master, Options, Scratch, processes, wait};

/// Masters that run at the same time.
const AT_ONCE: usize = 8;
/// Batches that are written whether or not anything is built.
const ALWAYS: [&str; 3] = ["master.beat", "master.leave", "ids.reserve"];

/// One installation with a project whose only step leaves a trace outside of it.
struct Scene {
    scratch: Scratch,
    repo: GitRepo,
    master: Master,
}

/// What a build has left.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    result: Value,
    attempts: usize,
    ran: String,
    log: Vec<u8>,
}

fn config(repo: &GitRepo, outside: &Path, comment: &str) -> String {
    format!(
        "# {comment}\nversion: 1\ncodebases:\n  app: {{git: '{}', poll: 1s}}\npools:\n  here: {{local: {{}}}}\nbuilders:\n  trace:\n    \
         steps:\n      - checkout: app\n      - run: |\n          echo first >> {out}\n          for n in 1 2 3 4 5 6 7 8 9; do echo \"line $n\"; sleep 0.05; done\n        \
         name: first\n      - run: cat file && echo second >> {out}\n        name: second\n\
         schedulers:\n  push: {{changes: {{app: {{branch: main}}}}, builders: [trace]}}\n",
        repo.url(),
        out = outside.display(),
    )
}

impl Scene {
    fn new(database: Database, environment: Vec<(String, String)>) -> Self {
        let scratch = Scratch::new();
        let repo = GitRepo::with(scratch.path(), "app", &[("file", "from the repository\n")]);
        let outside = scratch.folder("outside");
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o777))
            .expect("the folder is ours");
        let text = config(&repo, &outside.join("ran"), "as it began");
        let master =
            Master::prepare(scratch.path(), &text, Options { database, environment, ..Options::default() });
        Self { scratch, repo, master }
    }

    /// Until the poller knows the repository: what is pushed from then on is a change.
    fn wait_for_first_look(&self) {
        self.master.api().until("the first look", "/codebases", wait::SOON, |codebases| {
            codebases["items"][0]["looked"].as_str().map(drop)
        });
    }

    fn push(&self) {
        self.repo.land("main", "a change", &[("other", "text\n")]);
    }

    fn traces(&self) -> Traces {
        let api = self.master.api();
        api.until("the request to end", "/requests", wait::A_BUILD, |requests| {
            let items = requests["items"].as_array()?;
            (!items.is_empty() && items.iter().all(|r| r["state"] == "done")).then_some(())
        });
        let builds = api.list("/builds");
        let build = &builds[0];
        let detail = api.get(&format!("/builds/{}", build["id"]));
        let mut log = Vec::new();
        for step in detail["steps"].as_array().expect("a build has steps") {
            for of_step in step["logs"].as_array().expect("a step has logs") {
                log.extend(api.bytes(&format!("/logs/{}/raw", of_step["id"])));
            }
        }
        let ran = std::fs::read_to_string(self.scratch.path().join("outside/ran")).unwrap_or_default();
        Traces { result: build["result"].clone(), attempts: builds.len(), ran, log }
    }

    fn assert_nothing_left(&mut self) {
        let pid = self.master.pid();
        self.master.leftovers().assert_no_workers(wait::SOON, pid);
    }
}

/// Which commit of which name: a build commits some names several times.
type Place = (String, usize);

/// All batches of a build that nobody disturbs, and what it leaves.
fn undisturbed() -> (BTreeSet<Place>, Traces) {
    let scratch = Scratch::new();
    let trace = scratch.path().join("commits");
    let environment = vec![("ROUSE_COMMIT_TRACE".to_owned(), trace.display().to_string())];
    let mut scene = Scene::new(Database::File, environment);
    scene.master.run();
    scene.wait_for_first_look();
    scene.push();
    let traces = scene.traces();
    scene.assert_nothing_left();
    let names = std::fs::read_to_string(&trace).expect("the master writes a trace");
    let mut count: HashMap<&str, usize> = HashMap::new();
    let mut places = BTreeSet::new();
    for name in names.lines().filter(|n| !ALWAYS.contains(n)) {
        let n = count.entry(name).or_default();
        *n += 1;
        places.insert((name.to_owned(), *n));
    }
    (places, traces)
}

/// Starts a master that is to die at a batch, gives it something to build, and waits until it has died. Times vary, so a batch may come less
/// often than in the run that was listened to: then the master is killed when all is done.
fn run_until_killed(scene: &mut Scene) {
    scene.master.spawn();
    let address = scene.master.address();
    let pid = scene.master.pid();
    let token = scene.master.state().join("admin.token");
    let ask = |path: &str| {
        let token = std::fs::read_to_string(&token).ok()?;
        Api::new(&address, token.trim()).try_get(path).ok()
    };
    let looked = wait::until("the first look, or the end", wait::SOON, || {
        if !processes::is_alive(pid) {
            return Some(false);
        }
        ask("/codebases")?["items"][0]["looked"].as_str().map(|_| true)
    });
    if looked {
        scene.push();
    }
    let all_done = || {
        let requests = ask("/requests")?;
        let workers = ask("/workers")?;
        let done = |r: &Value| r["state"] == "done";
        let requests = requests["items"].as_array().filter(|r| !r.is_empty() && r.iter().all(done))?;
        let gone = |w: &Value| w["phase"] == "gone";
        workers["items"].as_array().filter(|w| w.iter().all(gone)).map(|_| requests.len())
    };
    wait::until_true("the master to die, or the build to be over", wait::A_BUILD, || {
        !processes::is_alive(pid) || all_done().is_some()
    });
    if processes::is_alive(pid) {
        scene.master.signal(Signal::SIGKILL);
    }
    scene.master.wait_for_end(wait::SOON);
}

/// Kills one master at one batch, starts it again, and looks at what came of the build.
fn killed_at((name, n): &Place, moment: &str, database: Database, change_config: bool) -> Traces {
    let failpoint = format!("{name}:{moment}:{n}");
    let mut scene = Scene::new(database, vec![("ROUSE_FAILPOINT".to_owned(), failpoint)]);
    run_until_killed(&mut scene);
    scene.master.set_environment(vec![]);
    if change_config {
        let text = config(&scene.repo, &scene.scratch.path().join("outside/elsewhere"), "changed meanwhile");
        scene.master.write_config(&text.replace("second >>", "changed >>"));
    }
    scene.master.run();
    scene.wait_for_first_look();
    if scene.repo.git(&["rev-list", "--count", "main"]).trim() == "1" {
        scene.push();
    }
    let traces = scene.traces();
    scene.assert_nothing_left();
    traces
}

/// Runs each case on one of a few threads and says all that went wrong.
fn all_cases(
    cases: Vec<(Place, &'static str)>,
    expected: &Traces,
    run: impl Fn(&Place, &str) -> Traces + Sync,
) {
    eprintln!("{} kills", cases.len());
    let queue = Mutex::new(cases);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((place, moment)) = queue.lock().expect("no case panics while it holds it").pop()
                    else {
                        return;
                    };
                    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&place, moment)));
                    match seen {
                        Ok(seen) if seen == *expected => {}
                        Ok(seen) => faults
                            .lock()
                            .expect("no case panics while it holds it")
                            .push(format!("{place:?} {moment}: {seen:?}")),
                        Err(_) => faults
                            .lock()
                            .expect("no case panics while it holds it")
                            .push(format!("{place:?} {moment}: see above")),
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no case panics while it holds it");
    assert!(faults.is_empty(), "expected {expected:?}, but after a kill at\n{}", faults.join("\n"));
}

fn cases(places: impl IntoIterator<Item = Place>) -> Vec<(Place, &'static str)> {
    places.into_iter().flat_map(|p| [(p.clone(), "before"), (p, "after")]).collect()
}

#[test]
fn a_master_killed_at_any_batch_finishes_the_build_as_if_nothing_had_happened() {
    let (places, expected) = undisturbed();
    assert!(places.len() > 20, "a build commits more than {places:?}");
    assert_eq!(expected.result, "success");
    assert_eq!(expected.ran, "first\nsecond\n");
    all_cases(cases(places), &expected, |place, moment| killed_at(place, moment, Database::File, false));
}

#[test]
fn a_running_build_keeps_its_recipe_when_the_config_changes_while_the_master_is_dead() {
    let (places, expected) = undisturbed();
    let running: Vec<Place> =
        places.into_iter().filter(|(n, _)| n.starts_with("build.") && n != "build.claim").collect();
    assert!(!running.is_empty());
    all_cases(cases(running), &expected, |place, moment| killed_at(place, moment, Database::File, true));
}

#[test]
fn the_same_holds_on_postgresql() {
    let Some(_) = Database::fresh_postgres() else { return };
    let (places, expected) = undisturbed();
    let telling = ["build.", "worker.attach", "worker.accepted", "request.", "change"];
    let some = places.into_iter().filter(|(n, _)| telling.iter().any(|p| n.starts_with(p)));
    all_cases(cases(some), &expected, |place, moment| {
        let database = Database::fresh_postgres().expect("it was there a moment ago");
        killed_at(place, moment, database, false)
    });
}
