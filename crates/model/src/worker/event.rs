//! What happens to a worker, and what comes of it.

use super::{Cause, ProviderRef, Worker};
use crate::Timestamp;

/// What happens to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The driver is about to call the provider.
    LaunchIssued {
        deadline: Timestamp,
    },
    /// The provider took it; the attach deadline counts from now.
    Accepted {
        at: ProviderRef,
        attach_deadline: Timestamp,
    },
    LaunchRefused {
        cause: Cause,
    },
    /// An agent proved to be this worker's.
    Attached {
        session: String,
        incarnation: String,
    },
    Detached {
        session: String,
    },
    GraceOver,
    /// The provider says that the instance is dead or away.
    InstanceDied {
        cause: Cause,
    },
    Drain {
        cause: Cause,
    },
    CancelDrain,
    Hold {
        until: Timestamp,
        by: String,
    },
    Release,
    /// It is to lie stopped.
    Park,
    /// It is wanted after all, however far it was parked.
    Resume,
    /// The driver is about to ask for it to be stopped.
    ParkIssued,
    /// The provider says that it lies.
    ParkConfirmed,
    /// The driver is about to ask for it to be started again.
    ResumeIssued {
        deadline: Timestamp,
    },
    End {
        cause: Cause,
    },
    /// The driver is about to ask for its end.
    TerminateIssued,
    AbsenceConfirmed,
}

/// What the caller must do once the next value is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    CallLaunch,
    CallTerminate,
    CallPark,
    CallResume,
    /// Builds on it lost their agent.
    BuildsLost(Cause),
    TellAgentEnd,
}

/// The answer to an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition {
    Applied {
        next: Box<Worker>,
        effects: Vec<Effect>,
    },
    AlreadySatisfied,
    /// The only error: the event contradicts what is on record.
    Conflict(&'static str),
}
