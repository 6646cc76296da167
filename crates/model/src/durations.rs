//! How long something takes, learned from how long it took: what the scaler foretells the end of a build by, and a page its estimate.

use std::time::Duration;

/// Into so many equal parts is the time up to the longest one divided.
const BINS: usize = 256;
/// Of fewer nothing is foretold.
const LEAST: usize = 10;

/// What nine of ten do not exceed; `None` where there is none.
#[must_use]
pub fn nine_of_ten(mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    let last = (took.len() * 9).div_ceil(10);
    took.get(last.checked_sub(1)?).copied()
}

/// How long the latest ones of a kind took. Nothing is assumed of how that is distributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Durations {
    /// Seconds.
    bin: f64,
    /// How likely one takes longer than each bin's beginning, as if one more had taken longer than any known. Empty where too few are known.
    longer: Vec<f64>,
}

impl Durations {
    #[must_use]
    pub fn of(known: impl IntoIterator<Item = Duration>) -> Self {
        let mut known: Vec<f64> = known.into_iter().map(|took| took.as_secs_f64()).collect();
        known.sort_unstable_by(f64::total_cmp);
        let longest = known.last().copied().unwrap_or_default();
        if known.len() < LEAST || longest <= 0.0 {
            return Self { bin: 1.0, longer: Vec::new() };
        }
        let bin = longest / BINS as f64;
        let mut shorter = 0;
        let longer = (0..=BINS).map(|at| {
            let from = bin * at as f64;
            shorter += known[shorter..].iter().take_while(|took| **took <= from).count();
            (known.len() - shorter + 1) as f64 / (known.len() + 1) as f64
        });
        Self { bin, longer: longer.collect() }
    }

    /// How likely one that has taken `age` already ends within `within`; 0 where too little is known, and where it has outlasted all that are.
    #[must_use]
    pub fn ends_within(&self, age: Duration, within: Duration) -> f64 {
        if self.longer.is_empty() {
            return 0.0;
        }
        1.0 - self.takes_longer(age + within) / self.takes_longer(age)
    }

    fn takes_longer(&self, than: Duration) -> f64 {
        let at = than.as_secs_f64() / self.bin;
        // Not below 0, and what is beyond the last is the last.
        let (bin, part) = (at as usize, at.fract());
        match (self.longer.get(bin), self.longer.get(bin + 1)) {
            (Some(here), Some(next)) => here + (next - here) * part,
            _ => self.longer.last().copied().unwrap_or(1.0),
        }
    }
}
