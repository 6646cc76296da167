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
    bins_a_second: f64,
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
            return Self { bins_a_second: 1.0, longer: Vec::new() };
        }
        let bin = longest / BINS as f64;
        let mut shorter = 0;
        let longer = (0..=BINS).map(|at| {
            let from = bin * at as f64;
            shorter += known[shorter..].iter().take_while(|took| **took <= from).count();
            (known.len() - shorter + 1) as f64 / (known.len() + 1) as f64
        });
        Self { bins_a_second: bin.recip(), longer: longer.collect() }
    }

    /// Zero where too few are known.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_secs_f64(self.longer.len().saturating_sub(1) as f64 / self.bins_a_second)
    }

    /// How likely one that has taken `age` already ends within `within`; 0 where too little is known, and where it has outlasted all that are.
    #[must_use]
    pub fn ends_within(&self, age: Duration, within: Duration) -> f64 {
        self.ends_within_each(age, [within])[0]
    }

    /// The same for several times at once.
    #[must_use]
    pub fn ends_within_each<const N: usize>(&self, age: Duration, within: [Duration; N]) -> [f64; N] {
        if self.longer.is_empty() {
            return [0.0; N];
        }
        let age = age.as_secs_f64();
        let so_long = self.takes_longer(age);
        within.map(|within| 1.0 - self.takes_longer(age + within.as_secs_f64()) / so_long)
    }

    fn takes_longer(&self, seconds: f64) -> f64 {
        let at = seconds * self.bins_a_second;
        // Not below 0, and what is beyond the last is the last.
        let bin = at as usize;
        match (self.longer.get(bin), self.longer.get(bin + 1)) {
            (Some(here), Some(next)) => here + (next - here) * (at - bin as f64),
            _ => self.longer.last().copied().unwrap_or(1.0),
        }
    }
}
