//! Logs: taken in from agents, masked, kept, and read by any number of readers while they grow.
//!
//! A log is bytes with channels and times, stored as immutable segments in the object store plus a short tail in its row; see `logs/frames.rs` and
//! `logs/segment.rs` for how. What is not durable yet stands in memory ([`entry`]), bounded for each log and over all: an agent that is faster than
//! the disk waits. A log under 16 KiB never becomes an object. Whole lines that an agent has packed are stored as they came ([`pieces`]).
//!
//! The build's driver inserts a log's row, says [`Logs::open`] before the command is sent, and appends what [`Logs::seal`] answers to the
//! batch that ends the command. In between this service is the only writer of the row and of its segments. It knows nothing of builds
//! or steps, and trusts no agent: bytes beyond the cap are counted and dropped.

mod compact;
mod entry;
mod escapes;
mod flush;
mod frames;
mod intake;
mod lines;
mod pieces;
mod read;
mod seal;
mod segment;
#[cfg(test)]
mod tests;
mod view;

pub use frames::Damaged;
pub use intake::{AcceptError, AgentClock, Progress};
pub use lines::{Line, channel_word};
pub use view::{LinesPage, LogStatus};

use entry::Entry;
use object_store::ObjectStore;
use rouse_agent_protocol::masking::Masks;
use rouse_model::LogId;
use rouse_model::logs::Log;
use rouse_store::{CommitError, ReadError, Store};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Why a log could not be read or closed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log {0} is not on record")]
    Unknown(LogId),
    #[error("read a log's row")]
    Read(#[from] ReadError),
    #[error("write a log's row")]
    Commit(#[from] CommitError),
    #[error("reach the log store")]
    Objects(#[from] object_store::Error),
    #[error("read a stored log")]
    Damaged(#[from] Damaged),
    #[error("compress a log")]
    Compress(#[source] std::io::Error),
    #[error("bytes of log {log} from {offset} on are missing")]
    Missing { log: LogId, offset: u64 },
}

/// How much, how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes kept of one log; the rest is dropped and noted.
    pub log_bytes: u64,
    /// Most bytes of one log that wait for the disk.
    pub waiting_bytes: usize,
    /// The same of all logs together.
    pub waiting_bytes_in_all: usize,
    /// A log that has so many new bytes is written at once.
    pub segment_bytes: u64,
    /// One that has fewer is written after this.
    pub segment_age: Duration,
    /// A log, or the tail of one, up to this stands in its row.
    pub inline_bytes: u64,
    /// How long bytes that an agent announced may fail to come before their log is sealed without them.
    pub seal_wait: Duration,
    /// A sealed log of so many segments is compacted.
    pub compact_at: usize,
    /// The size at which a compacted segment ends, compressed.
    pub compacted_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            log_bytes: rouse_agent_protocol::MAX_LOG_BYTES,
            waiting_bytes: 8 << 20,
            waiting_bytes_in_all: 256 << 20,
            segment_bytes: 6 << 20,
            segment_age: Duration::from_secs(2),
            inline_bytes: 16 << 10,
            seal_wait: Duration::from_secs(10),
            compact_at: 4,
            compacted_bytes: 4 << 20,
        }
    }
}

/// The log service; clones share it.
#[derive(Debug, Clone)]
pub struct Logs {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    objects: Arc<dyn ObjectStore>,
    limits: Limits,
    entries: Mutex<HashMap<LogId, Arc<Entry>>>,
    budget: Arc<Semaphore>,
    /// Logs that have something to be written, for [`Logs::run`].
    dirty: Queue<Arc<Entry>>,
    /// Sealed logs of many segments.
    scattered: Queue<LogId>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("objects", &self.objects.to_string()).finish_non_exhaustive()
    }
}

/// What waits for the one task of this service; each log stands in it at most once.
#[derive(Debug)]
struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    more: Notify,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), more: Notify::default() }
    }
}

impl<T> Queue<T> {
    fn push(&self, item: T) {
        self.items.lock().expect("nothing panics while it is held").push_back(item);
        self.more.notify_one();
    }

    async fn pop(&self) -> T {
        loop {
            if let Some(item) = self.items.lock().expect("nothing panics while it is held").pop_front() {
                return item;
            }
            self.more.notified().await;
        }
    }
}

impl Logs {
    /// Nothing is written before [`Logs::run`] runs.
    #[must_use]
    pub fn new(store: Store, objects: Arc<dyn ObjectStore>, limits: Limits) -> Self {
        let budget = Arc::new(Semaphore::new(limits.waiting_bytes_in_all.min(Semaphore::MAX_PERMITS)));
        Self {
            inner: Arc::new(Inner {
                store,
                objects,
                limits,
                entries: Mutex::default(),
                budget,
                dirty: Queue::default(),
                scattered: Queue::default(),
            }),
        }
    }

    /// Most bytes that are kept of one log.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.inner.limits.log_bytes
    }

    /// Says that output of a log may come now, and what must be masked in it. Before this, output waits. Called before the command is sent;
    /// again after a restart, which changes nothing where the log is open already.
    pub fn open(&self, log: LogId, masks: Masks) {
        self.entry(log).open(masks);
    }

    /// The same for a log whose row is about to be inserted as it stands here: nothing needs to be read.
    pub fn open_new(&self, row: &Log, masks: Masks) {
        let entry = self.entry(row.id);
        entry.fresh(row);
        entry.open(masks);
    }

    /// The log's entry, made where there is none.
    fn entry(&self, log: LogId) -> Arc<Entry> {
        let mut entries = self.inner.entries.lock().expect("nothing panics while it is held");
        Arc::clone(entries.entry(log).or_insert_with(|| Arc::new(Entry::new(log))))
    }

    fn known(&self, log: LogId) -> Option<Arc<Entry>> {
        self.inner.entries.lock().expect("nothing panics while it is held").get(&log).cloned()
    }

    fn forget(&self, log: LogId) {
        self.inner.entries.lock().expect("nothing panics while it is held").remove(&log);
    }
}
