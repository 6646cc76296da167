//! Logs and artifacts as rows; their bytes live with the master's log and artifact services.

use crate::{ArtifactId, BuildId, LogId, StepId, Timestamp};
use serde::{Deserialize, Serialize};

/// One log of a step. While it grows, `bytes` is what is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    pub id: LogId,
    pub build: BuildId,
    pub step: StepId,
    /// `stdio` for a step's own output; others as the step's `logs` call them.
    pub name: String,
    pub bytes: i64,
    pub lines: i64,
    pub sealed: bool,
    /// The whole log, where it is sealed and under 16 KiB: the same frames that a segment holds, not compressed.
    pub inline: Option<Vec<u8>>,
    /// Why bytes are missing, where they are: a cap, a lost agent.
    pub note: Option<String>,
    pub created: Timestamp,
    pub generation: i64,
}

impl Log {
    /// One that nothing has been written to yet.
    #[must_use]
    pub fn begun(id: LogId, (build, step): (BuildId, StepId), name: String, created: Timestamp) -> Self {
        Self {
            id,
            build,
            step,
            name,
            bytes: 0,
            lines: 0,
            sealed: false,
            inline: None,
            note: None,
            created,
            generation: 0,
        }
    }
}

/// One immutable piece of a log in the object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSegment {
    pub log: LogId,
    /// Counted from 0; after compaction a log has one segment 0 that holds all.
    pub seq: i64,
    pub first_byte: i64,
    pub bytes: i64,
    pub first_line: i64,
    pub lines: i64,
    /// Key in the object store; contains the store epoch.
    pub key: String,
}

/// One file kept from a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub id: ArtifactId,
    pub build: BuildId,
    pub step: StepId,
    /// The upload's `as:`.
    pub set: String,
    /// Relative, checked.
    pub path: String,
    pub bytes: i64,
    pub sha256: String,
    pub key: String,
    pub created: Timestamp,
}
