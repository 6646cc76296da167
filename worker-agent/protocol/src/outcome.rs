//! How a command ended, and what is known of it.

use serde::{Deserialize, Serialize};

use crate::StreamId;

/// Kept by the agent until the master says `forget`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub kind: OutcomeKind,
    /// Agent's monotonic clock, µs; the same clock as in stream frames. Started is when the process ran (or the transfer began).
    pub started_us: u64,
    pub finished_us: u64,
    /// Agent's wall clock, µs since 1970.
    pub started_wall_us: i64,
    pub finished_wall_us: i64,
    /// Where each stream of the command ends: the master has all its output once it holds the bytes up to here.
    #[serde(default)]
    pub streams: Vec<StreamEnd>,
    /// Largest resident set of one process, where known.
    #[serde(default)]
    pub max_rss_bytes: Option<u64>,
    /// CPU time of the process and the children it waited for.
    #[serde(default)]
    pub cpu_us: Option<u64>,
    /// The kernel killed something for want of memory in the worker's cgroup while the command ran.
    #[serde(default)]
    pub oom_killed: bool,
    /// Processes that the command left behind and the agent killed.
    #[serde(default)]
    pub leftovers: u32,
    /// A file system that commands write to was full while this one ran, or when it ended, and it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_room: Option<NoRoom>,
}

/// A full file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoRoom {
    /// Something on it: the work directory, the directory for temporary files.
    pub path: String,
    /// Bytes that commands could still write, and all that it has.
    pub free: u64,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    Exited {
        code: i32,
    },
    Signalled {
        signal: i32,
    },
    /// The total timeout struck; the tree was killed.
    TimedOut {
        after_s: f64,
    },
    /// No output for so long; the tree was killed.
    Silent {
        after_s: f64,
    },
    /// The master asked.
    Stopped {
        reason: String,
    },
    /// No process came to be: a fault of the command or the image. The message says what is missing and what to do.
    CouldNotStart {
        message: String,
    },
    /// Every operation on paths succeeded; one listing for each `list`, in order.
    PathsDone {
        listings: Vec<Listing>,
    },
    Transferred {
        files: Vec<TransferredFile>,
    },
    Failed {
        message: String,
        class: FailureClass,
    },
}

/// Whose failure it is: an infrastructure failure is never a red build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    User,
    Infrastructure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    pub stream: StreamId,
    pub to: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// There was more than [`crate::MAX_LISTED`] and [`crate::MAX_NAME_BYTES`] allow.
    #[serde(default)]
    pub cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the `path` listed; empty for the path itself. Bytes that are not UTF-8 are replaced.
    pub path: String,
    pub kind: EntryKind,
    pub size: u64,
    /// Seconds since 1970.
    pub modified_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    File,
    Directory,
    Link,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferredFile {
    /// Upload: relative to `base_dir`. Download: relative to the work directory.
    pub path: String,
    pub size: u64,
    /// Hex.
    pub sha256: String,
}
