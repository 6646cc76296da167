//! What no policy goes below that lets nobody wait, whatever it knows.

use super::Trace;
use rouse_model::Timestamp;
use std::time::Duration;

/// The least overhead, (boot + idle) ÷ busy time, at which each request of a trace begins the moment it arrives.
///
/// With N(t) the requests that run, the workers split into levels: the k-th is wanted while N(t) ≥ k. Between two such times it idles, or is ended and booted again, whichever
/// is less; its first time it is booted. Work that goes to the worker that became idle last makes this so (Lu and Chen, arXiv 1112.0442). One build a worker at a time.
/// A policy that lets requests wait may go below.
#[must_use]
pub fn bound(trace: &Trace, boot: Duration) -> f64 {
    let busy = trace.busy();
    if busy == 0.0 {
        return 0.0;
    }
    (0..trace.classes.len()).map(|class| of_class(trace, class, boot)).sum::<f64>() / busy
}

fn of_class(trace: &Trace, class: usize, boot: Duration) -> f64 {
    let jobs = trace.jobs.iter().filter(|job| job.class == class);
    // An end comes before a beginning at the same moment.
    let mut moments: Vec<(Timestamp, bool)> =
        jobs.flat_map(|job| [(job.arrives, true), (job.arrives + job.takes, false)]).collect();
    moments.sort_unstable();
    // Since when each level is not wanted, lowest first.
    let mut levels: Vec<Timestamp> = Vec::new();
    let (mut running, mut cost) = (0, Duration::ZERO);
    for (at, begins) in moments {
        if begins {
            match levels.get(running) {
                Some(since) => cost += at.since(*since).min(boot),
                None => {
                    levels.push(at);
                    cost += boot;
                }
            }
            running += 1;
        } else {
            running -= 1;
            levels[running] = at;
        }
    }
    cost.as_secs_f64()
}
