//! How a command ended, and what is known of it.

use serde::{Deserialize, Serialize};

use crate::{
    MAX_FILE_LOGS, MAX_LISTED, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_UPLOAD_FILES, StreamId,
};

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

impl Outcome {
    /// As much of it as the caps allow: what a master keeps, whatever has sent it.
    #[must_use]
    pub fn capped(mut self) -> Self {
        // A command has one stream, and those of its files.
        self.streams.truncate(1 + MAX_FILE_LOGS);
        self.streams.iter_mut().filter_map(|end| end.note.as_mut()).for_each(shorten);
        if let Some(NoRoom { path, .. }) = &mut self.no_room {
            path.truncate(path.floor_char_boundary(MAX_PATH_BYTES));
        }
        match &mut self.kind {
            OutcomeKind::Stopped { reason: text }
            | OutcomeKind::CouldNotStart { message: text }
            | OutcomeKind::Failed { message: text, .. } => shorten(text),
            OutcomeKind::PathsDone { listings } => {
                let mut left = (MAX_LISTED, MAX_NAME_BYTES);
                for listing in listings {
                    let fits = keep(&mut listing.entries, &mut left, |entry| entry.path.len());
                    listing.cut |= !fits;
                }
            }
            OutcomeKind::Transferred { files } => {
                keep(files, &mut (MAX_UPLOAD_FILES, MAX_NAME_BYTES), |file| {
                    file.path.len() + file.sha256.len()
                });
            }
            OutcomeKind::Exited { .. }
            | OutcomeKind::Signalled { .. }
            | OutcomeKind::TimedOut { .. }
            | OutcomeKind::Silent { .. } => {}
        }
        self
    }

    /// The texts for people in it.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let notes = self.streams.iter_mut().filter_map(|end| end.note.as_mut());
        let message = match &mut self.kind {
            OutcomeKind::Stopped { reason: text }
            | OutcomeKind::CouldNotStart { message: text }
            | OutcomeKind::Failed { message: text, .. } => Some(text),
            OutcomeKind::Exited { .. }
            | OutcomeKind::Signalled { .. }
            | OutcomeKind::TimedOut { .. }
            | OutcomeKind::Silent { .. }
            | OutcomeKind::PathsDone { .. }
            | OutcomeKind::Transferred { .. } => None,
        };
        message.into_iter().chain(notes)
    }
}

fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
}

/// Keeps as many of the items, and as many bytes of their names, as are left; answers whether that was all of them.
fn keep<T>(items: &mut Vec<T>, left: &mut (usize, usize), bytes: impl Fn(&T) -> usize) -> bool {
    let fitting = items.iter().take_while(|item| {
        let next = (left.0.checked_sub(1), left.1.checked_sub(bytes(item)));
        let fits = next.0.zip(next.1);
        if let Some(fits) = fits {
            *left = fits;
        }
        fits.is_some()
    });
    let count = fitting.count();
    let whole = count == items.len();
    items.truncate(count);
    whole
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    pub stream: StreamId,
    pub to: u64,
    /// What there is to say of a file that was followed: that it was never there, that it was written anew meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kind: OutcomeKind) -> Outcome {
        let note = Some("ü".repeat(MAX_MESSAGE_BYTES));
        let streams = vec![StreamEnd { stream: StreamId(1), to: 1, note }; 2 * MAX_FILE_LOGS];
        Outcome {
            kind,
            started_us: 0,
            finished_us: 0,
            started_wall_us: 0,
            finished_wall_us: 0,
            streams,
            max_rss_bytes: None,
            cpu_us: None,
            oom_killed: false,
            leftovers: 0,
            no_room: None,
        }
    }

    #[test]
    fn what_is_beyond_a_cap_is_cut() {
        let said = outcome(OutcomeKind::CouldNotStart { message: "ü".repeat(MAX_MESSAGE_BYTES) });
        let mut said = said.capped();
        // The message, and a note for each stream.
        assert_eq!(said.texts_mut().map(|text| text.len()).collect::<Vec<_>>(), [MAX_MESSAGE_BYTES; 18]);
        let file =
            TransferredFile { path: "x".repeat(MAX_NAME_BYTES / 4), size: u64::MAX, sha256: String::new() };
        let sent = outcome(OutcomeKind::Transferred { files: vec![file; 9] }).capped();
        let OutcomeKind::Transferred { files } = sent.kind else { panic!("it is another kind") };
        assert_eq!(files.len(), 4);
        let entry = Entry { path: String::new(), kind: EntryKind::File, size: 0, modified_s: 0 };
        let listing = |entries: usize| Listing { entries: vec![entry.clone(); entries], cut: false };
        let listings = vec![listing(MAX_LISTED), listing(1), listing(0)];
        let OutcomeKind::PathsDone { listings } = outcome(OutcomeKind::PathsDone { listings }).capped().kind
        else {
            panic!("it is another kind")
        };
        let seen: Vec<_> = listings.iter().map(|listing| (listing.entries.len(), listing.cut)).collect();
        assert_eq!(seen, [(MAX_LISTED, false), (0, true), (0, false)]);
    }
}
