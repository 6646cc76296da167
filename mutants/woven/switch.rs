//! Put beside the changed files: which change is on in this process, and which places it has come by.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};

struct Switch {
    /// 0 is none: the code as it stands.
    change: u32,
    /// Each place by its first change, once.
    reached: Option<Mutex<(BTreeSet<u32>, File)>>,
}

static SWITCH: OnceLock<Switch> = OnceLock::new();

/// 0 where the code is as it stands, else which of this place's changes is on, from 1.
pub fn on(changes: &[u32]) -> usize {
    SWITCH.get_or_init(Switch::read).on(changes)
}

impl Switch {
    fn read() -> Self {
        let change = std::env::var("ROUSE_MUTANT").ok().and_then(|number| number.parse().ok());
        // A test may start this program again: both write to the end of one file.
        let open = |path| File::options().create(true).append(true).open(path).ok();
        let reached = std::env::var_os("ROUSE_MUTANT_REACHED").and_then(open);
        Self { change: change.unwrap_or(0), reached: reached.map(|file| Mutex::new((BTreeSet::new(), file))) }
    }

    fn on(&self, changes: &[u32]) -> usize {
        if let (Some(reached), Some(place)) = (&self.reached, changes.first()) {
            let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
            if reached.0.insert(*place) {
                // One that is lost here is a test that is not run against a change: the change then counts as not noticed.
                let _ = reached.1.write_all(format!("{place}\n").as_bytes());
            }
        }
        changes.iter().position(|change| *change == self.change).map_or(0, |at| at + 1)
    }
}
