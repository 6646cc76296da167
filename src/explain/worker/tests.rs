use super::*;
use crate::explain::request::tests::{at, attached, request, worker};
use rouse_model::decision::{DecisionCode, Reckoning, Sum};
use rouse_model::scaling::Terms;
use rouse_model::worker::{Cause, CauseCode};
use rouse_model::{ConfigRevisionId, DecisionId, MasterId, Trust, WorkerId};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn ago(secs: u64) -> Timestamp {
    NOW - Duration::from_secs(secs)
}

fn up() -> Worker {
    Worker { max_builds: 5, idle_since: Some(ago(70)), ..worker(1, Phase::Up { at: at() }, attached()) }
}

fn snapshot(worker: Worker) -> WorkerSnapshot {
    let rules = PoolRules { min: 0, idle: Duration::from_secs(120), boot: Some(Duration::from_secs(48)) };
    WorkerSnapshot { worker, leases: vec![], queue: vec![], pool: Some(rules), live: 2, last: None, now: NOW }
}

fn said(snapshot: &WorkerSnapshot) -> (&'static str, String) {
    let (code, sentence) = judge(snapshot);
    (code.as_str(), sentence)
}

#[track_caller]
fn says(snapshot: &WorkerSnapshot, code: WorkerCode, sentence: &str) {
    assert_eq!(said(snapshot), (code.as_str(), sentence.to_owned()));
}

#[test]
fn one_that_is_on_its_way_or_works_says_so() {
    let booting = Phase::Booting { at: at(), deadline: NOW };
    says(
        &snapshot(worker(1, booting, Link::Never)),
        WorkerCode::Coming,
        "it is on its way: 31 s of about 48 s",
    );
    let mut busy = snapshot(up());
    let lease = |build| Lease { worker: WorkerId(1), slot: build, build: BuildId(build), since: ago(1) };
    busy.leases = vec![lease(5)];
    says(&busy, WorkerCode::Busy, "it stays while build 5 runs");
    busy.leases.push(lease(6));
    says(&busy, WorkerCode::Busy, "it stays while builds 5, 6 run");
    busy.worker.wanted = Wanted::Drain { cause: Cause::new(CauseCode::Operator, None, "admin wants it") };
    says(&busy, WorkerCode::Draining, "it ends after its work, builds 5, 6 run: admin wants it");
    let mut silent = snapshot(up());
    silent.worker.link = Link::Silent { since: ago(12) };
    says(&silent, WorkerCode::Silent, "its agent has not answered for 12 s");
}

#[test]
fn one_that_is_to_end_says_why() {
    let cause = Cause::new(CauseCode::Idle, None, "nothing waits for it");
    let mut ending = snapshot(up());
    ending.worker.phase = Phase::Terminating { at: None, since: ago(3), cause: cause.clone() };
    says(&ending, WorkerCode::Ending, "it has been ending for 3 s: nothing waits for it");
    ending.worker.phase = Phase::Gone { cause };
    says(&ending, WorkerCode::Gone, "it ended: nothing waits for it");
    let mut held = snapshot(up());
    held.worker.wanted = Wanted::Hold { until: NOW + Duration::from_secs(300), by: "anna".into() };
    says(&held, WorkerCode::Held, "anna holds it for another 5 min: it is given no builds, and not ended");
    let mut used = snapshot(up());
    used.worker.builds_done = 5;
    says(&used, WorkerCode::Ending, "it has served 5 of 5 builds and is about to end");
    let mut homeless = snapshot(up());
    homeless.pool = None;
    says(&homeless, WorkerCode::Ending, "pool `box` is not configured any more");
}

#[test]
fn one_that_idles_says_what_keeps_it() {
    let mut idle = snapshot(up());
    says(&idle, WorkerCode::Idle, "nothing waits for it; it has idled for 70 s and may for 2 min");
    let terms = Terms { announced: 1.8, free: 1, ..Terms::default() };
    let sum = Sum {
        project: "default".into(),
        trust: Trust::Trusted,
        spec_digest: "d1".into(),
        terms,
        launched: 0,
        offerings: vec![],
        held_back: 0,
    };
    idle.last = Some(Decision {
        id: DecisionId(1),
        pool: "box".into(),
        code: DecisionCode::Met,
        at: ago(9),
        until: ago(1),
        passes: 9,
        config: ConfigRevisionId(1),
        master: MasterId(1),
        reckoning: Reckoning {
            min: 0,
            max: 2,
            slots: 1,
            workers: 1,
            waiting: 0,
            boot_s: Some(48.0),
            idle_s: 120.0,
            budget: None,
            sums: vec![sum],
            passed: vec![],
            ended: vec![],
            resumed: vec![],
            parked: vec![],
        },
    });
    says(
        &idle,
        WorkerCode::Foreseen,
        "it has idled for 70 s, and builds are expected: 1.8 announced − 1 free",
    );
    idle.pool = idle.pool.map(|rules| PoolRules { min: 2, ..rules });
    says(&idle, WorkerCode::Kept, "pool `box` is to have 2 at least; it has idled for 70 s");
    let mut other = request(4);
    other.trust = Trust::Untrusted;
    idle.queue = vec![other, request(7)];
    says(&idle, WorkerCode::Awaited, "request 7 waits for a worker of its kind");
}
