//! Chance that can be had again, and how much of it a run is asked for.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Asks for everything where a run usually takes a part: `cargo xtask test --soak` sets it.
const SOAK: &str = "ROUSE_TEST_SOAK";
/// One case of a test that draws: a failure says with which seed it comes again.
const SEED: &str = "ROUSE_TEST_SEED";
/// How many seeds a simulation goes through: `cargo xtask sim` sets it.
const SEEDS: &str = "ROUSE_TEST_SEEDS";

/// Whether the whole of what usually is a part was asked for.
#[must_use]
pub fn soak() -> bool {
    std::env::var(SOAK).is_ok_and(|value| value == "1")
}

/// The seed of the only case to run, where one was named.
///
/// # Panics
/// Where what was named is no number.
#[must_use]
pub fn seed_asked_for() -> Option<u64> {
    number(SEED)
}

/// How many seeds are to be gone through, where it was said.
///
/// # Panics
/// Where what was said is no number.
#[must_use]
pub fn seeds_asked_for() -> Option<u64> {
    number(SEEDS)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// A seed that no earlier run had, short enough to be typed.
#[must_use]
pub fn fresh_seed() -> u64 {
    rand::rng().random_range(1..1_000_000_000)
}

/// How a case comes again.
#[must_use]
pub fn again(seed: u64, test: &str) -> String {
    format!("{SEED}={seed} cargo xtask test {test}")
}

/// Draws from a seed, always the same.
#[derive(Debug)]
pub struct Dice(StdRng);

impl Dice {
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// From 0 to just below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_each_time() {
        let draw = |seed| {
            let mut dice = Dice::of(seed);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
