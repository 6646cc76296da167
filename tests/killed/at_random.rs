//! At moments that are drawn: so far on the way by the count of commits, and then some milliseconds. One to three kills for each push, so that
//! masters are killed at their start and at taking up, too.

use std::time::Duration;

use nix::sys::signal::Signal;
use rouse_testkit::chance::{self, Dice};

use super::batches::all_done;
use super::scene::{Scene, Traces};
use super::{ALWAYS, all_cases};
use crate::harness::{Database, wait};

/// Kills, unless all are asked for.
const SOME: usize = 12;
const ALL: usize = 200;
/// After the commit that was drawn, at most.
const LATER_MS: u64 = 120;

/// When a master dies: after so many of a thousand parts of what there is to commit, and milliseconds on top.
type Moment = (u64, u64);

struct Case {
    seed: u64,
    moments: Vec<Moment>,
}

impl Case {
    fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        let kills = 1 + dice.below(3);
        // Later ones from what the former have left.
        let moment = |n| (dice.below(1000 / (n + 1)), dice.below(LATER_MS));
        Self { seed, moments: (0..kills).map(moment).collect() }
    }
}

/// A push and a wish by hand, on a master that nobody disturbs; what they leave, and how many commits that takes.
fn undisturbed(database: Database) -> (usize, Traces) {
    let mut scene = Scene::tracing(database);
    scene.master.run();
    scene.wait_for_first_look();
    let before = committed(&scene);
    scene.push();
    assert!(scene.ask("by-hand"));
    let traces = scene.traces_of(2);
    scene.assert_nothing_left();
    (committed(&scene) - before, traces)
}

fn committed(scene: &Scene) -> usize {
    scene.traced().iter().filter(|name| !ALWAYS.contains(&name.as_str())).count()
}

fn killed(case: &Case, commits: usize, database: Database) -> Traces {
    let mut scene = Scene::tracing(database);
    scene.master.run();
    scene.wait_for_first_look();
    scene.push();
    let mut accepted = false;
    for (n, (part, later)) in case.moments.iter().enumerate() {
        let from = committed(&scene);
        let wanted = from + commits * usize::try_from(*part).expect("it is small") / 1000;
        accepted = std::thread::scope(|scope| {
            // It meets the kill, or not. What was accepted once is not asked for again.
            let asking = scope.spawn(|| accepted || scene.ask("by-hand"));
            let ask = scene.asking();
            wait::until_true("the moment to come, or all to be done", wait::A_BUILD, || {
                committed(&scene) >= wanted || all_done(&ask, 2)
            });
            // The very point: any moment will do, and this one was drawn.
            std::thread::sleep(Duration::from_millis(*later));
            scene.master.signal(Signal::SIGKILL);
            asking.join().expect("it does not panic")
        });
        scene.master.wait_for_end(wait::SOON);
        if n + 1 < case.moments.len() {
            scene.master.spawn();
        }
    }
    scene.master.run();
    if !accepted {
        wait::until_true("the wish to be taken", wait::SOON, || scene.ask("by-hand"));
    }
    let traces = scene.traces_of(2);
    scene.assert_nothing_left();
    traces
}

fn at_random(what: &str, test: &str, database: impl Fn() -> Database + Sync) {
    let wanted = if chance::soak() { ALL } else { SOME };
    let (cases, kills) = match chance::seed_asked_for() {
        Some(seed) => (vec![Case::of(seed)], Case::of(seed).moments.len()),
        None => cases_from(chance::fresh_seed(), wanted),
    };
    let (pushes, first) = (cases.len(), cases.first().map_or(0, |case| case.seed));
    eprintln!("{what}: {kills} kills in {pushes} cases, seeds {first} to {}", first + pushes as u64 - 1);
    let (commits, expected) = undisturbed(database());
    assert_eq!(expected.ran, "asked first second");
    let describe = |case: &Case| format!("{:?}; again: {}", case.moments, chance::again(case.seed, test));
    let began = std::time::Instant::now();
    all_cases(cases, &expected, describe, |case| killed(case, commits, database()));
    eprintln!("{what}: {kills} kills, none of them cost anything, {:.0} s", began.elapsed().as_secs_f64());
}

/// One case for each seed from the first on, until there are so many kills.
fn cases_from(seed: u64, wanted: usize) -> (Vec<Case>, usize) {
    let (mut cases, mut kills) = (Vec::new(), 0);
    for seed in seed.. {
        let case = Case::of(seed);
        kills += case.moments.len();
        cases.push(case);
        if kills >= wanted {
            break;
        }
    }
    (cases, kills)
}

#[test]
fn a_master_killed_at_random_moments_loses_nothing() {
    at_random("SQLite", "a_master_killed_at_random_moments_loses_nothing", || Database::File);
}

#[test]
fn nor_does_one_on_postgresql_at_random_moments() {
    let Some(_) = Database::fresh_postgres() else { return };
    at_random("PostgreSQL", "nor_does_one_on_postgresql_at_random_moments", || {
        Database::fresh_postgres().expect("it was there a moment ago")
    });
}
