//! Masters and the roles they hold. Expiry is judged by an observer's own monotonic clock since a counter last moved, never by wall clocks.

use crate::{MasterId, Timestamp};
use serde::{Deserialize, Serialize};

/// One master's row. Its term rises when it starts and when another master fences it; every write is checked against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Master {
    pub id: MasterId,
    pub name: String,
    pub machine: String,
    pub term: i64,
    /// Moves with each heartbeat.
    pub counter: i64,
    pub started: Timestamp,
    /// Ended on its own: its roles are free at once.
    pub stopped: bool,
}

/// A role held by one master: a poller per codebase, each scheduler, the matcher, the scaler, a reaper per account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Role {
    /// `poller`, `scheduler`, `matcher`, `fleet`, `reaper`.
    pub role: String,
    /// The codebase, the scheduler, the account; empty where there is one.
    pub shard: String,
    pub master: MasterId,
    /// Rises with each takeover.
    pub term: i64,
}
