//! Why a worker ends.

use super::{Phase, Wanted, Worker};
use crate::DecisionId;
use crate::failure::FailureClass;
use serde::{Deserialize, Serialize};

/// Why an instance ended or is to end: a class where it is a failure, and words for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub code: CauseCode,
    #[serde(default)]
    pub class: Option<FailureClass>,
    pub message: String,
    /// What the scaler came to; absent where it had no part in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
}

impl Cause {
    /// One without a decision of the scaler.
    #[must_use]
    pub fn new(code: CauseCode, class: Option<FailureClass>, message: impl Into<String>) -> Self {
        Self { code, class, message: message.into(), decision: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseCode {
    /// Served as many builds as its pool allows.
    Used,
    /// Idle for longer than its pool allows.
    Idle,
    /// Nothing waits for its class, and others want its room.
    Displaced,
    /// What it could still be given to do costs more than its pool may spend.
    Budget,
    /// Past its maximum age.
    Age,
    LaunchRefused,
    /// The launch or attach deadline passed.
    Deadline,
    /// The instance ended by itself before or after attaching.
    Died,
    /// The agent was silent past its grace.
    Silent,
    /// Its provider could not stop it to be parked.
    ParkFailed,
    /// Its provider could not start it again, or its agent did not come back.
    ResumeFailed,
    /// Its pool was removed or changed.
    PoolChanged,
    Operator,
    Shutdown,
    /// The link saw something that must not be: a stolen token, a forged message.
    Alarm,
}

impl Worker {
    /// Why it has ended or is to end.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match (&self.phase, &self.wanted) {
            (Phase::Gone { cause } | Phase::Terminating { cause, .. }, _)
            | (_, Wanted::End { cause } | Wanted::Drain { cause }) => Some(cause),
            _ => None,
        }
    }
}
