//! The event log: every change that somebody may want to follow, in the order in which it became true.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an event is about. Readers skip kinds that they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    ChangeSetSeen,
    BuildsetMade,
    BuildsetDone,
    RequestMade,
    RequestClaimed,
    RequestDone,
    RequestChanged,
    BuildStarted,
    BuildPhase,
    BuildFinished,
    StepStarted,
    StepFinished,
    LogMade,
    LogGrew,
    LogSealed,
    ArtifactKept,
    CacheKept,
    WorkerPhase,
    WorkerLink,
    WorkerWanted,
    /// Somebody allows more than a budget says.
    BudgetGranted,
    /// A machine was enrolled or revoked, came or went, or somebody else came with its key.
    Machine,
    ConfigApplied,
    CodebaseState,
    /// Somebody says that there is something new in a codebase.
    CodebaseHint,
    MasterState,
    Forgotten,
}

/// An event as it is written: without a number, in the transaction of its change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    pub kind: EventKind,
    /// Version of the payload's shape for this kind.
    pub version: i64,
    /// `build/5`, `worker/7`, `log/9`: the resource, as in the API.
    pub subject: String,
    /// The project it belongs to, for rights; empty for the installation's own.
    pub project: String,
    pub at: Timestamp,
    pub payload: Value,
}

/// An event as it is read: the sequencer has numbered it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub seq: i64,
    #[serde(flatten)]
    pub body: NewEvent,
}
