//! The way in: frames from agents' sessions, in order, each once.

use super::entry::{Entry, Phase, Refusal};
use super::frames::Block;
use super::pieces::Piece;
use super::segment::Segment;
use super::{LogError, Logs};
use rouse_agent_protocol::Frame;
use rouse_model::logs::Log;
use rouse_model::{LogId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// What a frame costs beside its bytes.
const OVERHEAD: usize = 128;
/// How long output may come before the driver has opened its log: after a restart the agent may be faster.
const OPEN_WAIT: Duration = Duration::from_secs(30);

/// The end of the year 9999, which is the last that has a name of its own.
const LAST_MOMENT: i64 = 253_402_300_799_999_999;

/// Why a frame was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Sealed, or nobody's: the agent may drop what it has of it.
    #[error("log {log} takes no more output")]
    Closed { log: LogId },
    #[error("output of log {log} goes on at {got} and was expected at {expected}")]
    Gap { log: LogId, expected: u64, got: u64 },
    #[error("output of log {log} up to {end} does not unpack to what it says")]
    Damaged { log: LogId, end: u64 },
    #[error("log {log} was not opened by its build")]
    NotOpen { log: LogId },
    #[error("take output in")]
    Log(#[from] LogError),
}

/// Maps an agent's monotonic clock to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentClock {
    pub(super) offset_us: i64,
}

impl AgentClock {
    /// From the hello's `monotonic_us` and the moment at which it came.
    #[must_use]
    pub fn at_hello(monotonic_us: u64, now: Timestamp) -> Self {
        Self { offset_us: now.0.wrapping_sub(monotonic_us.cast_signed()) }
    }

    /// Within the calendar, whatever an agent says.
    #[must_use]
    pub fn at(self, agent_us: u64) -> Timestamp {
        Timestamp(agent_us.cast_signed().wrapping_add(self.offset_us).clamp(0, LAST_MOMENT))
    }
}

/// Where a session learns how far each of its streams is durable. It keeps the newest only; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    inner: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    to: Mutex<BTreeMap<LogId, u64>>,
    more: Notify,
}

impl Progress {
    /// The next stream that has got farther, and how far. For one listener; losing the future loses nothing.
    pub async fn next(&self) -> (LogId, u64) {
        loop {
            if let Some(found) = self.inner.to.lock().expect("nothing panics while it is held").pop_first() {
                return found;
            }
            self.inner.more.notified().await;
        }
    }
}

/// A log's hold on a session's [`Progress`], which ends with the session.
#[derive(Debug)]
pub(super) struct Watcher(Weak<Waiting>);

impl Watcher {
    pub(super) fn say(&self, log: LogId, to: u64) {
        if let Some(waiting) = self.0.upgrade() {
            waiting.to.lock().expect("nothing panics while it is held").insert(log, to);
            waiting.more.notify_one();
        }
    }
}

impl Logs {
    /// Takes a frame, once there is room. What was taken before is trimmed off. It is durable when [`Progress`] says so.
    ///
    /// # Errors
    /// See [`AcceptError`]; after [`AcceptError::Gap`] and [`AcceptError::Damaged`] the connection is of no use.
    pub async fn accept(
        &self,
        log: LogId,
        clock: AgentClock,
        frame: impl Into<Frame>,
    ) -> Result<(), AcceptError> {
        let frame = frame.into();
        let entry = self.opened(log).await?;
        let (cost, end) = (frame.size() + OVERHEAD, frame.end());
        self.wait_for_room(&entry, cost).await;
        let permits = u32::try_from(cost).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.inner.budget).acquire_many_owned(permits).await else {
            return Err(AcceptError::Closed { log });
        };
        let cap = self.inner.limits.log_bytes;
        {
            let mut state = entry.lock();
            match state.phase {
                Phase::Closed => return Err(AcceptError::Closed { log }),
                // Whatever comes after the announced end is dropped.
                Phase::Sealing => return Ok(()),
                Phase::Unread | Phase::Open => {}
            }
            let was_settled = state.settled > state.durable;
            let grew = state.take(frame, clock, cap).map_err(|refusal| match refusal {
                Refusal::Gap(gap) => AcceptError::Gap { log, expected: gap.expected, got: gap.got },
                Refusal::Damaged(_) => AcceptError::Damaged { log, end },
            })?;
            if state.settled < cap || grew {
                state.charge(cost, permit);
            }
            if !grew && state.settled >= cap {
                let to = state.reported(cap);
                state.watchers.iter().for_each(|w| w.say(log, to));
            }
            if grew && !was_settled {
                state.since = Some(tokio::time::Instant::now());
            }
            if grew && !state.tended {
                state.tended = true;
                self.inner.dirty.push(Arc::clone(&entry));
            }
            if state.settled - state.durable >= self.inner.limits.segment_bytes {
                entry.full.notify_one();
            }
        }
        entry.wake();
        Ok(())
    }

    async fn wait_for_room(&self, entry: &Entry, cost: usize) {
        loop {
            let room = entry.room.notified();
            tokio::pin!(room);
            // From here on no notification is missed.
            room.as_mut().enable();
            {
                let state = entry.lock();
                if state.charged == 0
                    || state.charged + cost <= self.inner.limits.waiting_bytes
                    || state.phase != Phase::Open
                {
                    return;
                }
            }
            room.await;
        }
    }

    /// How far a stream is known, for a session that begins; from then on `progress` says more. `None` where the log is sealed or nobody's.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn resume(&self, log: LogId, progress: &Progress) -> Result<Option<u64>, LogError> {
        let entry = self.entry(log);
        match self.load(&entry).await {
            Ok(()) => {}
            Err(LogError::Unknown(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut state = entry.lock();
        if matches!(state.phase, Phase::Closed) {
            return Ok(None);
        }
        watch(&mut state.watchers, progress);
        Ok(Some(state.reported(self.inner.limits.log_bytes)))
    }

    /// From now on `progress` says how far the log is durable.
    pub fn watch(&self, log: LogId, progress: &Progress) {
        watch(&mut self.entry(log).lock().watchers, progress);
    }

    /// How far output has come in, durable or not.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn received(&self, log: LogId) -> Result<u64, LogError> {
        let entry = self.entry(log);
        self.load(&entry).await?;
        let state = entry.lock();
        let row = state.row.as_ref().map_or(0, |row| row.bytes.cast_unsigned());
        Ok(if state.phase == Phase::Closed { row } else { state.received })
    }

    /// How far output is durable.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn durable(&self, log: LogId) -> Result<u64, LogError> {
        let entry = self.entry(log);
        self.load(&entry).await?;
        let state = entry.lock();
        let row = state.row.as_ref().map_or(0, |row| row.bytes.cast_unsigned());
        Ok(if state.phase == Phase::Closed { row } else { state.reported(self.inner.limits.log_bytes) })
    }

    /// The entry, once its row was read and its driver has said what to mask.
    async fn opened(&self, log: LogId) -> Result<Arc<Entry>, AcceptError> {
        let entry = self.entry(log);
        let mut changed = entry.changed.subscribe();
        let ready = async {
            while !entry.lock().is_ready() {
                // The entry holds the sender.
                let _ = changed.changed().await;
            }
        };
        match self.load(&entry).await {
            Ok(()) => {}
            Err(LogError::Unknown(_)) => return Err(AcceptError::Closed { log }),
            Err(error) => return Err(error.into()),
        }
        if entry.lock().phase == Phase::Closed {
            return Err(AcceptError::Closed { log });
        }
        tokio::time::timeout(OPEN_WAIT, ready).await.map_err(|_| AcceptError::NotOpen { log })?;
        // Its build may have ended it meanwhile, without ever opening it.
        if entry.lock().phase == Phase::Closed { Err(AcceptError::Closed { log }) } else { Ok(entry) }
    }

    /// Reads the row, and where the lines stand at its end. What is sealed or unknown leaves no entry behind.
    pub(super) async fn load(&self, entry: &Arc<Entry>) -> Result<(), LogError> {
        // The gate may be held for as long as an object takes to be stored.
        if entry.lock().phase != Phase::Unread {
            return Ok(());
        }
        let _alone = entry.gate.lock().await;
        if entry.lock().phase != Phase::Unread {
            return Ok(());
        }
        let Some(row) = self.inner.store.log(entry.id).await? else {
            self.forget(entry.id);
            return Err(LogError::Unknown(entry.id));
        };
        if row.sealed {
            self.forget(entry.id);
            entry.lock().row = Some(row);
            entry.close();
            return Ok(());
        }
        let (next_seq, block) = self.end_of(&row).await?;
        let mut state = entry.lock();
        let stored = row.bytes.cast_unsigned();
        (state.base, state.splitter, state.next_seq) = (block.first_byte, block.start, next_seq);
        state.pieces = block.frames.into_iter().map(Piece::Plain).collect();
        (state.durable, state.settled, state.received) = (stored, stored, stored);
        state.row = Some(row);
        state.phase = Phase::Open;
        Ok(())
    }

    /// The number of the next segment, and the tail that the row holds: empty, at the end of the segments, where it holds none.
    async fn end_of(&self, row: &Log) -> Result<(i64, Block), LogError> {
        let last = if row.bytes == 0 { None } else { self.inner.store.last_segment(row.id).await? };
        let next_seq = last.as_ref().map_or(0, |segment| segment.seq + 1);
        if let Some(tail) = &row.inline {
            return Ok((next_seq, Block::decode(tail.clone().into())?));
        }
        let mut start = super::lines::Splitter::default();
        let mut first_byte = 0;
        if let Some(last) = last {
            let objects = &*self.inner.objects;
            let segment = Segment::open(objects, &last.key).await?;
            let entry = *segment.index().last().ok_or(super::Damaged)?;
            let block = segment.block(objects, entry).await?;
            first_byte = block.end();
            start = block.start;
            for frame in &block.frames {
                start.push(frame.channel, frame.at, &frame.bytes, &mut |_| {});
            }
        }
        Ok((next_seq, Block { first_byte, start, frames: Vec::new() }))
    }
}

fn watch(watchers: &mut Vec<Watcher>, progress: &Progress) {
    let inner = Arc::downgrade(&progress.inner);
    watchers.retain(|w| w.0.strong_count() > 0 && !w.0.ptr_eq(&inner));
    watchers.push(Watcher(inner));
}
