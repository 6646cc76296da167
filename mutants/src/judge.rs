//! Which changes a test notices: each is run against the tests that come by its place, the quickest first, until one fails.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::child::{self, Interrupt};
use crate::list::Change;
use crate::settle::{Dropped, Settled};
use crate::suite::Suite;

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

/// A verdict on each change, in their order.
pub fn judge(
    changes: &[Change],
    settled: &Settled,
    suite: &Suite,
    jobs: usize,
    interrupt: &Interrupt,
) -> Result<Vec<Verdict>> {
    let place = settled.places.iter().flat_map(|changes| changes.iter().map(|change| (*change, changes[0])));
    let place: BTreeMap<u32, u32> = place.collect();
    let none = Vec::new();
    let (done, survived) = (AtomicUsize::new(0), AtomicUsize::new(0));
    child::each(jobs, changes, |change| {
        if let Some(dropped) = settled.dropped.get(&change.number) {
            return Ok(Verdict::Dropped(dropped.clone()));
        }
        let tests = place.get(&change.number).and_then(|place| suite.reached.get(place)).unwrap_or(&none);
        let verdict = match noticed_by(change, tests, suite, interrupt)? {
            Some(test) => Verdict::Noticed(test),
            None => Verdict::Survived(tests.len()),
        };
        if matches!(verdict, Verdict::Survived(_)) {
            survived.fetch_add(1, Ordering::Relaxed);
        }
        let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
        if so_far.is_multiple_of(TELL) {
            let (of, survived) = (changes.len() - settled.dropped.len(), survived.load(Ordering::Relaxed));
            eprintln!("{so_far} of {of} changes run, {survived} survived");
        }
        Ok(verdict)
    })
}

fn noticed_by(
    change: &Change,
    tests: &[usize],
    suite: &Suite,
    interrupt: &Interrupt,
) -> Result<Option<String>> {
    for test in tests.iter().filter_map(|at| suite.tests.get(*at)) {
        let mut command = suite.command(test.binary, &test.name);
        command.env("ROUSE_MUTANT", change.number.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let ended = child::run(&mut command, AT_LEAST + test.took * TIMES, interrupt)?;
        if !ended.is_some_and(|status| status.success()) {
            return Ok(Some(test.name.clone()));
        }
    }
    Ok(None)
}
