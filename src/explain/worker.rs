//! The judgement on one worker: why it is there, why it is still there, or why it is not any more.

use super::decision::sum;
use super::reason::seconds;
use rouse_model::build::Lease;
use rouse_model::buildset::Request;
use rouse_model::decision::Decision;
use rouse_model::worker::{Link, Phase, Wanted, Worker};
use rouse_model::{BuildId, Timestamp};
use std::time::Duration;

/// Why a worker is where it is. Each has an entry in `docs/reference/reasons.md` under its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerCode {
    Gone,
    Ending,
    Draining,
    Held,
    Coming,
    Silent,
    /// It lies stopped at its provider until work comes for it.
    Parked,
    Busy,
    /// Something waits that it can run.
    Awaited,
    /// Its pool is to have so many.
    Kept,
    /// Something is expected that it can run.
    Foreseen,
    Idle,
}

impl WorkerCode {
    pub const ALL: [Self; 12] = [
        Self::Gone,
        Self::Ending,
        Self::Draining,
        Self::Held,
        Self::Coming,
        Self::Silent,
        Self::Parked,
        Self::Busy,
        Self::Awaited,
        Self::Kept,
        Self::Foreseen,
        Self::Idle,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "worker_gone",
            Self::Ending => "worker_ending",
            Self::Draining => "worker_draining",
            Self::Held => "worker_held",
            Self::Coming => "worker_coming",
            Self::Silent => "worker_silent",
            Self::Parked => "worker_parked",
            Self::Busy => "worker_busy",
            Self::Awaited => "worker_awaited",
            Self::Kept => "worker_kept",
            Self::Foreseen => "worker_foreseen",
            Self::Idle => "worker_idle",
        }
    }

    /// Where the docs explain it.
    #[must_use]
    pub fn docs(self) -> String {
        format!("docs/reference/reasons.md#{}", self.as_str())
    }
}

/// Everything that the judgement looks at, read at one moment.
#[derive(Debug, Clone)]
pub struct WorkerSnapshot {
    pub worker: Worker,
    /// Its own.
    pub leases: Vec<Lease>,
    /// Waiting requests in the order in which they are served.
    pub queue: Vec<Request>,
    /// Its pool's, where that is configured.
    pub pool: Option<PoolRules>,
    /// Workers of its pool that are not gone.
    pub live: usize,
    /// What the fleet came to last for its pool.
    pub last: Option<Decision>,
    pub now: Timestamp,
}

/// What a pool's configuration says about workers that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRules {
    pub min: usize,
    pub idle: Duration,
    /// How long a launch usually takes.
    pub boot: Option<Duration>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerExplanation {
    pub worker: Worker,
    pub leases: Vec<Lease>,
    pub code: WorkerCode,
    /// Whole, for a person, without a full stop.
    pub sentence: String,
    /// What the fleet came to when it asked for it, and when it ended it; `None` where it is not on record any more, or had no part in it.
    pub launched_by: Option<Decision>,
    pub ended_by: Option<Decision>,
    pub checked_at: Timestamp,
}

/// Says why a worker is where it is.
#[must_use]
pub fn judge(snapshot: &WorkerSnapshot) -> (WorkerCode, String) {
    let WorkerSnapshot { worker, leases, now, .. } = snapshot;
    let since = |at: Timestamp| seconds(now.since(at));
    match (&worker.phase, &worker.wanted) {
        (Phase::Gone { cause }, _) => (WorkerCode::Gone, format!("it ended: {}", cause.message)),
        (Phase::Terminating { since: at, cause, .. }, _) => {
            (WorkerCode::Ending, format!("it has been ending for {}: {}", since(*at), cause.message))
        }
        (_, Wanted::End { cause }) => (WorkerCode::Ending, format!("it is about to end: {}", cause.message)),
        (_, Wanted::Drain { cause }) => {
            let until = match runs(leases) {
                Some(builds) => format!("it ends after its work, {builds}"),
                None => "it is about to end".to_owned(),
            };
            (WorkerCode::Draining, format!("{until}: {}", cause.message))
        }
        (_, Wanted::Hold { until, by }) => {
            let left = seconds(until.since(*now));
            (
                WorkerCode::Held,
                format!("{by} holds it for another {left}: it is given no builds, and not ended"),
            )
        }
        (_, Wanted::Park) => (WorkerCode::Parked, parked(worker, *now)),
        _ if worker.is_being_resumed() => {
            let since = match worker.phase {
                Phase::Resuming { since: at, .. } => format!(" for {}", since(at)),
                _ => String::new(),
            };
            (WorkerCode::Coming, format!("it was parked, and is being resumed{since}"))
        }
        _ if worker.is_coming() => {
            let usual = snapshot.pool.and_then(|pool| pool.boot);
            let usual = usual.map_or_else(String::new, |boot| format!(" of about {}", seconds(boot)));
            (
                WorkerCode::Coming,
                format!("it is on its way{}: {}{usual}", as_what(worker), since(worker.requested)),
            )
        }
        _ => match &worker.link {
            Link::Silent { since: at } => {
                (WorkerCode::Silent, format!("its agent has not answered for {}", since(*at)))
            }
            Link::Lost { at } => (WorkerCode::Silent, format!("its agent was given up {} ago", since(*at))),
            Link::Never | Link::Attached { .. } => match runs(leases) {
                Some(builds) => (WorkerCode::Busy, format!("it stays while {builds}")),
                None => idles(snapshot),
            },
        },
    }
}

fn parked(worker: &Worker, now: Timestamp) -> String {
    match worker.phase {
        Phase::Parked { since, .. } => {
            let so_long = seconds(now.since(since));
            format!("it has been parked for {so_long}: stopped, until work of its kind comes")
        }
        _ => "it is being parked: nothing waited for it".to_owned(),
    }
}

/// ` as spot a`, where its pool may choose.
fn as_what(worker: &Worker) -> String {
    worker.offering.as_ref().map_or_else(String::new, |offering| format!(" as {offering}"))
}

/// `build 5 runs`, `builds 5, 6 run`.
fn runs(leases: &[Lease]) -> Option<String> {
    let builds: Vec<BuildId> = leases.iter().map(|lease| lease.build).collect();
    match builds.as_slice() {
        [] => None,
        [one] => Some(format!("build {one} runs")),
        all => {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            Some(format!("builds {} run", all.join(", ")))
        }
    }
}

/// Why one that does nothing is still there.
fn idles(snapshot: &WorkerSnapshot) -> (WorkerCode, String) {
    let WorkerSnapshot { worker, pool, now, .. } = snapshot;
    let idle = now.since(worker.idle_since.unwrap_or(worker.requested));
    let for_so_long = seconds(idle);
    if worker.builds_done >= worker.max_builds {
        let sentence = format!(
            "it has served {} of {} builds and is about to end",
            worker.builds_done, worker.max_builds
        );
        return (WorkerCode::Ending, sentence);
    }
    let waits = |request: &&Request| {
        request.provision.digests.get(&worker.pool) == Some(&worker.spec_digest)
            && request.trust == worker.trust
            && request.project == worker.project
            && request.cancel.is_none()
            && request.waits_until(*now).is_none()
    };
    if let Some(request) = snapshot.queue.iter().find(waits) {
        return (WorkerCode::Awaited, format!("request {} waits for a worker of its kind", request.id));
    }
    let Some(pool) = pool else {
        return (WorkerCode::Ending, format!("pool `{}` is not configured any more", worker.pool));
    };
    if snapshot.live <= pool.min {
        let sentence = format!(
            "pool `{}` is to have {} at least; it has idled for {for_so_long}",
            worker.pool, pool.min
        );
        return (WorkerCode::Kept, sentence);
    }
    let of_class = |sum: &&rouse_model::decision::Sum| {
        sum.spec_digest == worker.spec_digest && sum.project == worker.project && sum.trust == worker.trust
    };
    let expected = snapshot.last.as_ref().and_then(|last| last.reckoning.sums.iter().find(of_class));
    if let Some(expected) = expected.filter(|sum| sum.terms.is_anything()) {
        let sentence =
            format!("it has idled for {for_so_long}, and builds are expected: {}", sum(&expected.terms));
        return (WorkerCode::Foreseen, sentence);
    }
    let limit = seconds(pool.idle);
    (WorkerCode::Idle, format!("nothing waits for it; it has idled for {for_so_long} and may for {limit}"))
}

#[cfg(test)]
mod tests;
