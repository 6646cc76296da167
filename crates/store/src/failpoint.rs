//! One hook before and after each commit, and each deed outside of the database that has a name, for tests that kill a master there. Read from
//! the environment once, at start.
//!
//! `ROUSE_FAILPOINT=NAME:before|after[:N]` ends the process, as `kill -9` would, at the N-th commit or deed of that name (1 by default);
//! `ROUSE_COMMIT_TRACE=FILE` appends the name of each that is over to a file, so that a test learns which there are.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Failpoint {
    armed: Option<Armed>,
    trace: Option<Mutex<std::fs::File>>,
}

#[derive(Debug)]
struct Armed {
    name: String,
    after: bool,
    at: u64,
    seen: AtomicU64,
}

impl Failpoint {
    pub(crate) fn from_environment() -> Self {
        let armed = std::env::var("ROUSE_FAILPOINT").ok().and_then(|text| {
            let mut parts = text.split(':');
            let (name, moment) = (parts.next()?.to_owned(), parts.next()?);
            let at = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
            Some(Armed { name, after: moment == "after", at, seen: AtomicU64::new(0) })
        });
        let trace = std::env::var_os("ROUSE_COMMIT_TRACE")
            .and_then(|path| std::fs::OpenOptions::new().append(true).create(true).open(path).ok())
            .map(Mutex::new);
        Self { armed, trace }
    }

    pub(crate) fn before(&self, name: &str) {
        self.strike(name, false);
    }

    pub(crate) fn after(&self, name: &str) {
        if let Some(trace) = &self.trace {
            let mut file = trace.lock().expect("a trace's writer does not panic");
            if let Err(error) = writeln!(file, "{name}") {
                tracing::warn!(%error, "the commit trace cannot be written");
            }
        }
        self.strike(name, true);
    }

    fn strike(&self, name: &str, after: bool) {
        if let Some(armed) = &self.armed
            && armed.name == name
            && armed.after == after
            && armed.seen.fetch_add(1, Ordering::Relaxed) + 1 == armed.at
        {
            std::process::abort();
        }
    }
}
