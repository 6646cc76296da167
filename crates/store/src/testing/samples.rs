//! Rows of every type, filled with what is hard to keep: nothing, much, quotes, other scripts, the ends of the number range.

use super::NOW;
use rouse_model::approval::{Approval, ApprovalOf, Given};
use rouse_model::budget::{BudgetGrant, Standing};
use rouse_model::build::{Build, Command, CommandState, Lease, Step};
use rouse_model::buildset::{
    Buildset, HeldBack, LaunchFailure, Provision, Request, RequestState, SettledImage,
};
use rouse_model::decision::{Decision, DecisionCode, LaunchedAs, Reckoning, Sum};
use rouse_model::failure::FailureClass;
use rouse_model::locks::{Hold, Share};
use rouse_model::logs::{Artifact, Log};
use rouse_model::money::{Money, Price};
use rouse_model::offering::{OfferingHealth, Scarce, Wants};
use rouse_model::property::Properties;
use rouse_model::scaling::offers::PassedOver;
use rouse_model::scaling::{Reason, Terms};
use rouse_model::source::Head;
use rouse_model::worker::{Cause, CauseCode, LaunchToken, Link, Phase, ProviderRef, Wanted, Worker};
use rouse_model::*;

/// What breaks whoever puts text together with text.
pub(crate) const HARD: &str = "o'clock; DROP TABLE builds; -- \"$1\" ?1 %s \\ \u{1f980} \u{202e}ab\tc\r\nd";

#[must_use]
pub fn buildset(id: i64) -> Buildset {
    Buildset {
        id: BuildsetId(id),
        origin: format!("suite/{id}"),
        project: "default".into(),
        scheduler: Some("push".into()),
        reason: "because".into(),
        owner: None,
        properties: Properties::default(),
        trust: Trust::Trusted,
        parent: None,
        created: NOW,
        done: None,
        result: None,
        generation: 0,
    }
}

#[must_use]
pub fn request(id: i64) -> Request {
    Request {
        id: RequestId(id),
        buildset: BuildsetId(id),
        builder: "tests".into(),
        project: "default".into(),
        branch: None,
        state: RequestState::Queued,
        priority: 0,
        created: NOW,
        not_before: None,
        attempts: 0,
        trust: Trust::Trusted,
        cancel: None,
        build: None,
        claimed_by: None,
        result: None,
        done: None,
        config: ConfigRevisionId(1),
        provision: Provision::default(),
        locks: None,
        approval: None,
        lapses: None,
        generation: 0,
    }
}

#[must_use]
pub fn build(id: i64) -> Build {
    Build {
        id: BuildId(id),
        request: RequestId(id),
        buildset: BuildsetId(id),
        builder: "tests".into(),
        project: "default".into(),
        attempt: 1,
        worker: Some(WorkerId(id)),
        slot: 0,
        master: MasterId(1),
        config: ConfigRevisionId(1),
        plan: "abc".into(),
        trust: Trust::Trusted,
        summary: String::new(),
        cancel: None,
        result: None,
        class: None,
        requested: NOW,
        provisioned_from: NOW,
        matched: NOW,
        running_from: None,
        waiting_from: None,
        finishing_from: None,
        finished: None,
        generation: 0,
    }
}

pub(crate) fn full_request() -> Request {
    Request {
        state: RequestState::Done,
        branch: Some(HARD.into()),
        priority: i64::MIN,
        not_before: Some(Timestamp(i64::MAX)),
        attempts: 3,
        trust: Trust::Untrusted,
        cancel: Some(HARD.into()),
        build: Some(BuildId(i64::MAX)),
        claimed_by: Some(MasterId(2)),
        result: Some(BuildResult::Exception),
        done: Some(NOW),
        provision: Provision {
            digests: [("big".to_owned(), HARD.to_owned())].into(),
            images: [(HARD.to_owned(), SettledImage { image: HARD.into(), id: "sha256:00".into() })].into(),
            merges: [(HARD.to_owned(), [(HARD.to_owned(), HARD.to_owned())].into())].into(),
            failures: vec![LaunchFailure {
                worker: Some(WorkerId(3)),
                pool: "big".into(),
                class: FailureClass::Image,
                message: HARD.into(),
                at: NOW,
            }],
            imageless_since: Some(NOW),
            held: Some(HeldBack { pool: "big".into(), why: HARD.into(), until: NOW }),
        },
        locks: Some(vec![
            Hold { lock: HARD.into(), share: Share::Exclusive, worker: None, branch: Some(HARD.into()) },
            Hold { lock: "rig".into(), share: Share::Count(2), worker: Some(WorkerId(3)), branch: None },
        ]),
        approval: Some(Approval {
            of: ApprovalOf::Strangers,
            given: Some(Given { by: HARD.into(), reason: Some(HARD.into()), at: NOW }),
        }),
        lapses: Some(Timestamp(i64::MIN)),
        ..request(i64::MAX)
    }
}

pub(crate) fn full_build() -> Build {
    Build {
        worker: None,
        slot: 7,
        trust: Trust::Untrusted,
        summary: HARD.into(),
        cancel: Some(HARD.into()),
        result: Some(BuildResult::Cancelled),
        class: Some(FailureClass::AgentLost),
        running_from: Some(NOW),
        waiting_from: Some(NOW),
        finishing_from: Some(Timestamp(0)),
        finished: Some(Timestamp(-1)),
        ..build(i64::MAX)
    }
}

#[must_use]
pub fn step(id: i64) -> Step {
    Step {
        id: StepId(id),
        build: BuildId(id),
        seq: 0,
        name: "test".into(),
        result: None,
        class: None,
        summary: String::new(),
        started: NOW,
        finished: None,
        memory: String::new(),
        generation: 0,
    }
}

pub(crate) fn command(id: i64) -> Command {
    Command {
        id: CommandId(id),
        build: BuildId(id),
        step: StepId(id),
        seq: 0,
        worker: WorkerId(1),
        incarnation: "first".into(),
        log: LogId(id),
        state: CommandState::Wanted,
        action: format!("{{\"argv\":[{HARD:?}]}}"),
        outcome: None,
        stop: None,
        generation: 0,
    }
}

pub(crate) fn log(id: i64) -> Log {
    Log {
        id: LogId(id),
        build: BuildId(id),
        step: StepId(id),
        name: "stdio".into(),
        bytes: 0,
        lines: 0,
        sealed: false,
        inline: None,
        note: None,
        created: NOW,
        generation: 0,
    }
}

pub(crate) fn artifact(id: i64) -> Artifact {
    Artifact {
        id: ArtifactId(id),
        build: BuildId(1),
        step: StepId(1),
        set: "dist".into(),
        path: format!("{id}/{HARD}"),
        bytes: i64::MAX,
        sha256: "00".into(),
        key: "1/x".into(),
        created: NOW,
    }
}

pub(crate) fn lease(worker: i64, build: i64) -> Lease {
    Lease { worker: WorkerId(worker), slot: 0, build: BuildId(build), since: NOW }
}

pub(crate) fn head(branch: &str) -> Head {
    Head {
        codebase: "app".into(),
        branch: branch.into(),
        revision: Some("0123456789abcdef0123456789abcdef01234567".into()),
        seen_at: NOW,
        generation: 0,
    }
}

fn cause() -> Cause {
    Cause::new(CauseCode::Died, Some(FailureClass::Boot), HARD)
}

#[must_use]
pub fn worker(id: i64) -> Worker {
    Worker {
        id: WorkerId(id),
        name: format!("big-{id:04}"),
        pool: "big".into(),
        provider: "here".into(),
        offering: Some("c7i.2xlarge spot".into()),
        price: Price(170_000),
        project: "default".into(),
        trust: Trust::Trusted,
        spec_digest: "d".into(),
        spec: "{}".into(),
        config: ConfigRevisionId(1),
        decision: None,
        attempt: 1,
        master: MasterId(1),
        term: 1,
        slots: 1,
        max_builds: 1,
        builds_done: 0,
        wanted: Wanted::Run,
        phase: Phase::Requested { token: LaunchToken("t".into()) },
        link: Link::Never,
        incarnation: None,
        agent_key: None,
        facts: None,
        requested: NOW,
        accepted: None,
        attached: None,
        idle_since: None,
        gone: None,
        expires: Timestamp(i64::MAX),
        console: None,
        resumes: 0,
        resume_took: None,
        generation: 0,
    }
}

/// One of each code.
pub(crate) fn decisions() -> Vec<Decision> {
    let of = |(id, code): (i64, DecisionCode)| Decision { id: DecisionId(id), code, ..decision(id, "big") };
    (1..).zip(DecisionCode::ALL).map(of).collect()
}

pub(crate) fn offering_health(account: &str, what: Scarce) -> OfferingHealth {
    OfferingHealth {
        account: account.into(),
        what,
        wanted_by: [Wants::Named(HARD.into()), Wants::Unnamed].into(),
        refused_since: Some(NOW),
        failures: 3,
        until: Timestamp(NOW.0 + 1),
        changed: NOW,
    }
}

pub(crate) fn budget_grant(id: i64, pool: &str) -> BudgetGrant {
    BudgetGrant {
        id: BudgetGrantId(id),
        pool: pool.into(),
        amount: Money(5_000_000),
        granted: NOW,
        until: Timestamp(NOW.0 + 1),
        by: HARD.into(),
    }
}

pub(crate) fn decision(id: i64, pool: &str) -> Decision {
    let terms = Terms { waiting: 3, announced: 1.8, reserve: 0.1, booting: 1, ..Terms::default() };
    Decision {
        id: DecisionId(id),
        pool: pool.into(),
        code: DecisionCode::Launch,
        at: NOW,
        until: NOW,
        passes: 1,
        config: ConfigRevisionId(1),
        master: MasterId(1),
        reckoning: Reckoning {
            min: 0,
            max: 8,
            slots: 1,
            workers: 1,
            waiting: 1,
            boot_s: Some(48.5),
            idle_s: 120.0,
            budget: Some(Standing {
                limit: "30.00 USD/day".into(),
                amount: Money(30_000_000),
                spent: Money(1),
                promised: Money(2),
                launch: Money(3),
                until: NOW,
            }),
            sums: vec![Sum {
                project: HARD.into(),
                trust: Trust::Untrusted,
                spec_digest: "d".into(),
                terms,
                launched: 3,
                offerings: vec![LaunchedAs { offering: "on demand".into(), price: Price(170_000), count: 3 }],
                held_back: 0,
            }],
            passed: vec![PassedOver { offering: "spot".into(), since: Some(NOW), why: HARD.into() }],
            ended: vec![(WorkerId(1), Reason::Displaced)],
            resumed: vec![WorkerId(2)],
            parked: vec![WorkerId(3)],
        },
    }
}

/// One in each state that its facts may have.
pub(crate) fn workers() -> Vec<Worker> {
    let at = || ProviderRef(HARD.into());
    let token = || LaunchToken(HARD.into());
    let wanted = [
        Wanted::Run,
        Wanted::Drain { cause: cause() },
        Wanted::Hold { until: NOW, by: HARD.into() },
        Wanted::Park,
        Wanted::End { cause: cause() },
    ];
    let phases = [
        Phase::Requested { token: token() },
        Phase::Launching { token: token(), since: NOW, deadline: NOW },
        Phase::Booting { at: at(), deadline: NOW },
        Phase::Up { at: at() },
        Phase::Parking { at: at(), since: NOW },
        Phase::Parked { at: at(), since: NOW },
        Phase::Resuming { at: at(), since: NOW, deadline: NOW },
        Phase::Terminating { at: None, since: NOW, cause: cause() },
        Phase::Gone { cause: cause() },
    ];
    let links = [
        Link::Never,
        Link::Attached { session: HARD.into(), since: NOW },
        Link::Silent { since: NOW },
        Link::Lost { at: NOW },
    ];
    let all = phases.into_iter().zip(wanted.iter().cycle()).zip(links.iter().cycle());
    all.zip(1..)
        .map(|(((phase, wanted), link), id)| Worker {
            phase,
            wanted: wanted.clone(),
            link: link.clone(),
            incarnation: Some(HARD.into()),
            facts: Some("{\"os\":\"linux\"}".into()),
            console: Some("before\u{fffd}after".into()),
            gone: (id % 2 == 0).then_some(NOW),
            decision: Some(DecisionId(id)),
            ..worker(id)
        })
        .collect()
}
