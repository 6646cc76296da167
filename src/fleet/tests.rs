//! The fleet under simulation: the master's own loops (fleet with its drivers and reaper, matching, builds, logs) on the store in memory and the fake
//! provider, on one thread with paused time, killed between any two commits. What runs in each seed is drawn from it.

mod agents;
mod crowd;
mod deadlines;
mod driving;
mod economics;
mod endings;
mod gate;
mod images;
mod kept;
mod locks;
pub(super) mod lone;
mod lying;
mod money;
mod offers;
mod parking;
mod placed;
mod races;
mod reasons;
mod refusals;
pub(super) mod repo;
mod seen;
mod stage;
mod sweeps;
mod town;
mod waiting;

use rouse_store::testing::Memory;
use rouse_testkit::chance;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use town::wish;
use town::{Story, Town};

/// Of a usual run; `cargo xtask sim --seeds N` goes through more.
const SEEDS: u64 = 100;
const SOAKED: u64 = 10_000;

#[test]
fn whatever_goes_wrong_nothing_is_lost_and_nothing_is_left() {
    let began = std::time::Instant::now();
    let asked = chance::seed_asked_for();
    let first = asked.unwrap_or_else(chance::fresh_seed);
    let seeds = match asked {
        Some(_) => 1,
        None if chance::soak() => SOAKED,
        None => chance::seeds_asked_for().unwrap_or(SEEDS),
    };
    let next = AtomicU64::new(first);
    let all = Mutex::new(Story::default());
    let made = Memory::new().unwrap();
    let run = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let told = std::panic::catch_unwind(|| Town::of(seed, &made).live());
            let Ok(story) = told else { panic!("seed {seed}; again: cargo xtask sim --seed {seed}") };
            all.lock().unwrap().add(story);
        }
    };
    // Each seed has one thread.
    let at_once = std::thread::available_parallelism().map_or(2, NonZero::get);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..at_once).map(|_| scope.spawn(run)).collect();
        run();
        others.into_iter().for_each(|other| other.join().unwrap());
    });
    let all = all.into_inner().unwrap();
    eprintln!("{seeds} seeds, {first} to {}, in {:.1?}: {all:?}", first + seeds - 1, began.elapsed());
    assert!(asked.is_some() || all.is_eventful(), "a simulation in which nothing happens shows nothing");
}

#[test]
fn a_seed_tells_the_same_story_again() {
    let seed = chance::seed_asked_for().unwrap_or_else(chance::fresh_seed);
    let made = Memory::new().unwrap();
    // One master, and two.
    for seed in [seed | 1, seed.next_multiple_of(town::ALONE)] {
        assert_eq!(Town::of(seed, &made).live(), Town::of(seed, &made).live(), "seed {seed}");
    }
}
