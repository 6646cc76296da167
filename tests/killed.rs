//! `kill -9` of the master on the way from a push to the log's seal: the build ends as if nothing had happened. Before and after each batch
//! that is committed and each named deed beside them, and at moments that are drawn.

mod at_random;
mod batches;
mod scene;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use scene::Traces;

/// Masters that run at the same time.
const AT_ONCE: usize = 8;
/// Batches that are written whether or not anything is built.
const ALWAYS: [&str; 3] = ["master.beat", "master.leave", "ids.reserve"];

/// Runs each case on one of a few threads and says all that went wrong. `describe` is how a reader finds the case again.
fn all_cases<C: Send>(
    cases: Vec<C>,
    expected: &Traces,
    describe: impl Fn(&C) -> String + Sync,
    run: impl Fn(&C) -> Traces + Sync,
) {
    let queue = Mutex::new(cases);
    let faults = Mutex::new(Vec::new());
    let next = || queue.lock().expect("no case panics while it holds it").pop();
    let blame = |fault: String| {
        eprintln!("{fault}");
        faults.lock().expect("no case panics while it holds it").push(fault);
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next() {
                    match catch_unwind(AssertUnwindSafe(|| run(&case))) {
                        Ok(seen) if seen == *expected => {}
                        Ok(seen) => blame(format!("{}: {seen:?}", describe(&case))),
                        Err(_) => blame(format!("{}: see above", describe(&case))),
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no case panics while it holds it");
    assert!(faults.is_empty(), "expected {expected:?}, but after a kill at\n{}", faults.join("\n"));
}
