//! Which changes a test notices: each is run against the tests that come by its place, the quickest first, until one fails.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::child::{self, Interrupt};
use crate::list::Change;
use crate::settle::{Dropped, Settled};
use crate::suite::Suite;

#[cfg(test)]
mod tests;

/// A change under which a test takes so much longer than with the code as it stands is noticed: it may well never end.
const TIMES: u32 = 8;
const AT_LEAST: Duration = Duration::from_secs(20);

/// Every so many changes it is said how far it has come.
const TELL: usize = 50;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Dropped(Dropped),
    /// By the test of that name.
    Noticed(String),
    /// Of so many tests that come by its place.
    Survived(usize),
}

/// What the changes are run against.
pub struct Trial<'a> {
    pub settled: &'a Settled,
    pub suite: &'a Suite,
    /// Changes that were noticed before, by their names, and the tests that did.
    pub before: &'a HashMap<String, String>,
    pub jobs: usize,
    pub interrupt: &'a Interrupt,
}

impl Trial<'_> {
    /// A verdict on each change, in their order.
    pub fn judge(&self, changes: &[Change]) -> Result<Vec<Verdict>> {
        let (done, survived) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let known = |change: &&Change| {
            self.settled.dropped.contains_key(&change.number) || self.before.contains_key(&change.name)
        };
        let all = changes.len() - changes.iter().filter(known).count();
        child::each(self.jobs, changes, |change| {
            if let Some(dropped) = self.settled.dropped.get(&change.number) {
                return Ok(Verdict::Dropped(dropped.clone()));
            }
            if let Some(test) = self.before.get(&change.name) {
                return Ok(Verdict::Noticed(test.clone()));
            }
            let verdict = self.run(change)?;
            if matches!(verdict, Verdict::Survived(_)) {
                survived.fetch_add(1, Ordering::Relaxed);
            }
            let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
            if so_far.is_multiple_of(TELL) {
                eprintln!("{so_far} of {all} changes run, {} survived", survived.load(Ordering::Relaxed));
            }
            Ok(verdict)
        })
    }

    fn run(&self, change: &Change) -> Result<Verdict> {
        let tests = self.settled.place(change.number).and_then(|place| self.suite.reached.get(&place));
        let tests = tests.map(Vec::as_slice).unwrap_or_default();
        for test in tests.iter().filter_map(|at| self.suite.tests.get(*at)) {
            let mut command = self.suite.command(test.binary, &test.name);
            let number = change.number.to_string();
            command.env("ROUSE_MUTANT", number).stdout(Stdio::null()).stderr(Stdio::null());
            let ended = child::run(&mut command, AT_LEAST + test.took * TIMES, self.interrupt)?;
            if !ended.is_some_and(|status| status.success()) {
                return Ok(Verdict::Noticed(test.name.clone()));
            }
        }
        Ok(Verdict::Survived(tests.len()))
    }
}
