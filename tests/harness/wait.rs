//! Waiting for a condition, with a bound and a name for it.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// For what takes a moment: a process that ends, a row that appears.
pub const SOON: Duration = Duration::from_secs(20);
/// For a build on a busy machine.
pub const A_BUILD: Duration = Duration::from_secs(90);

/// Looks until there is an answer.
///
/// # Panics
/// When `patience` is over, with `what` was waited for.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {:.0} s in vain: {what}", patience.as_secs_f64());
        std::thread::sleep(LOOK);
    }
}

/// The same for a plain condition.
pub fn until_true(what: &str, patience: Duration, mut look: impl FnMut() -> bool) {
    until(what, patience, || look().then_some(()));
}

/// Looks for no longer than that, where there is nobody to complain to: in the end of what a scenario has started.
pub fn at_most(patience: Duration, mut look: impl FnMut() -> bool) {
    let start = Instant::now();
    while !look() && start.elapsed() < patience {
        std::thread::sleep(LOOK);
    }
}
