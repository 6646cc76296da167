//! A past: a push that became a red build, a build that runs, a request that waits, workers in three ages.
//!
//! reason for length: one past, whose rows name each other.

use super::world::{NOW, World};
use rouse_agent_protocol::masking::Masks;
use rouse_agent_protocol::{Channel, StreamFrame, StreamId};
use rouse_model::approval::{Approval, ApprovalOf, Given};
use rouse_model::build::{Build, BuildProperty, Lease, Step};
use rouse_model::buildset::{Buildset, LaunchFailure, Provision, Request, RequestState};
use rouse_model::cache::Cache;
use rouse_model::config_revision::PlanRow;
use rouse_model::decision::{Decision, DecisionCode, LaunchedAs, Reckoning, Sum};
use rouse_model::enrolment::Enrolment;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::failure::FailureClass;
use rouse_model::logs::{Artifact, Log};
use rouse_model::money::Price;
use rouse_model::offering::{OfferingHealth, Scarce, Wants};
use rouse_model::plan::{Action, Plan, PlannedStep, Program, Rules, Run};
use rouse_model::property::{Properties, Property};
use rouse_model::scaling::offers::PassedOver;
use rouse_model::scaling::{Reason, Terms};
use rouse_model::source::{Change, ChangeSet, CodebaseState, Head, SourceStamp};
use rouse_model::test_report::{TestOutcome, TestReport, TestResult};
use rouse_model::worker::{Cause, CauseCode, Link, Phase, ProviderRef, Wanted, Worker};
use rouse_model::*;
use rouse_store::Batch;
use std::time::Duration;

pub(crate) const REVISION: &str = "4f1c2aa0b3c4d5e6f7a8b9c0d1e2f3a4b5c6d7e8";
/// Of the log of the red build's test.
pub(crate) const LOG: LogId = LogId(2);
pub(crate) const LOG_TEXT: &str = "running 14 tests\n\u{1b}[31mwords_test.sh:12: expected 3, got 4\u{1b}[0m\nprogress 1\rprogress 2\n1 of 14 failed\n";

pub(crate) fn ago(seconds: u64) -> Timestamp {
    NOW - Duration::from_secs(seconds)
}

pub(crate) async fn seed(world: &World) {
    let mut batch = Batch::new("test.seed");
    sources(&mut batch);
    buildsets(&mut batch);
    workers(&mut batch);
    builds(&mut batch);
    tests(&mut batch);
    machines(&mut batch);
    world.commit(batch).await;
    print_log(world).await;
}

fn sources(batch: &mut Batch) {
    let state = |codebase: &str, looked, error: Option<&str>| CodebaseState {
        codebase: codebase.into(),
        url: format!("https://git.example.org/{codebase}.git"),
        looked,
        error: error.map(str::to_owned),
        failing_since: error.map(|_| ago(600)),
        watching: None,
        default_branch: Some("main".into()),
        generation: 0,
    };
    batch.insert(&state("app", Some(ago(10)), None)).insert(&state(
        "lib",
        Some(ago(900)),
        Some("the host is away"),
    ));
    let head = |branch: &str, revision: Option<&str>| Head {
        codebase: "app".into(),
        branch: branch.into(),
        revision: revision.map(str::to_owned),
        seen_at: ago(120),
        generation: 0,
    };
    batch.insert(&head("main", Some(REVISION))).insert(&head("release/1", None));
    batch.insert(&ChangeSet {
        id: ChangeSetId(1),
        project: "shop".into(),
        codebase: "app".into(),
        branch: "main".into(),
        revision: REVISION.into(),
        base: Some("1111111111111111111111111111111111111111".into()),
        trust: Trust::Trusted,
        commits: 2,
        seen_at: ago(120),
        noticed_by: "poller app".into(),
    });
    for (id, message) in [(1, "count words\n\nAll of them."), (2, "break counting")] {
        batch.insert(&Change {
            id: ChangeId(id),
            change_set: ChangeSetId(1),
            codebase: "app".into(),
            branch: "main".into(),
            revision: REVISION.into(),
            author: "Alice <alice@example.org>".into(),
            message: message.into(),
            files: vec!["words.sh".into()],
            authored_at: ago(180),
        });
    }
    batch.event(NewEvent {
        kind: EventKind::ChangeSetSeen,
        version: 1,
        subject: "change_set/1".into(),
        project: "shop".into(),
        at: ago(120),
        payload: serde_json::json!({"codebase": "app", "branch": "main"}),
    });
}

fn buildsets(batch: &mut Batch) {
    let mut properties = Properties::default();
    properties.set("scheduler", "push", "scheduler", false);
    for (id, project, done) in [(1, "shop", true), (2, "shop", false), (3, "default", false)] {
        let started = id == 2;
        batch.insert(&Buildset {
            id: BuildsetId(id),
            origin: if started { "trigger/1/1/0".into() } else { format!("push/changes/{id}") },
            project: project.into(),
            scheduler: Some(if project == "shop" { "push" } else { "nightly" }.into()),
            reason: "2 commits on main by alice".into(),
            owner: None,
            properties: properties.clone(),
            trust: Trust::Trusted,
            parent: started.then_some(BuildId(1)),
            created: ago(100),
            done: done.then(|| ago(40)),
            result: done.then_some(BuildResult::Failure),
            generation: 0,
        });
        batch.insert(&SourceStamp {
            buildset: BuildsetId(id),
            codebase: if project == "shop" { "app" } else { "site" }.into(),
            branch: Some("main".into()),
            revision: Some(REVISION.into()),
            change_set: (id == 1).then_some(ChangeSetId(1)),
            trust: Trust::Trusted,
        });
    }
    let request = |id: i64, state, build: Option<i64>| Request {
        id: RequestId(id),
        buildset: BuildsetId(id),
        builder: if id == 3 { "docs" } else { "unit" }.into(),
        project: if id == 3 { "default" } else { "shop" }.into(),
        branch: Some("main".into()),
        state,
        priority: 0,
        created: ago(100),
        not_before: None,
        attempts: 0,
        trust: Trust::Trusted,
        cancel: None,
        build: build.map(BuildId),
        claimed_by: None,
        result: (state == RequestState::Done).then_some(BuildResult::Failure),
        done: (state == RequestState::Done).then(|| ago(40)),
        config: ConfigRevisionId(1),
        provision: Provision::default(),
        locks: None,
        approval: None,
        lapses: None,
        generation: 0,
    };
    let mut waiting = request(3, RequestState::Queued, None);
    waiting.not_before = Some(NOW + Duration::from_secs(8));
    waiting.attempts = 1;
    waiting.provision.failures = vec![LaunchFailure {
        worker: Some(WorkerId(3)),
        pool: "here".into(),
        class: FailureClass::Boot,
        message: "the agent did not come within 2 min".into(),
        at: ago(5),
    }];
    let mut approved = request(1, RequestState::Done, Some(1));
    approved.approval = Some(Approval {
        of: ApprovalOf::All,
        given: Some(Given { by: "api (token operate)".into(), reason: Some("read it".into()), at: ago(99) }),
    });
    batch.insert(&approved).insert(&request(2, RequestState::Claimed, Some(2))).insert(&waiting);
}

pub(crate) fn worker(id: i64, phase: Phase, link: Link) -> Worker {
    Worker {
        id: WorkerId(id),
        name: format!("here-7f3k{id}"),
        pool: "here".into(),
        provider: "local".into(),
        offering: Some("on demand".into()),
        price: Price(170_000),
        project: "shop".into(),
        trust: Trust::Trusted,
        spec_digest: "0123456789abcdef0123456789abcdef".into(),
        spec: r#"{"pool": "here", "image": null}"#.into(),
        config: ConfigRevisionId(1),
        decision: Some(rouse_model::DecisionId(1)),
        attempt: 1,
        master: MasterId(1),
        term: 1,
        slots: 1,
        max_builds: 5,
        builds_done: 1,
        wanted: Wanted::Run,
        phase,
        link,
        incarnation: None,
        agent_key: None,
        facts: Some(r#"{"os": "linux"}"#.into()),
        requested: ago(90),
        accepted: Some(ago(89)),
        attached: Some(ago(87)),
        idle_since: None,
        gone: None,
        expires: NOW + Duration::from_secs(86_400),
        console: None,
        resumes: 0,
        resume_took: None,
        generation: 0,
    }
}

fn decisions(batch: &mut Batch) {
    let terms = Terms { waiting: 3, announced: 0.9, booting: 1, ..Terms::default() };
    let sum = Sum {
        project: "shop".into(),
        trust: Trust::Trusted,
        spec_digest: "0123456789abcdef0123456789abcdef".into(),
        terms,
        launched: 3,
        offerings: vec![LaunchedAs { offering: "on demand".into(), price: Price(170_000), count: 3 }],
        held_back: 0,
    };
    let passed =
        PassedOver { offering: "spot".into(), since: Some(ago(400)), why: "no capacity for spot".into() };
    let launch = Decision {
        id: DecisionId(1),
        pool: "here".into(),
        code: DecisionCode::FallBack,
        at: ago(90),
        until: ago(90),
        passes: 1,
        config: ConfigRevisionId(1),
        master: MasterId(1),
        reckoning: Reckoning {
            min: 0,
            max: 8,
            slots: 1,
            workers: 1,
            waiting: 0,
            boot_s: Some(48.0),
            idle_s: 120.0,
            budget: None,
            sums: vec![sum],
            passed: vec![passed],
            ended: vec![],
            resumed: vec![],
            parked: vec![],
        },
    };
    let mut end = Decision {
        id: DecisionId(2),
        code: DecisionCode::End,
        at: ago(39),
        until: ago(39),
        ..launch.clone()
    };
    (end.reckoning.sums, end.reckoning.ended) = (vec![], vec![(WorkerId(1), Reason::Idle)]);
    end.reckoning.passed.clear();
    let mut rest = Decision {
        id: DecisionId(3),
        code: DecisionCode::Rest,
        at: ago(38),
        until: ago(8),
        ..launch.clone()
    };
    (rest.passes, rest.reckoning.sums) = (30, vec![]);
    rest.reckoning.passed.clear();
    batch.insert(&OfferingHealth {
        account: "local".into(),
        what: Scarce::Offering("spot".into()),
        wanted_by: [Wants::OfPool("here".into())].into(),
        refused_since: Some(ago(400)),
        failures: 7,
        until: NOW + Duration::from_secs(40),
        changed: ago(2),
    });
    batch.insert(&launch).insert(&end).insert(&rest);
}

fn workers(batch: &mut Batch) {
    let at = |id: i64| ProviderRef(format!("process-{id}"));
    let attached = Link::Attached { session: "s".into(), since: ago(87) };
    let mut gone = worker(1, Phase::Up { at: at(1) }, Link::Lost { at: ago(39) });
    let cause =
        Cause { decision: Some(DecisionId(2)), ..Cause::new(CauseCode::Idle, None, "nothing waits for it") };
    gone.phase = Phase::Gone { cause: cause.clone() };
    gone.wanted = Wanted::End { cause: cause.clone() };
    gone.gone = Some(ago(38));
    let busy = worker(2, Phase::Up { at: at(2) }, attached);
    let mut booting = worker(3, Phase::Booting { at: at(3), deadline: NOW }, Link::Never);
    booting.requested = ago(3);
    (booting.accepted, booting.attached) = (Some(ago(2)), None);
    booting.project = "default".into();
    booting.builds_done = 0;
    batch.insert(&gone).insert(&busy).insert(&booting);
    decisions(batch);
    let event = |kind, at, payload| NewEvent {
        kind,
        version: 1,
        subject: "worker/1".into(),
        project: "shop".into(),
        at,
        payload,
    };
    for (phase, at) in
        [("requested", 90), ("launching", 90), ("booting", 89), ("up", 87), ("terminating", 39)]
    {
        batch.event(event(
            EventKind::WorkerPhase,
            ago(at),
            serde_json::json!({"phase": phase, "cause": null}),
        ));
    }
    batch.event(event(EventKind::WorkerLink, ago(87), serde_json::json!({"link": "attached"})));
    batch.event(event(
        EventKind::WorkerWanted,
        ago(39),
        serde_json::json!({"wanted": "end", "cause": cause}),
    ));
    batch.event(event(EventKind::WorkerPhase, ago(38), serde_json::json!({"phase": "gone", "cause": cause})));
}

/// One that may come, and one that may not any more.
fn machines(batch: &mut Batch) {
    for (name, revoked) in [("board-7", None), ("board-8", Some(ago(60)))] {
        batch.insert(&Enrolment {
            account: "rack".into(),
            name: name.into(),
            public_key: "00".into(),
            enrolled: ago(7200),
            enrolled_by: "token admin".into(),
            revoked,
            generation: 0,
        });
    }
}

fn plan() -> Plan {
    let step = |name: &str| PlannedStep {
        name: name.into(),
        action: Action::Run(Run {
            program: Program::Argv(vec!["true".into()]),
            tty: false,
            warning_pattern: None,
            logs: Vec::new(),
        }),
        env: Default::default(),
        dir: None,
        condition: None,
        timeout_s: None,
        silence_s: None,
        rules: Rules::default(),
        repeatable: true,
    };
    Plan { steps: vec![step("checkout"), step("test"), step("upload")], ..Plan::default() }
}

fn tests(batch: &mut Batch) {
    batch.insert(&TestReport {
        build: BuildId(1),
        step: StepId(3),
        builder: "unit".into(),
        branch: "main".into(),
        trust: Trust::Trusted,
        total: 14,
        failed: 1,
        skipped: 1,
        duration_us: 2_500_000,
        created: ago(42),
    });
    let result = |seq, name: &str, outcome: TestOutcome, message: &str| TestResult {
        build: BuildId(1),
        step: StepId(3),
        seq,
        suite: "words".into(),
        name: name.into(),
        outcome,
        duration_us: outcome.is_failure().then_some(20_000),
        message: message.into(),
        since: outcome.is_failure().then_some(BuildId(1)),
    };
    batch.insert(&result(0, "counts", TestOutcome::Failed, "expected 3, got 4"));
    batch.insert(&result(1, "later", TestOutcome::Skipped, ""));
}

fn builds(batch: &mut Batch) {
    let (hash, body) = plan().address();
    batch.insert(&PlanRow { hash: hash.clone(), body });
    let build = |id: i64, worker: i64| Build {
        id: BuildId(id),
        request: RequestId(id),
        buildset: BuildsetId(id),
        builder: "unit".into(),
        project: "shop".into(),
        attempt: 1,
        worker: Some(WorkerId(worker)),
        slot: 0,
        master: MasterId(1),
        config: ConfigRevisionId(1),
        plan: hash.clone(),
        trust: Trust::Trusted,
        summary: "running test".into(),
        cancel: None,
        result: None,
        class: None,
        requested: ago(100),
        provisioned_from: ago(90),
        matched: ago(87),
        running_from: Some(ago(86)),
        waiting_from: None,
        finishing_from: None,
        finished: None,
        generation: 0,
    };
    let mut red = build(1, 1);
    red.result = Some(BuildResult::Failure);
    red.summary = "test: exit 1: words_test.sh:12: expected 3, got 4".into();
    red.finishing_from = Some(ago(41));
    red.finished = Some(ago(40));
    batch.insert(&red).insert(&build(2, 2));
    batch.insert(&Lease { worker: WorkerId(2), slot: 0, build: BuildId(2), since: ago(87) });
    let property =
        Property { value: "1.2".into(), source: "step version (version.json)".into(), tainted: false };
    batch.insert(&BuildProperty { build: BuildId(1), name: "version".into(), property });
    let step = |id: i64, build: i64, seq: i64, name: &str, result: Option<BuildResult>, summary: &str| Step {
        id: StepId(id),
        build: BuildId(build),
        seq,
        name: name.into(),
        result,
        class: None,
        summary: summary.into(),
        started: ago(86),
        finished: result.map(|_| ago(41)),
        memory: String::new(),
        generation: 0,
    };
    let good = Some(BuildResult::Success);
    batch.insert(&step(1, 1, 0, "checkout", good, "4f1c2aa"));
    batch.insert(&step(2, 1, 1, "test", red.result, "exit 1: words_test.sh:12: expected 3, got 4"));
    batch.insert(&step(3, 1, 2, "upload", Some(BuildResult::Skipped), "skipped"));
    batch.insert(&step(4, 2, 0, "checkout", None, ""));
    let log = |id: i64, step: i64| Log {
        id: LogId(id),
        build: BuildId(if step == 4 { 2 } else { 1 }),
        step: StepId(step),
        name: "stdio".into(),
        bytes: 0,
        lines: 0,
        sealed: false,
        inline: None,
        note: None,
        created: ago(86),
        generation: 0,
    };
    batch.insert(&log(1, 1)).insert(&log(2, 2)).insert(&log(3, 4));
    let file = |id: i64, set: &str| Artifact {
        id: ArtifactId(id),
        build: BuildId(1),
        step: StepId(3),
        set: set.into(),
        path: "dist/app.deb".into(),
        bytes: 11,
        sha256: "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9".into(),
        key: format!("1/artifacts/{id}"),
        created: ago(41),
    };
    // The second is for the master alone.
    batch.insert(&file(1, "debs")).insert(&file(2, ".properties"));
    let cache = |id: i64, key: &str, project: &str| Cache {
        id: CacheId(id),
        project: project.into(),
        name: "cargo".into(),
        key: key.into(),
        build: BuildId(1),
        bytes: 52_428_800,
        sha256: "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9".into(),
        object: format!("1/artifacts/{id}"),
        created: ago(7200),
        used: ago(3600),
        replaced: None,
        generation: 0,
    };
    batch.insert(&cache(1, "gcc12", "shop")).insert(&cache(2, "", "default"));
}

/// As an agent would have sent it.
pub(crate) async fn print(world: &World, log: LogId, offset: u64, text: &str) {
    let frame = StreamFrame {
        stream: StreamId(log.0),
        channel: Channel::Out,
        offset,
        at_us: 0,
        bytes: text.to_owned().into(),
    };
    let clock = crate::logs::AgentClock::at_hello(0, ago(50));
    world.ctx.logs.accept(log, clock, frame).await.unwrap();
}

async fn print_log(world: &World) {
    world.ctx.logs.open(LOG, Masks::default());
    print(world, LOG, 0, LOG_TEXT).await;
    let sealed = world.ctx.logs.seal(LOG, LOG_TEXT.len() as u64, None).await.unwrap();
    world.commit(sealed).await;
}
