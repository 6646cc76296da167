use super::*;
use rouse_model::approval::{Approval, ApprovalOf};
use rouse_model::buildset::{HeldBack, Provision};
use rouse_model::money::Price;
use rouse_model::worker::ProviderRef;
use rouse_model::worker::{Link, Phase, Wanted};
use rouse_model::{BuildId, BuildsetId, ConfigRevisionId, MasterId, RequestId, WorkerId};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn ago(secs: u64) -> Timestamp {
    NOW - Duration::from_secs(secs)
}

pub(in crate::explain) fn request(id: i64) -> Request {
    Request {
        id: RequestId(id),
        buildset: BuildsetId(1),
        builder: "unit".into(),
        project: "default".into(),
        branch: None,
        state: RequestState::Queued,
        priority: 0,
        created: ago(40),
        not_before: None,
        attempts: 0,
        trust: Trust::Trusted,
        cancel: None,
        build: None,
        claimed_by: None,
        result: None,
        done: None,
        config: ConfigRevisionId(1),
        provision: Provision {
            digests: [("box".to_owned(), "d1".to_owned())].into(),
            ..Provision::default()
        },
        locks: None,
        approval: None,
        lapses: None,
        generation: 1,
    }
}

fn pool(name: &str, max: usize) -> PoolFacts {
    PoolFacts {
        name: name.into(),
        accepts: Trust::Trusted,
        max,
        beside_max: 0,
        slots: 1,
        hosts: vec![Host { name: "docker".into(), ..Host::default() }],
        takes: Room::ONE,
        spent: None,
        boots: vec![Duration::from_secs(48)],
    }
}

pub(in crate::explain) fn worker(id: i64, phase: Phase, link: Link) -> Worker {
    Worker {
        id: WorkerId(id),
        name: format!("box-{id}"),
        pool: "box".into(),
        provider: "docker".into(),
        offering: None,
        price: Price::NONE,
        project: "default".into(),
        trust: Trust::Trusted,
        spec_digest: "d1".into(),
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
        phase,
        link,
        incarnation: None,
        agent_key: None,
        facts: None,
        requested: ago(31),
        accepted: None,
        attached: None,
        idle_since: None,
        gone: None,
        expires: NOW + Duration::from_secs(3600),
        console: None,
        resumes: 0,
        resume_took: None,
        generation: 1,
    }
}

pub(in crate::explain) fn at() -> ProviderRef {
    ProviderRef("c1".into())
}

pub(in crate::explain) fn attached() -> Link {
    Link::Attached { session: "s".into(), since: ago(5) }
}

fn snapshot(request: Request, pools: Vec<PoolFacts>, workers: Vec<Worker>) -> Snapshot {
    Snapshot {
        ended_as: None,
        named: Some(vec![]),
        pools,
        workers,
        leases: vec![],
        running: BTreeMap::new(),
        queue: vec![request.clone()],
        builders: [("unit".to_owned(), vec![])].into(),
        needs: BTreeMap::new(),
        holders: vec![],
        now: NOW,
        request,
    }
}

fn said(snapshot: &Snapshot) -> (ReasonCode, String) {
    let Reason { code, sentence, .. } = judge(snapshot).primary;
    (code, sentence)
}

#[test]
fn nobody_accepts_it_and_each_pool_says_why() {
    let mut asked = request(1);
    asked.trust = Trust::Untrusted;
    let mut world = snapshot(asked, vec![pool("box", 1), pool("rack", 1)], vec![]);
    world.named = Some(vec!["rack".into()]);
    let (code, sentence) = said(&world);
    assert_eq!(code, ReasonCode::NoPoolAccepts);
    assert_eq!(
        sentence,
        "no pool can ever run it: `box`: the builder names other pools; `rack`: the build is untrusted and the pool accepts \
         trusted builds only (`accepts: any` would take it)"
    );
    assert!(code.is_permanent());
    world.pools.clear();
    assert_eq!(said(&world).1, "no pool can ever run it: the configuration has none");
}

#[test]
fn a_worker_on_its_way_is_named_with_how_long_it_usually_takes() {
    let booting = Phase::Booting { at: at(), deadline: NOW };
    let world = snapshot(request(1), vec![pool("box", 2)], vec![worker(7, booting, Link::Never)]);
    assert_eq!(
        said(&world),
        (ReasonCode::Provisioning, "worker box-7 is on its way: 31 s of about 48 s".into())
    );
}

#[test]
fn a_full_pool_counts_who_is_busy_and_who_is_ahead() {
    let mut world =
        snapshot(request(3), vec![pool("box", 1)], vec![worker(7, Phase::Up { at: at() }, attached())]);
    world.leases = vec![Lease { worker: WorkerId(7), slot: 0, build: BuildId(1), since: ago(3) }];
    world.queue = vec![request(1), request(2), request(3)];
    let answer = judge(&world);
    assert_eq!(
        (answer.primary.code, answer.primary.sentence.as_str()),
        (ReasonCode::PoolFull, "its maximum of 1 worker is reached: 1 busy; 2 requests are ahead")
    );
    assert_eq!(answer.pools[0].counts, Counts { busy: 1, ..Counts::default() });
    assert_eq!(answer.pools[0].ahead, 2);
}

#[test]
fn a_pool_full_of_idle_workers_of_another_class_says_so() {
    let mut stranger = worker(7, Phase::Up { at: at() }, attached());
    stranger.project = "other".into();
    let world = snapshot(request(1), vec![pool("box", 1)], vec![stranger]);
    assert_eq!(
        said(&world),
        (
            ReasonCode::PoolFull,
            "its maximum of 1 worker is reached: 1 idle with another image, trust or project".into()
        )
    );
}

#[test]
fn providers_without_room_are_named_each_with_why() {
    let full = Host {
        name: "b1".into(),
        has: Room { workers: Some(2), ..Room::default() },
        taken: Room { workers: Some(2), ..Room::default() },
        ..Host::default()
    };
    let drained = Host { name: "b2".into(), drained: true, ..Host::default() };
    let on = |hosts| snapshot(request(1), vec![PoolFacts { hosts, ..pool("box", 4) }], vec![]);
    assert_eq!(
        said(&on(vec![full.clone(), drained])),
        (
            ReasonCode::ProvidersFull,
            "no provider has room for a worker: `b1`: 2 of 2 workers are there; `b2`: drained".into()
        )
    );
    let roomy = Host { name: "b3".into(), ..Host::default() };
    assert_eq!(said(&on(vec![full, roomy])).0, ReasonCode::LaunchDue);
}

#[test]
fn a_free_worker_of_its_class_is_about_to_take_it() {
    let world =
        snapshot(request(1), vec![pool("box", 1)], vec![worker(7, Phase::Up { at: at() }, attached())]);
    assert_eq!(said(&world).0, ReasonCode::BeingMatched);
}

#[test]
fn room_without_a_worker_means_a_launch_is_due() {
    let world = snapshot(request(1), vec![pool("box", 1)], vec![]);
    assert_eq!(said(&world).0, ReasonCode::LaunchDue);
    let mut unresolved = request(1);
    unresolved.provision = Provision::default();
    assert_eq!(said(&snapshot(unresolved, vec![pool("box", 1)], vec![])).0, ReasonCode::ResolvingImage);
}

#[test]
fn silent_agents_are_told_apart_from_missing_workers() {
    let silent = worker(7, Phase::Up { at: at() }, Link::Silent { since: ago(2) });
    let world = snapshot(request(1), vec![pool("box", 2)], vec![silent]);
    assert_eq!(said(&world).0, ReasonCode::NoWorkersAttached);
}

#[test]
fn failed_launches_come_first_and_say_whether_waiting_helps() {
    let failure = |class| LaunchFailure {
        worker: None,
        pool: "box".into(),
        class,
        message: "no such image: nope:1".into(),
        at: ago(1),
    };
    let mut asked = request(1);
    asked.not_before = Some(NOW + Duration::from_secs(5));
    asked.provision.failures = vec![failure(FailureClass::Boot)];
    let world = snapshot(asked.clone(), vec![pool("box", 1)], vec![]);
    assert_eq!(
        said(&world),
        (
            ReasonCode::LaunchFailedBackingOff,
            "a launch in pool `box` failed (no such image: nope:1); the next try is in 5 s".into()
        )
    );
    assert_eq!(judge(&world).secondary[0].code, ReasonCode::LaunchDue);
    asked.provision.failures = vec![failure(FailureClass::Image)];
    assert_eq!(said(&snapshot(asked.clone(), vec![pool("box", 1)], vec![])).0, ReasonCode::ImageMissing);
    asked.provision.imageless_since = Some(ago(3));
    let told = "pool `box` cannot have its image now (no such image: nope:1); the next try is in 5 s";
    assert_eq!(
        said(&snapshot(asked.clone(), vec![pool("box", 1)], vec![])),
        (ReasonCode::ImageBackingOff, told.into())
    );
    asked.provision.imageless_since = None;
    asked.provision.failures = vec![failure(FailureClass::Auth)];
    assert_eq!(said(&snapshot(asked.clone(), vec![pool("box", 1)], vec![])).0, ReasonCode::LaunchFailed);
    asked.provision.failures.clear();
    assert_eq!(said(&snapshot(asked, vec![pool("box", 1)], vec![])).0, ReasonCode::NotBefore);
}

#[test]
fn what_has_no_room_anywhere_says_what_is_missing_and_until_when() {
    let mut asked = request(1);
    let held = |until| HeldBack {
        pool: "box".into(),
        why: "launch on `aws`: no capacity for m5.large".into(),
        until,
    };
    asked.provision.held = Some(held(NOW + Duration::from_secs(12)));
    let told = "pool `box` gets no more workers now (launch on `aws`: no capacity for m5.large); the next try is in 12 s at the latest";
    let world = snapshot(asked.clone(), vec![pool("box", 1)], vec![]);
    assert_eq!(said(&world), (ReasonCode::OfferingBackingOff, told.into()));
    asked.provision.held = Some(held(ago(1)));
    assert_eq!(said(&snapshot(asked, vec![pool("box", 1)], vec![])).0, ReasonCode::LaunchDue);
}

#[test]
fn what_is_claimed_or_over_says_so() {
    let mut asked = request(1);
    asked.state = RequestState::Claimed;
    asked.build = Some(BuildId(5));
    assert_eq!(
        said(&snapshot(asked.clone(), vec![], vec![])),
        (ReasonCode::Claimed, "build 5 runs it".into())
    );
    asked.state = RequestState::Done;
    asked.result = Some(BuildResult::Failure);
    assert_eq!(
        said(&snapshot(asked.clone(), vec![], vec![])),
        (ReasonCode::Done, "done: failure, build 5".into())
    );
    asked.result = Some(BuildResult::Cancelled);
    asked.cancel = Some("alice: not needed".into());
    assert_eq!(
        said(&snapshot(asked, vec![], vec![])),
        (ReasonCode::Cancelled, "cancelled: alice: not needed, build 5".into())
    );
}

#[test]
fn a_removed_builder_and_a_wish_to_cancel_are_reasons_of_their_own() {
    let mut world = snapshot(request(1), vec![pool("box", 1)], vec![]);
    world.named = None;
    assert_eq!(said(&world).0, ReasonCode::BuilderMissing);
    world.request.cancel = Some("bob".into());
    assert_eq!(said(&world).0, ReasonCode::Cancelling);
}

#[test]
fn the_pool_that_promises_most_comes_first() {
    let mut full = worker(7, Phase::Up { at: at() }, attached());
    full.pool = "rack".into();
    let mut world = snapshot(request(1), vec![pool("rack", 1), pool("box", 1)], vec![full]);
    world.leases = vec![Lease { worker: WorkerId(7), slot: 0, build: BuildId(1), since: ago(3) }];
    let answer = judge(&world);
    assert_eq!(answer.primary.code, ReasonCode::LaunchDue);
    assert!(answer.primary.sentence.starts_with("pool `box`: "));
    assert_eq!(answer.secondary[0].code, ReasonCode::PoolFull);
}

#[test]
fn one_that_waits_for_a_person_says_so_with_the_command_and_what_would_stop_it_afterwards() {
    let mut asked = request(7);
    asked.state = RequestState::Unapproved;
    asked.trust = Trust::Untrusted;
    asked.approval = Some(Approval { of: ApprovalOf::Strangers, given: None });
    asked.lapses = Some(NOW + Duration::from_secs(3 * 86_400));
    let mut open = pool("box", 1);
    open.accepts = Trust::Untrusted;
    let mut world = snapshot(asked, vec![open, pool("rack", 1)], vec![]);
    world.queue = vec![request(8)];
    let answer = judge(&world);
    assert_eq!(
        answer.primary.sentence,
        "waits for a person to approve it: its origin is untrusted, and builder `unit` builds no stranger's work unasked; \
         unless somebody does, it is cancelled in 3 days"
    );
    assert!(answer.primary.help.as_deref().unwrap().contains("rouse request approve 7"));
    assert!(!answer.primary.code.is_permanent() && answer.secondary.is_empty());
    assert_eq!(answer.pools[0].verdict, Verdict::Waits(ReasonCode::Approval));
    assert_eq!(
        (answer.pools[0].sentence.as_str(), answer.pools[0].ahead),
        ("could run it once it is approved", 0)
    );
    assert!(matches!(answer.pools[1].verdict, Verdict::Never(_)));
    // An approval that would be for nothing.
    world.pools.remove(0);
    let answer = judge(&world);
    assert_eq!(answer.primary.code, ReasonCode::Approval);
    assert_eq!(answer.secondary[0].code, ReasonCode::NoPoolAccepts);
    world.request.cancel = Some("bob".into());
    assert_eq!(said(&world).0, ReasonCode::Cancelling);
}
