//! At each batch and deed that has a name: which there are is read from a master that nobody disturbs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use rouse_testkit::chance;
use serde_json::Value;

use super::scene::{Scene, Traces, config};
use super::{ALWAYS, all_cases};
use crate::harness::{Database, processes, wait};

/// Which commit of which name: a build commits some names several times.
type Place = (String, usize);
type Case = (Place, &'static str);

/// All batches of a build that nobody disturbs, and what it leaves.
fn undisturbed() -> &'static (BTreeSet<Place>, Traces) {
    static SEEN: OnceLock<(BTreeSet<Place>, Traces)> = OnceLock::new();
    SEEN.get_or_init(look_at_one)
}

fn look_at_one() -> (BTreeSet<Place>, Traces) {
    let mut scene = Scene::tracing(Database::File);
    scene.master.run();
    scene.wait_for_first_look();
    scene.push();
    let traces = scene.traces();
    scene.assert_nothing_left();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let mut places = BTreeSet::new();
    for name in scene.traced().into_iter().filter(|n| !ALWAYS.contains(&n.as_str())) {
        let n = count.entry(name.clone()).or_default();
        *n += 1;
        places.insert((name, *n));
    }
    (places, traces)
}

/// Starts a master that is to die at a batch, gives it something to build, and waits until it has died. Times vary, so a batch may come less
/// often than in the run that was listened to: then the master is killed when all is done.
fn run_until_killed(scene: &mut Scene) {
    scene.master.spawn();
    let pid = scene.master.pid();
    let ask = scene.asking();
    let looked = wait::until("the first look, or the end", wait::A_BUILD, || {
        if !processes::is_alive(pid) {
            return Some(false);
        }
        ask("/codebases")?["items"][0]["looked"].as_str().map(|_| true)
    });
    if looked {
        scene.push();
    }
    wait::until_true("the master to die, or the build to be over", wait::A_BUILD, || {
        !processes::is_alive(pid) || all_done(&ask, 1)
    });
    if processes::is_alive(pid) {
        scene.master.signal(Signal::SIGKILL);
    }
    scene.master.wait_for_end(wait::SOON);
}

/// Whether nothing is left to do of so many requests.
pub(super) fn all_done(ask: &impl Fn(&str) -> Option<Value>, requests: usize) -> bool {
    let all = |path: &str, name: &str, value: &str| {
        let listed = ask(path)?;
        let items = listed["items"].as_array()?;
        Some(items.len() >= requests && items.iter().all(|item| item[name] == value))
    };
    all("/requests", "state", "done") == Some(true) && all("/workers", "phase", "gone") == Some(true)
}

/// Kills one master at one batch, starts it again, and looks at what came of the build.
fn killed_at((name, n): &Place, moment: &str, database: Database, change_config: bool) -> Traces {
    let failpoint = format!("{name}:{moment}:{n}");
    let mut scene = Scene::new(database, vec![("ROUSE_FAILPOINT".to_owned(), failpoint)]);
    run_until_killed(&mut scene);
    scene.master.set_environment(vec![]);
    if change_config {
        let elsewhere = scene.scratch.path().join("outside/elsewhere");
        let text = config(&scene.repo, &elsewhere, "changed meanwhile");
        scene.master.write_config(&text.replace("second >>", "changed >>"));
    }
    scene.master.run();
    scene.wait_for_first_look();
    if !scene.has_pushed() {
        scene.push();
    }
    let traces = scene.traces();
    scene.assert_nothing_left();
    traces
}

fn kill_at_all(
    what: &str,
    places: impl IntoIterator<Item = Place>,
    run: impl Fn(&Place, &str) -> Traces + Sync,
) {
    let cases: Vec<Case> = places.into_iter().flat_map(|p| [(p.clone(), "before"), (p, "after")]).collect();
    let (count, began) = (cases.len(), std::time::Instant::now());
    let describe = |((name, n), moment): &Case| format!("{moment} `{name}`, number {n}");
    all_cases(cases, &undisturbed().1, describe, |(place, moment)| run(place, moment));
    eprintln!("{what}: {count} kills, none of them cost anything, {:.0} s", began.elapsed().as_secs_f64());
}

#[test]
fn a_master_killed_at_any_batch_finishes_the_build_as_if_nothing_had_happened() {
    let (places, expected) = undisturbed();
    assert!(places.len() > 20, "a build commits more than {places:?}");
    let names: BTreeSet<&str> = places.iter().map(|(name, _)| name.as_str()).collect();
    for deed in ["git.fetch", "provider.launch", "log.put", "artifact.put", "provider.terminate"] {
        assert!(names.contains(deed), "`{deed}` is not among {names:?}");
    }
    let (_, result, steps) = &expected.builds[0];
    assert_eq!((expected.builds.len(), result, steps.len()), (1, &Value::from("success"), 6));
    assert_eq!(expected.ran, "first second");
    kill_at_all("SQLite", places.clone(), |place, moment| killed_at(place, moment, Database::File, false));
}

#[test]
fn a_running_build_keeps_its_recipe_when_the_config_changes_while_the_master_is_dead() {
    let (places, _) = undisturbed();
    let running: Vec<Place> =
        places.iter().filter(|(n, _)| n.starts_with("build.") && n != "build.claim").cloned().collect();
    assert!(!running.is_empty());
    kill_at_all("another config", running, |place, moment| killed_at(place, moment, Database::File, true));
}

/// Each name once; each time that it comes where that was asked for.
#[test]
fn the_same_holds_on_postgresql() {
    let Some(_) = Database::fresh_postgres() else { return };
    let (places, _) = undisturbed();
    let some = places.iter().filter(|(_, n)| chance::soak() || *n == 1);
    kill_at_all("PostgreSQL", some.cloned(), |place, moment| {
        let database = Database::fresh_postgres().expect("it was there a moment ago");
        killed_at(place, moment, database, false)
    });
}
