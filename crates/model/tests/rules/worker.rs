//! A worker's life under any order of events: no combination of facts that cannot be, no way back from an end.
//! reason for length: all events are drawn from one list, and each rule of it is held beside the others.

use proptest::prelude::*;
use rouse_model::failure::FailureClass;
use rouse_model::worker::*;
use rouse_model::{ConfigRevisionId, MasterId, Timestamp, Trust, WorkerId};

fn fresh() -> Worker {
    Worker {
        id: WorkerId(7),
        name: "big-0007".into(),
        pool: "big".into(),
        offering: None,
        price: rouse_model::money::Price::NONE,
        provider: "here".into(),
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
        max_builds: 5,
        builds_done: 0,
        wanted: Wanted::Run,
        phase: Phase::Requested { token: LaunchToken("token".into()) },
        link: Link::Never,
        incarnation: None,
        agent_key: None,
        facts: None,
        requested: Timestamp(0),
        accepted: None,
        attached: None,
        idle_since: None,
        gone: None,
        expires: Timestamp(i64::MAX),
        console: None,
        resumes: 0,
        resume_took: None,
        generation: 41,
    }
}

fn cause(code: CauseCode) -> Cause {
    Cause::new(code, Some(FailureClass::Boot), format!("{code:?}"))
}

fn causes() -> impl Strategy<Value = Cause> {
    prop::sample::select(vec![CauseCode::Used, CauseCode::Idle, CauseCode::Died, CauseCode::Operator])
        .prop_map(cause)
}

/// Weighted towards what makes a life go on, so that each phase is met in many states of the other facts.
fn events() -> impl Strategy<Value = WorkerEvent> {
    let reference = prop::sample::select(vec!["a", "a", "a", "b"]).prop_map(|r| ProviderRef(r.into()));
    let name = || prop::sample::select(vec!["one", "one", "two"]).prop_map(str::to_owned);
    prop_oneof![
        6 => Just(WorkerEvent::LaunchIssued { deadline: Timestamp(1000) }),
        6 => reference.prop_map(|at| WorkerEvent::Accepted { at, attach_deadline: Timestamp(2000) }),
        1 => causes().prop_map(|cause| WorkerEvent::LaunchRefused { cause }),
        6 => (name(), name())
            .prop_map(|(session, incarnation)| WorkerEvent::Attached { session, incarnation }),
        3 => name().prop_map(|session| WorkerEvent::Detached { session }),
        1 => Just(WorkerEvent::GraceOver),
        1 => causes().prop_map(|cause| WorkerEvent::InstanceDied { cause }),
        2 => causes().prop_map(|cause| WorkerEvent::Drain { cause }),
        2 => Just(WorkerEvent::CancelDrain),
        2 => Just(WorkerEvent::Hold { until: Timestamp(5), by: "alice".into() }),
        2 => Just(WorkerEvent::Release),
        3 => Just(WorkerEvent::Park),
        3 => Just(WorkerEvent::Resume),
        4 => Just(WorkerEvent::ParkIssued),
        4 => Just(WorkerEvent::ParkConfirmed),
        4 => Just(WorkerEvent::ResumeIssued { deadline: Timestamp(3000) }),
        1 => causes().prop_map(|cause| WorkerEvent::End { cause }),
        3 => Just(WorkerEvent::TerminateIssued),
        3 => Just(WorkerEvent::AbsenceConfirmed),
    ]
}

fn rank(phase: &Phase) -> usize {
    match phase {
        Phase::Requested { .. } => 0,
        Phase::Launching { .. } => 1,
        Phase::Booting { .. } => 2,
        Phase::Up { .. } => 3,
        Phase::Parking { .. } | Phase::Parked { .. } | Phase::Resuming { .. } => 4,
        Phase::Terminating { .. } => 5,
        Phase::Gone { .. } => 6,
    }
}

/// Facts that must never stand beside each other, whatever happened.
fn is_possible(worker: &Worker) -> Result<(), TestCaseError> {
    let ended = matches!(worker.wanted, Wanted::End { .. });
    match &worker.phase {
        Phase::Requested { .. } => {
            prop_assert!(worker.link == Link::Never, "nobody was launched that could speak");
            prop_assert!(worker.accepted.is_none());
        }
        Phase::Launching { .. } => prop_assert!(worker.accepted.is_none()),
        Phase::Booting { .. } => {
            prop_assert!(worker.accepted.is_some());
            prop_assert!(!matches!(worker.link, Link::Attached { .. }), "who has attached is up");
        }
        Phase::Up { .. } => {
            prop_assert!(worker.accepted.is_some() && worker.attached.is_some());
            prop_assert!(worker.idle_since.is_some(), "up and never busy: idle since it came");
        }
        Phase::Terminating { .. } => prop_assert!(ended, "only what is to end is destroyed"),
        Phase::Gone { .. } => {
            prop_assert!(ended);
            prop_assert!(matches!(worker.link, Link::Never | Link::Lost { .. }), "who is gone is silent");
        }
        Phase::Parking { .. } | Phase::Parked { .. } | Phase::Resuming { .. } => {
            prop_assert!(worker.accepted.is_some() && worker.attached.is_some());
            prop_assert!(!worker.takes_work(Timestamp(0)), "it is not there");
        }
    }
    prop_assert_eq!(worker.gone.is_some(), matches!(worker.phase, Phase::Gone { .. }));
    // Once it lay, its agent is another one.
    let lay = worker.resumes > 0 || worker.attached.is_some() && worker.incarnation.is_none();
    prop_assert!(worker.attached.is_some() == (worker.link != Link::Never) || lay);
    prop_assert_eq!(worker.incarnation.is_some(), worker.link != Link::Never);
    if let Phase::Parked { .. } = worker.phase {
        prop_assert!(matches!(worker.link, Link::Never | Link::Lost { .. }), "nobody can speak");
        prop_assert!(worker.agent_key.is_none() || ended);
    }
    prop_assert!(!worker.is_being_resumed() || worker.is_coming());
    if matches!(worker.link, Link::Lost { .. }) {
        prop_assert!(ended, "who is lost is to end");
    }
    prop_assert_eq!(worker.is_live(), !matches!(worker.phase, Phase::Gone { .. }));
    prop_assert!(!(worker.is_coming() && worker.takes_work(Timestamp(0))), "coming, or there");
    prop_assert!(!(ended && (worker.takes_work(Timestamp(0)) || worker.is_coming())));
    Ok(())
}

/// What a step from one value to the next may do.
fn is_a_step(
    old: &Worker,
    event: &WorkerEvent,
    new: &Worker,
    effects: &[Effect],
) -> Result<(), TestCaseError> {
    let rises = matches!((&old.phase, &new.phase), (Phase::Resuming { .. }, Phase::Up { .. }));
    prop_assert!(rank(&new.phase) >= rank(&old.phase) || rises, "{:?} after {:?}", new.phase, old.phase);
    let parks = effects.contains(&Effect::CallPark);
    prop_assert_eq!(parks, matches!((&old.phase, &new.phase), (Phase::Up { .. }, Phase::Parking { .. })));
    let resumes = effects.contains(&Effect::CallResume);
    prop_assert_eq!(resumes, old.resumes < new.resumes, "each time with a token of its own");
    prop_assert!(!resumes || matches!(new.phase, Phase::Resuming { .. }), "{:?}", new);
    if matches!(new.phase, Phase::Parking { .. }) && old.phase != new.phase {
        prop_assert_eq!(&old.wanted, &Wanted::Park, "only what is wanted so is parked");
    }
    if let Phase::Terminating { cause, .. } = &old.phase {
        match &new.phase {
            Phase::Gone { cause: last } => {
                prop_assert_eq!(event, &WorkerEvent::AbsenceConfirmed);
                prop_assert_eq!(last, cause);
            }
            Phase::Terminating { cause: still, .. } => prop_assert_eq!(still, cause),
            other => prop_assert!(false, "{:?} after destroy was issued", other),
        }
    }
    prop_assert!(!matches!(old.phase, Phase::Gone { .. }), "nothing happens to who is gone");
    if let Wanted::End { .. } = &old.wanted {
        prop_assert_eq!(&new.wanted, &old.wanted, "an end is final, and so is its cause");
    }
    if matches!(old.link, Link::Lost { .. }) {
        prop_assert_eq!(&new.link, &old.link, "who was given up does not come back");
    }
    if let (Some(before), Some(after)) = (old.provider_ref(), new.provider_ref()) {
        prop_assert_eq!(before, after, "one worker is one instance");
    }
    let launches = effects.contains(&Effect::CallLaunch);
    prop_assert_eq!(launches, rank(&old.phase) == 0 && rank(&new.phase) == 1);
    let terminates = effects.contains(&Effect::CallTerminate);
    prop_assert_eq!(terminates, rank(&new.phase) == 5 && old.phase != new.phase);
    let lost = effects.iter().any(|e| matches!(e, Effect::BuildsLost(_)));
    let silenced = matches!(new.link, Link::Lost { .. }) && !matches!(old.link, Link::Lost { .. });
    let lies = matches!(new.phase, Phase::Parked { .. });
    let restarted = old.incarnation.is_some() && old.incarnation != new.incarnation && !lies;
    prop_assert!(!restarted || lost, "what the agent ran before is lost");
    prop_assert!(!silenced || lost || rank(&new.phase) == 6, "what a lost agent ran is lost");
    // What is not the event's to say: identity, and the generation, which the commit raises.
    let same = Worker {
        wanted: old.wanted.clone(),
        phase: old.phase.clone(),
        link: old.link.clone(),
        incarnation: old.incarnation.clone(),
        accepted: old.accepted,
        attached: old.attached,
        idle_since: old.idle_since,
        gone: old.gone,
        agent_key: old.agent_key.clone(),
        resumes: old.resumes,
        resume_took: old.resume_took,
        ..new.clone()
    };
    prop_assert_eq!(&same, old);
    for (before, after) in [(old.accepted, new.accepted), (old.attached, new.attached)] {
        prop_assert!(before.is_none() || before == after, "a first time does not move");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_leads_astray(events in prop::collection::vec(events(), 1..40)) {
        let mut worker = fresh();
        is_possible(&worker)?;
        for (now, event) in (1..).map(Timestamp).zip(events) {
            let before = worker.clone();
            match worker.on(event.clone(), now) {
                Transition::Applied { next, effects } => {
                    is_a_step(&worker, &event, &next, &effects)?;
                    prop_assert_ne!(&*next, &worker, "applied means changed");
                    worker = *next;
                    is_possible(&worker)?;
                    // Said twice, as by a master that died in between: nothing more is done.
                    let again = worker.on(event.clone(), now + std::time::Duration::from_secs(1));
                    prop_assert_eq!(again, Transition::AlreadySatisfied, "{:?} twice", event);
                }
                Transition::AlreadySatisfied | Transition::Conflict(_) => prop_assert_eq!(&worker, &before),
            }
        }
    }

    /// The last word is always the same: what is to end can be ended, from wherever it stands.
    #[test]
    fn every_life_can_be_brought_to_its_end(events in prop::collection::vec(events(), 0..40)) {
        let mut worker = fresh();
        let close = [
            WorkerEvent::End { cause: cause(CauseCode::Operator) },
            WorkerEvent::TerminateIssued,
            WorkerEvent::AbsenceConfirmed,
        ];
        for event in events.into_iter().chain(close) {
            if let Transition::Applied { next, .. } = worker.on(event, Timestamp(9)) {
                worker = *next;
            }
        }
        prop_assert!(matches!(worker.phase, Phase::Gone { .. }), "{:?}", worker);
    }

    /// Until its end was decided, and no longer.
    #[test]
    fn a_drain_can_be_taken_back_until_the_end(events in prop::collection::vec(events(), 0..20)) {
        let mut worker = fresh();
        for event in events {
            if let Transition::Applied { next, .. } = worker.on(event, Timestamp(9)) {
                worker = *next;
            }
        }
        let could_work = worker.takes_work(Timestamp(9));
        match worker.on(WorkerEvent::Drain { cause: cause(CauseCode::Age) }, Timestamp(10)) {
            Transition::Applied { next, .. } => {
                prop_assert!(!next.takes_work(Timestamp(10)));
                let Transition::Applied { next: back, effects } = next.on(WorkerEvent::CancelDrain, Timestamp(11))
                else {
                    return Err(TestCaseError::fail("it could not be taken back"));
                };
                prop_assert_eq!(effects, vec![]);
                prop_assert_eq!(&back.wanted, if worker.lies() { &Wanted::Park } else { &Wanted::Run });
                prop_assert!(!could_work || back.takes_work(Timestamp(11)));
                prop_assert_eq!(Worker { wanted: worker.wanted.clone(), ..*back }, worker);
            }
            Transition::AlreadySatisfied => {
                let taken_back = worker.on(WorkerEvent::CancelDrain, Timestamp(11));
                let ends = matches!(worker.wanted, Wanted::End { .. });
                prop_assert_eq!(matches!(taken_back, Transition::Conflict(_)), ends, "{:?}", worker);
            }
            Transition::Conflict(why) => prop_assert!(false, "{}", why),
        }
    }
}

fn after(events: &[WorkerEvent]) -> Worker {
    events.iter().fold(fresh(), |worker, event| match worker.on(event.clone(), Timestamp(5)) {
        Transition::Applied { next, .. } => *next,
        other => panic!("{event:?}: {other:?}"),
    })
}

fn up() -> Vec<WorkerEvent> {
    vec![
        WorkerEvent::LaunchIssued { deadline: Timestamp(100) },
        WorkerEvent::Accepted { at: ProviderRef("a".into()), attach_deadline: Timestamp(200) },
        WorkerEvent::Attached { session: "s".into(), incarnation: "i".into() },
    ]
}

#[test]
fn who_is_up_and_attached_takes_work_until_its_builds_or_its_time_are_used() {
    let worker = after(&up());
    assert!(worker.takes_work(Timestamp(5)));
    assert!(!Worker { builds_done: 5, ..worker.clone() }.takes_work(Timestamp(5)));
    assert!(!Worker { expires: Timestamp(5), ..worker.clone() }.takes_work(Timestamp(5)));
    let detached = WorkerEvent::Detached { session: "s".into() };
    let Transition::Applied { next, .. } = worker.on(detached, Timestamp(6)) else {
        panic!("it was attached")
    };
    assert!(!next.takes_work(Timestamp(6)), "nobody knows whether it lives");
}

#[test]
fn who_is_held_takes_nothing_and_begins_to_idle_when_it_is_let_go() {
    let hold = |until| WorkerEvent::Hold { until: Timestamp(until), by: "alice".into() };
    let worker = after(&[up(), vec![hold(50)]].concat());
    assert!(!worker.takes_work(Timestamp(6)) && worker.is_live());
    assert_eq!(worker.on(hold(50), Timestamp(6)), Transition::AlreadySatisfied);
    let Transition::Applied { next, .. } = worker.on(hold(90), Timestamp(6)) else { panic!("it is longer") };
    let Transition::Applied { next, .. } = next.on(WorkerEvent::Release, Timestamp(90)) else {
        panic!("it was held")
    };
    assert!(next.takes_work(Timestamp(90)));
    assert_eq!(next.idle_since, Some(Timestamp(90)));
    let drained = after(&[up(), vec![WorkerEvent::Drain { cause: cause(CauseCode::Operator) }]].concat());
    assert!(
        matches!(drained.on(hold(50), Timestamp(6)), Transition::Conflict(_)),
        "its end would be forgotten"
    );
}

#[test]
fn an_old_sessions_end_says_nothing_of_the_new_one() {
    let mut events = up();
    events.push(WorkerEvent::Attached { session: "t".into(), incarnation: "i".into() });
    let worker = after(&events);
    let old = WorkerEvent::Detached { session: "s".into() };
    assert_eq!(worker.on(old, Timestamp(6)), Transition::AlreadySatisfied);
    assert!(worker.takes_work(Timestamp(6)));
}

#[test]
fn another_incarnation_has_lost_its_builds_and_stays() {
    let again = WorkerEvent::Attached { session: "t".into(), incarnation: "j".into() };
    let Transition::Applied { next, effects } = after(&up()).on(again, Timestamp(6)) else {
        panic!("its token is its own")
    };
    assert!(
        matches!(&effects[..], [Effect::BuildsLost(cause)] if cause.class == Some(FailureClass::AgentLost))
    );
    assert!(next.takes_work(Timestamp(6)));
}

/// A second instance under one token must not be taken for the first.
#[test]
fn a_second_instance_is_a_conflict() {
    let other = WorkerEvent::Accepted { at: ProviderRef("b".into()), attach_deadline: Timestamp(300) };
    assert!(matches!(after(&up()).on(other.clone(), Timestamp(6)), Transition::Conflict(_)));
    let mut events = up();
    events.extend([WorkerEvent::End { cause: cause(CauseCode::Idle) }, WorkerEvent::TerminateIssued]);
    assert!(matches!(after(&events).on(other, Timestamp(6)), Transition::Conflict(_)));
}

/// A launch whose answer comes after its end was decided is known by its reference, and destroyed by it.
#[test]
fn a_late_acceptance_is_destroyed_by_its_reference() {
    let worker = after(&[
        WorkerEvent::LaunchIssued { deadline: Timestamp(100) },
        WorkerEvent::End { cause: cause(CauseCode::Operator) },
        WorkerEvent::TerminateIssued,
    ]);
    assert_eq!(worker.provider_ref(), None);
    let late = WorkerEvent::Accepted { at: ProviderRef("a".into()), attach_deadline: Timestamp(300) };
    let Transition::Applied { next, effects } = worker.on(late, Timestamp(6)) else { panic!("it is news") };
    assert_eq!(next.provider_ref(), Some(&ProviderRef("a".into())));
    assert_eq!(effects, [Effect::CallTerminate]);
}

#[test]
fn who_takes_a_worker_over_waits_for_its_agent() {
    let attached = Link::Attached { session: "one".into(), since: Timestamp(5) };
    let up = Worker { phase: Phase::Up { at: ProviderRef("a".into()) }, link: attached, term: 3, ..fresh() };
    let silent = Link::Silent { since: Timestamp(9) };
    let adopted = Worker { master: MasterId(2), term: 4, link: silent, ..up.clone() };
    assert_eq!(up.adopted(MasterId(2), Timestamp(9)), adopted);
    let new = Worker { master: MasterId(2), term: 2, ..fresh() };
    assert_eq!(fresh().adopted(MasterId(2), Timestamp(9)), new, "one that never came is not silent");
}

#[test]
fn one_that_is_wanted_and_not_there_yet_is_coming() {
    let at = || ProviderRef("a".into());
    let phases = [
        (true, Phase::Requested { token: LaunchToken("token".into()) }),
        (true, Phase::Booting { at: at(), deadline: Timestamp(9) }),
        (false, Phase::Up { at: at() }),
        (true, Phase::Parked { at: at(), since: Timestamp(1) }),
        (true, Phase::Resuming { at: at(), since: Timestamp(1), deadline: Timestamp(9) }),
    ];
    for (is_coming, phase) in phases {
        let worker = Worker { phase, ..fresh() };
        assert_eq!(worker.is_coming(), is_coming, "{worker:?}");
        let ended = Worker { wanted: Wanted::End { cause: cause(CauseCode::Idle) }, ..worker };
        assert!(!ended.is_coming(), "{ended:?}");
    }
}

#[test]
fn what_is_to_end_is_not_launched_and_a_refusal_ends_what_was() {
    let launch = || WorkerEvent::LaunchIssued { deadline: Timestamp(100) };
    let end = || WorkerEvent::End { cause: cause(CauseCode::Idle) };
    let refused = || WorkerEvent::LaunchRefused { cause: cause(CauseCode::LaunchRefused) };
    assert!(matches!(after(&[end()]).on(launch(), Timestamp(6)), Transition::Conflict(_)));
    for before in [vec![], vec![launch()]] {
        let gone = after(&[before, vec![refused()]].concat());
        assert_eq!(gone.phase, Phase::Gone { cause: cause(CauseCode::LaunchRefused) });
        assert_eq!(gone.on(refused(), Timestamp(6)), Transition::AlreadySatisfied);
    }
    assert!(matches!(after(&up()).on(refused(), Timestamp(6)), Transition::Conflict(_)));
    // One that was never launched has nothing to be destroyed.
    let gone = after(&[end(), WorkerEvent::TerminateIssued]);
    assert_eq!(gone.phase, Phase::Gone { cause: cause(CauseCode::Idle) });
}

#[test]
fn a_death_is_news_as_long_as_somebody_could_speak() {
    let died = || WorkerEvent::InstanceDied { cause: cause(CauseCode::Died) };
    let end = || WorkerEvent::End { cause: cause(CauseCode::Idle) };
    let lost = |events: &[WorkerEvent]| match after(events).on(died(), Timestamp(6)) {
        Transition::Applied { next, effects } => {
            assert_eq!(effects, [Effect::BuildsLost(cause(CauseCode::Died))]);
            Some(next.wanted)
        }
        Transition::AlreadySatisfied => None,
        Transition::Conflict(why) => panic!("{why}"),
    };
    let (idle, dead) = (cause(CauseCode::Idle), cause(CauseCode::Died));
    assert_eq!(lost(&up()), Some(Wanted::End { cause: dead.clone() }));
    assert_eq!(lost(&up()[..2]), Some(Wanted::End { cause: dead }), "though its agent never came");
    assert_eq!(
        lost(&[up(), vec![end()]].concat()),
        Some(Wanted::End { cause: idle }),
        "its end was decided before"
    );
    assert_eq!(lost(&[up()[..2].to_vec(), vec![end()]].concat()), None, "and nobody was there");
    assert_eq!(lost(&[up(), vec![end(), WorkerEvent::TerminateIssued]].concat()), None);
    assert_eq!(lost(&[up(), vec![died()]].concat()), None);
}

#[test]
fn why_one_ends_is_known_from_its_end_or_from_the_wish_for_it() {
    let (idle, dead) = (cause(CauseCode::Idle), cause(CauseCode::Died));
    let of = |phase: &Phase, wanted: &Wanted| {
        let (phase, wanted) = (phase.clone(), wanted.clone());
        Worker { phase, wanted, ..fresh() }.cause().map(|cause| cause.code)
    };
    let up = Phase::Up { at: ProviderRef("a".into()) };
    let gone = Phase::Gone { cause: dead.clone() };
    let ends = Phase::Terminating { at: None, since: Timestamp(1), cause: dead };
    let end = Wanted::End { cause: idle.clone() };
    assert_eq!((of(&up, &Wanted::Run), of(&up, &end)), (None, Some(CauseCode::Idle)));
    assert_eq!(of(&up, &Wanted::Drain { cause: idle }), Some(CauseCode::Idle));
    assert_eq!((of(&gone, &end), of(&ends, &end)), (Some(CauseCode::Died), Some(CauseCode::Died)));
}

/// One that is idle and to be parked, as far as it has come.
fn parked(events: &[WorkerEvent]) -> Worker {
    after(&[up(), vec![WorkerEvent::Park], events.to_vec()].concat())
}

#[test]
fn who_is_to_be_parked_takes_nothing_and_can_be_wanted_again_at_any_time() {
    let (issued, confirmed) = (WorkerEvent::ParkIssued, WorkerEvent::ParkConfirmed);
    for events in [vec![], vec![issued.clone()], vec![issued.clone(), confirmed.clone()]] {
        let worker = parked(&events);
        assert!(worker.is_parked() && !worker.takes_work(Timestamp(5)) && !worker.is_coming(), "{worker:?}");
        let Transition::Applied { next, effects } = worker.on(WorkerEvent::Resume, Timestamp(6)) else {
            panic!("it can be taken back: {worker:?}")
        };
        assert_eq!((effects, &next.wanted), (vec![], &Wanted::Run));
        assert!(!next.is_parked());
        let twice = [worker.on(WorkerEvent::Park, Timestamp(6)), next.on(WorkerEvent::Resume, Timestamp(6))];
        assert_eq!(
            twice,
            [Transition::AlreadySatisfied, Transition::AlreadySatisfied],
            "both are so already"
        );
        assert_eq!(worker.parked_since().is_some(), !events.is_empty());
        // Before its provider was asked it is there at once; after that it comes.
        assert_eq!(
            (next.takes_work(Timestamp(6)), next.is_coming()),
            (events.is_empty(), !events.is_empty())
        );
        let asked_for = next.on(WorkerEvent::ParkIssued, Timestamp(7));
        let expected = match next.lies() {
            true => Transition::AlreadySatisfied,
            false => Transition::Conflict("it is wanted again"),
        };
        assert_eq!(asked_for, expected, "nobody is asked to park it");
    }
    let coming = after(&up()[..2]);
    assert_eq!(coming.on(WorkerEvent::Park, Timestamp(6)), Transition::Conflict("it is not idle"));
    let ending = parked(&[WorkerEvent::End { cause: cause(CauseCode::Age) }]);
    let wanted = ending.on(WorkerEvent::Resume, Timestamp(6));
    assert_eq!(wanted, Transition::Conflict("something else is wanted of it"));
}

#[test]
fn who_is_resumed_has_another_agent_and_idles_from_then_on() {
    let worker = parked(&[WorkerEvent::ParkIssued, WorkerEvent::ParkConfirmed]);
    for event in [WorkerEvent::ParkIssued, WorkerEvent::ParkConfirmed] {
        assert_eq!(worker.on(event, Timestamp(6)), Transition::AlreadySatisfied, "it is told twice");
    }
    assert_eq!((&worker.link, &worker.incarnation, worker.idle_since), (&Link::Never, &None, None));
    let old = WorkerEvent::Attached { session: "t".into(), incarnation: "i".into() };
    assert!(matches!(worker.on(old.clone(), Timestamp(6)), Transition::Conflict(_)), "it cannot speak");
    let deadline = Timestamp(90);
    let early = worker.on(WorkerEvent::ResumeIssued { deadline }, Timestamp(6));
    assert!(matches!(early, Transition::Conflict(_)), "nobody wants it");
    let risen = [WorkerEvent::ParkIssued, WorkerEvent::ParkConfirmed, WorkerEvent::Resume];
    let worker = parked(&[risen.to_vec(), vec![WorkerEvent::ResumeIssued { deadline }]].concat());
    assert_eq!((worker.resumes, worker.is_coming()), (1, true));
    let came = WorkerEvent::Attached { session: "t".into(), incarnation: "j".into() };
    let Transition::Applied { next, effects } = worker.on(came, Timestamp(45)) else {
        panic!("it is its agent")
    };
    assert_eq!(effects, [], "nothing ran that is lost");
    assert!(next.takes_work(Timestamp(45)));
    let took = std::time::Duration::from_micros(40);
    assert_eq!(
        (next.idle_since, next.resume_took, next.attached),
        (Some(Timestamp(45)), Some(took), Some(Timestamp(5)))
    );
}

#[test]
fn a_parked_one_ends_for_whatever_reason_and_is_not_held() {
    let lies = parked(&[WorkerEvent::ParkIssued, WorkerEvent::ParkConfirmed]);
    let hold = WorkerEvent::Hold { until: Timestamp(50), by: "alice".into() };
    assert!(matches!(lies.on(hold, Timestamp(6)), Transition::Conflict(_)), "nobody could look at it");
    let Transition::Applied { next, .. } =
        lies.on(WorkerEvent::Drain { cause: cause(CauseCode::Operator) }, Timestamp(6))
    else {
        panic!("it is to end")
    };
    let Transition::Applied { next, .. } = next.on(WorkerEvent::CancelDrain, Timestamp(7)) else {
        panic!("it lies")
    };
    assert_eq!(*next, lies, "it is parked as before");
    let end = [WorkerEvent::End { cause: cause(CauseCode::Age) }, WorkerEvent::TerminateIssued];
    let ending = parked(&[vec![WorkerEvent::ParkIssued, WorkerEvent::ParkConfirmed], end.to_vec()].concat());
    assert_eq!(ending.provider_ref(), Some(&ProviderRef("a".into())), "it is ended where it lies");
    let died = WorkerEvent::InstanceDied { cause: cause(CauseCode::Died) };
    let Transition::Applied { next, .. } = lies.on(died, Timestamp(6)) else { panic!("it is news") };
    assert!(matches!(next.wanted, Wanted::End { .. }));
}
