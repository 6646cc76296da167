//! Everything that is to be said to a master, as a level: which commands there are and how they stand, and the spool.
//!
//! Threads of commands write it, the link reads it. What the present connection has been told is part of it, so the link keeps no
//! queue: after any change it asks what comes next, and a new connection begins with a hello that says all of it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use rouse_agent_protocol::{
    Command, CommandId, CommandReport, CommandState, FailureClass, MAX_COMMANDS, Outcome, OutcomeKind,
    StreamEnd, StreamId, ToMaster, encode,
};
use tokio::sync::Notify;

use crate::clock;
use crate::control::{Control, lock};
use crate::spool::{Outgoing, Spool};

/// Ids of forgotten commands that are remembered, against a late repetition.
const REMEMBERED: usize = 65_536;

#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    /// There may be something to send.
    pub changed: Notify,
}

#[derive(Debug)]
pub struct State {
    pub spool: Spool,
    commands: BTreeMap<CommandId, Entry>,
    forgotten: BTreeSet<CommandId>,
    forgotten_order: VecDeque<CommandId>,
    draining: bool,
    drained_told: bool,
}

#[derive(Debug)]
struct Entry {
    streams: Vec<StreamId>,
    control: Arc<Control>,
    phase: Phase,
    told: Told,
    /// Forgotten while it ran: it goes as soon as it is over.
    unwanted: bool,
}

#[derive(Debug)]
enum Phase {
    Starting,
    Running { at_us: u64, wall_us: i64 },
    Finished(Box<Outcome>),
}

/// Most bytes of outcomes in one hello. What does not fit is said after the welcome.
const HELLO_BYTES: usize = 1024 * 1024;

/// What this connection knows of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Started,
    Finished,
}

/// The next thing to send.
#[derive(Debug)]
pub enum Say {
    Control(ToMaster),
    Output(Outgoing),
}

impl Shared {
    pub fn new(spool: Spool) -> Self {
        Self {
            state: Mutex::new(State {
                spool,
                commands: BTreeMap::new(),
                forgotten: BTreeSet::new(),
                forgotten_order: VecDeque::new(),
                draining: false,
                drained_told: false,
            }),
            changed: Notify::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Change the state and tell the link.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.lock());
        self.changed.notify_one();
        answer
    }
}

impl State {
    /// Accept a command unless its id is known. The answer is the control of the thread that is to be started for it; a command
    /// that must not run gets its outcome here.
    pub fn accept(&mut self, command: &Command) -> Option<Arc<Control>> {
        if self.commands.contains_key(&command.id) {
            return None;
        }
        let refusal = if self.forgotten.contains(&command.id) {
            Some("it ran before and was forgotten")
        } else if self.draining {
            Some("the worker is draining")
        } else if self.commands.len() >= MAX_COMMANDS {
            Some("the agent holds too many commands")
        } else {
            None
        };
        let control = Control::new().map(Arc::new);
        let (phase, control) = match (refusal, control) {
            (None, Ok(control)) => (Phase::Starting, control),
            (Some(why), Ok(control)) => (Phase::Finished(Box::new(refused(why))), control),
            // No file descriptor to be had. It stays unknown, so the next hello makes the master send it again.
            (_, Err(error)) => {
                eprintln!("rouse-agent: command {} cannot be taken now: {error}", command.id.0);
                return None;
            }
        };
        let run = matches!(phase, Phase::Starting);
        let streams = command.action.streams();
        if run {
            streams.iter().for_each(|stream| self.spool.open(*stream));
        }
        self.commands.insert(
            command.id,
            Entry { streams, control: control.clone(), phase, told: Told::Nothing, unwanted: false },
        );
        run.then_some(control)
    }

    pub fn started(&mut self, command: CommandId, at_us: u64, wall_us: i64) {
        if let Some(entry) = self.commands.get_mut(&command) {
            entry.phase = Phase::Running { at_us, wall_us };
        }
    }

    /// The outcome gets the ends of the command's streams here, as no more is written to them. Notes stand in it already.
    pub fn finished(&mut self, command: CommandId, mut outcome: Outcome) {
        if let Some(entry) = self.commands.get_mut(&command) {
            let mut noted = std::mem::take(&mut outcome.streams);
            let end = |stream: &StreamId| StreamEnd {
                stream: *stream,
                to: self.spool.end_of(*stream),
                note: noted.iter_mut().find(|end| end.stream == *stream).and_then(|end| end.note.take()),
            };
            outcome.streams = entry.streams.iter().map(end).collect();
            entry.phase = Phase::Finished(Box::new(outcome));
            if entry.unwanted {
                self.drop_entry(command);
            }
        }
    }

    pub fn stop(&self, command: CommandId, reason: String) {
        if let Some(entry) = self.commands.get(&command) {
            entry.control.stop(reason);
        }
    }

    /// Drop what is kept for these commands. One that still runs is stopped, its output and outcome wanted by nobody.
    pub fn forget(&mut self, commands: &[CommandId]) {
        for id in commands {
            let Some(entry) = self.commands.get_mut(id) else { continue };
            entry.streams.iter().for_each(|stream| self.spool.remove(*stream));
            if matches!(entry.phase, Phase::Finished(_)) {
                self.drop_entry(*id);
            } else {
                entry.unwanted = true;
                entry.control.stop("forgotten by the master".to_owned());
            }
        }
        self.wake_blocked();
    }

    fn drop_entry(&mut self, id: CommandId) {
        self.commands.remove(&id);
        if self.forgotten.insert(id) {
            self.forgotten_order.push_back(id);
        }
        if self.forgotten_order.len() > REMEMBERED
            && let Some(oldest) = self.forgotten_order.pop_front()
        {
            self.forgotten.remove(&oldest);
        }
    }

    pub fn durable(&mut self, stream: StreamId, to: u64) {
        if self.spool.durable(stream, to) {
            self.wake_blocked();
        }
    }

    pub fn set_disk_bytes(&mut self, bytes: Option<u64>) {
        self.spool.set_disk_bytes(bytes);
        self.wake_blocked();
    }

    fn wake_blocked(&self) {
        if self.spool.has_room() {
            for entry in
                self.commands.values().filter(|entry| entry.control.blocked.swap(false, Ordering::AcqRel))
            {
                entry.control.wake();
            }
        }
    }

    pub fn drain(&mut self, on: bool) {
        (self.draining, self.drained_told) = (on, false);
    }

    pub fn draining(&self) -> bool {
        self.draining
    }

    /// For the hello: every command and how it stands. From here on this is what the connection knows.
    pub fn report(&mut self) -> Vec<CommandReport> {
        self.drained_told = false;
        self.spool.rewind();
        let mut room = HELLO_BYTES;
        let report = |(id, entry): (&CommandId, &mut Entry)| {
            let (state, told) = match &entry.phase {
                Phase::Starting => (CommandState::Running {}, Told::Nothing),
                Phase::Running { .. } => (CommandState::Running {}, Told::Started),
                Phase::Finished(outcome) => {
                    let length = encode(outcome).len();
                    if length <= room {
                        room -= length;
                        (CommandState::Finished(outcome.clone()), Told::Finished)
                    } else {
                        (CommandState::Running {}, Told::Started)
                    }
                }
            };
            entry.told = told;
            CommandReport { id: *id, state }
        };
        self.commands.iter_mut().map(report).collect()
    }

    /// What comes next on this connection; called until there is nothing. A command's end is said after its last byte.
    pub fn next(&mut self) -> io::Result<Option<Say>> {
        for (id, entry) in &mut self.commands {
            if entry.told == Told::Nothing
                && let Phase::Running { at_us, wall_us } = entry.phase
            {
                entry.told = Told::Started;
                return Ok(Some(Say::Control(ToMaster::Started { command: *id, at_us, wall_us })));
            }
            if entry.told < Told::Finished
                && let Phase::Finished(outcome) = &entry.phase
                && entry.streams.iter().all(|stream| self.spool.all_sent(*stream))
            {
                entry.told = Told::Finished;
                return Ok(Some(Say::Control(ToMaster::Finished { command: *id, outcome: outcome.clone() })));
            }
        }
        if let Some(output) = self.spool.next_frame()? {
            return Ok(Some(Say::Output(output)));
        }
        if self.draining && !self.drained_told && self.commands.is_empty() {
            self.drained_told = true;
            return Ok(Some(Say::Control(ToMaster::Drained {})));
        }
        Ok(None)
    }
}

fn refused(why: &str) -> Outcome {
    let message = format!("the agent did not run the command: {why}");
    let kind = OutcomeKind::Failed { message, class: FailureClass::Infrastructure };
    outcome(kind, (clock::monotonic_us(), clock::wall_us()))
}

/// An outcome that ends now, with nothing more known than when it started.
pub fn outcome(kind: OutcomeKind, (started_us, started_wall_us): (u64, i64)) -> Outcome {
    Outcome {
        kind,
        started_us,
        finished_us: clock::monotonic_us(),
        started_wall_us,
        finished_wall_us: clock::wall_us(),
        streams: Vec::new(),
        max_rss_bytes: None,
        cpu_us: None,
        oom_killed: false,
        leftovers: 0,
        no_room: None,
    }
}
