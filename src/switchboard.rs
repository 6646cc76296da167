//! In-memory hand-over between the agents' sessions and the builds' drivers of one master, and between these and the matcher.
//!
//! The store stays the truth: what is handed over here is on record already (a command to run), or is repeated until it is (an outcome), or
//! is on its way there and cannot be built on unless it arrives (a pair that was matched, a slot that was freed). So a lost message costs a reconnect or a look, never state. It knows nobody's reasons and keeps no history.

mod mailbox;

pub use mailbox::Mailbox;

use rouse_agent_protocol::{Command, CommandId, Outcome, StreamId};
use rouse_model::build::Build;
use rouse_model::buildset::Request;
use rouse_model::plan::Plan;
use rouse_model::worker::Worker;
use rouse_model::{BuildId, WorkerId};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::sync::mpsc;

/// How many messages may wait for a driver before it is taken for stuck.
const DEPTH: usize = 256;

/// What a driver, or the fleet, wants of a session.
#[derive(Debug)]
pub enum ToSession {
    Run(Box<Command>),
    Stop {
        command: CommandId,
        reason: String,
    },
    /// The outcomes are recorded.
    Forget(Vec<CommandId>),
    Durable {
        stream: StreamId,
        to: u64,
    },
    /// A driver has begun: repeat to it what is finished and not forgotten.
    Report(BuildId),
    Drain {
        on: bool,
    },
    End {
        reason: String,
    },
}

/// What a session, or the fleet, has for a driver.
#[derive(Debug)]
pub enum ToDriver {
    Finished {
        command: CommandId,
        outcome: Box<Outcome>,
    },
    /// Something about the build, its worker or its request changed: read again.
    Look,
}

/// A new build and what it was made of, as it stands once its match is on record: what its driver writes expects that.
#[derive(Debug)]
pub struct Matched {
    pub build: Build,
    pub plan: Plan,
    pub request: Request,
    pub worker: Worker,
}

/// Who can be reached now.
#[derive(Debug, Default)]
pub struct Switchboard {
    matched: Mutex<Vec<Matched>>,
    freed: Mutex<Vec<Worker>>,
    sessions: Mutex<HashMap<WorkerId, (u64, mailbox::Sender)>>,
    drivers: Mutex<HashMap<BuildId, (WorkerId, mpsc::Sender<ToDriver>)>>,
}

impl Switchboard {
    /// A session begins; an earlier one of the worker finds its mailbox closed.
    pub fn attach(&self, worker: WorkerId, session: u64) -> Mailbox {
        let (mailbox, receiver) = mailbox::mailbox();
        self.sessions.lock().expect("nothing panics while it is held").insert(worker, (session, mailbox));
        receiver
    }

    /// A session ends.
    pub fn detach(&self, worker: WorkerId, session: u64) {
        let mut sessions = self.sessions.lock().expect("nothing panics while it is held");
        if sessions.get(&worker).is_some_and(|(current, _)| *current == session) {
            sessions.remove(&worker);
        }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.lock().expect("nothing panics while it is held").len()
    }

    #[must_use]
    pub fn is_attached(&self, worker: WorkerId) -> bool {
        self.sessions.lock().expect("nothing panics while it is held").contains_key(&worker)
    }

    /// Hands a message to the worker's session. Where there is none, or it is stuck and is cut off here, the next connection reads the store.
    pub fn to_session(&self, worker: WorkerId, message: ToSession) {
        let mut sessions = self.sessions.lock().expect("nothing panics while it is held");
        let Some((_, mailbox)) = sessions.get(&worker) else { return };
        if !mailbox.send(message) {
            sessions.remove(&worker);
        }
    }

    /// A build was made. Who has no use for it leaves it to those who look for open builds.
    pub fn hand_over(&self, matched: Matched) {
        self.matched.lock().expect("nothing panics while it is held").push(matched);
    }

    /// All builds that were made since the last call.
    pub fn take_matched(&self) -> Vec<Matched> {
        std::mem::take(&mut *self.matched.lock().expect("nothing panics while it is held"))
    }

    /// The build on a worker's only slot ends: so the worker stands once that is on record.
    pub fn free(&self, worker: Worker) {
        self.freed.lock().expect("nothing panics while it is held").push(worker);
    }

    /// All workers that were freed since the last call.
    pub fn take_freed(&self) -> Vec<Worker> {
        std::mem::take(&mut *self.freed.lock().expect("nothing panics while it is held"))
    }

    /// A driver begins.
    pub fn drive(&self, build: BuildId, worker: WorkerId) -> mpsc::Receiver<ToDriver> {
        let (mailbox, receiver) = mpsc::channel(DEPTH);
        self.drivers.lock().expect("nothing panics while it is held").insert(build, (worker, mailbox));
        self.to_session(worker, ToSession::Report(build));
        receiver
    }

    /// A driver ends.
    pub fn leave(&self, build: BuildId) {
        self.drivers.lock().expect("nothing panics while it is held").remove(&build);
    }

    #[must_use]
    pub fn is_driven(&self, build: BuildId) -> bool {
        self.drivers.lock().expect("nothing panics while it is held").contains_key(&build)
    }

    /// Hands a message to a build's driver; dropped where there is none, since a new one asks for a report.
    pub fn to_driver(&self, build: BuildId, message: ToDriver) {
        let drivers = self.drivers.lock().expect("nothing panics while it is held");
        if let Some((_, mailbox)) = drivers.get(&build)
            && let Err(error) = mailbox.try_send(message)
        {
            tracing::warn!(%build, %error, "a build's driver does not keep up");
        }
    }

    /// Something about a worker changed.
    pub fn look_at_worker(&self, worker: WorkerId) {
        let drivers = self.drivers.lock().expect("nothing panics while it is held");
        for (_, mailbox) in drivers.values().filter(|(w, _)| *w == worker) {
            // A full mailbox wakes its driver anyway.
            let _ = mailbox.try_send(ToDriver::Look);
        }
    }
}
