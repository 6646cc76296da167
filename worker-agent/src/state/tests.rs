use rouse_agent_protocol::{Action, Kill, Program, Run};

use super::*;
use crate::spool::SpoolFile;

fn command(id: i64) -> Command {
    let run = Run {
        program: Program::Argv(vec!["true".into()]),
        env: Default::default(),
        cwd: String::new(),
        tty: false,
        timeout_s: None,
        silence_s: None,
        kill: Kill::default(),
        logs: Vec::new(),
        stream: StreamId(id * 10),
    };
    Command {
        id: CommandId(id),
        epoch: 1,
        build: 1,
        step: 1,
        seq: 1,
        action: Action::Run(run),
        masks: vec![],
    }
}

fn shared() -> Shared {
    Shared::new(Spool::new(SpoolFile::new(None)))
}

fn said(state: &mut State) -> Vec<String> {
    std::iter::from_fn(|| state.next().unwrap())
        .map(|say| match say {
            Say::Control(ToMaster::Started { command, .. }) => format!("started {}", command.0),
            Say::Control(ToMaster::Finished { command, .. }) => format!("finished {}", command.0),
            Say::Control(other) => format!("{other:?}"),
            Say::Output(_) => "frame".to_owned(),
        })
        .collect()
}

fn done() -> Outcome {
    outcome(OutcomeKind::Exited { code: 0 }, (1, 1))
}

#[test]
fn an_id_is_accepted_once_even_after_it_is_forgotten() {
    let shared = shared();
    let mut state = shared.lock();
    assert!(state.accept(&command(1)).is_some());
    assert!(state.accept(&command(1)).is_none());
    state.finished(CommandId(1), done());
    assert!(state.accept(&command(1)).is_none());
    state.forget(&[CommandId(1)]);
    assert!(state.accept(&command(1)).is_none());
    let reports = state.report();
    assert!(
        matches!(&reports[0].state, CommandState::Finished(o) if matches!(o.kind, OutcomeKind::Failed { class: FailureClass::Infrastructure, .. }))
    );
}

#[test]
fn the_end_is_said_after_the_last_byte() {
    let shared = shared();
    let mut state = shared.lock();
    state.accept(&command(1));
    state.started(CommandId(1), 1, 1);
    state.spool.push(StreamId(10), rouse_agent_protocol::Channel::Out, 1, b"x");
    state.finished(CommandId(1), done());
    // The start is over by the time it could be said; the end alone is.
    assert_eq!(said(&mut state), ["frame", "finished 1"]);
    assert!(said(&mut state).is_empty());
}

#[test]
fn a_hello_says_all_and_a_connection_says_only_what_is_new() {
    let shared = shared();
    let mut state = shared.lock();
    for id in 1..=3 {
        state.accept(&command(id));
    }
    state.started(CommandId(1), 1, 1);
    state.finished(CommandId(2), done());
    assert_eq!(state.report().len(), 3);
    state.started(CommandId(3), 1, 1);
    assert_eq!(said(&mut state), ["started 3"]);
    state.finished(CommandId(1), done());
    assert_eq!(said(&mut state), ["finished 1"]);
    let finished = state.report().iter().filter(|r| matches!(r.state, CommandState::Finished(_))).count();
    assert_eq!(finished, 2);
}

#[test]
fn what_runs_and_is_forgotten_is_stopped_and_goes_when_it_is_over() {
    let shared = shared();
    let mut state = shared.lock();
    let control = state.accept(&command(1)).unwrap();
    state.forget(&[CommandId(1)]);
    assert!(control.stop_reason().is_some());
    state.spool.push(StreamId(10), rouse_agent_protocol::Channel::Out, 1, b"unwanted");
    assert!(said(&mut state).is_empty());
    assert_eq!(state.report().len(), 1);
    state.finished(CommandId(1), done());
    assert!(state.report().is_empty() && state.spool.reports().is_empty());
    assert!(state.accept(&command(1)).is_none());
}

#[test]
fn a_draining_agent_takes_nothing_and_says_when_it_is_empty() {
    let shared = shared();
    let mut state = shared.lock();
    state.accept(&command(1));
    state.drain(true);
    assert!(state.accept(&command(2)).is_none());
    assert_eq!(said(&mut state), ["finished 2"]);
    state.finished(CommandId(1), done());
    state.forget(&[CommandId(1), CommandId(2)]);
    assert_eq!(said(&mut state), ["Drained"]);
    state.drain(false);
    assert!(state.accept(&command(3)).is_some());
}

#[test]
fn outcomes_too_long_for_a_hello_follow_it() {
    let shared = shared();
    let mut state = shared.lock();
    for id in 1..=3 {
        state.accept(&command(id));
        let reason = "x".repeat(HELLO_BYTES / 2);
        state.finished(CommandId(id), outcome(OutcomeKind::Stopped { reason }, (1, 1)));
    }
    let running = state.report().iter().filter(|r| matches!(r.state, CommandState::Running {})).count();
    assert_eq!(running, 2);
    assert_eq!(said(&mut state), ["finished 2", "finished 3"]);
}
