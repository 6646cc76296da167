//! One log's part in memory: what has come and is not yet stored, and the short tail that its row holds.
//!
//! The state's lock is held for moments and never across a wait; the gate is held by whoever writes or reads the row.

use super::frames::{Damaged, Frame};
use super::intake::{AgentClock, Watcher};
use super::lines::Splitter;
use super::pieces::{Packed, Piece, Run, is_sound, unpacked};
use rouse_agent_protocol::masking::{GapError, Masks, StreamMasker};
use rouse_agent_protocol::{Frame as Incoming, PackedFrame, StreamFrame};
use rouse_model::logs::{Log, LogSegment};
use rouse_model::{LogId, Timestamp};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// Permits of small frames are kept together up to this many bytes.
const CHARGE: usize = 64 * 1024;
/// A frame below this is copied out of the buffer that it came in, which may be much larger.
const COPIED: usize = 4 * 1024;

#[derive(Debug)]
pub(super) struct Entry {
    pub id: LogId,
    state: Mutex<State>,
    pub gate: tokio::sync::Mutex<()>,
    /// Moves whenever there is something new to see.
    pub changed: watch::Sender<u64>,
    /// Bytes were stored: there is room again.
    pub room: Notify,
    /// A segment is full: write now.
    pub full: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The row was not read yet.
    Unread,
    Open,
    /// A driver has the batch that seals it.
    Sealing,
    Closed,
}

/// Why a frame is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Gap(#[from] GapError),
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

#[derive(Debug)]
pub(super) struct State {
    pub phase: Phase,
    /// As it stands in the database.
    pub row: Option<Log>,
    /// Given by the driver; without them nothing is taken in.
    pub masks: Option<Masks>,
    pub masker: Option<StreamMasker>,
    /// Offset up to which segments hold the bytes, and where the lines stood there.
    pub base: u64,
    pub splitter: Splitter,
    pub next_seq: i64,
    /// Masked bytes from `base` on.
    pub pieces: VecDeque<Piece>,
    /// End of the stored bytes, of those in memory, and of those that came.
    pub durable: u64,
    pub settled: u64,
    pub received: u64,
    /// When the first byte came that is not durable.
    pub since: Option<Instant>,
    pub tended: bool,
    pub charged: usize,
    charges: VecDeque<(u64, OwnedSemaphorePermit)>,
    pub watchers: Vec<Watcher>,
    /// What the batch of an earlier attempt to seal holds.
    pub sealed_as: Option<(Log, Option<LogSegment>)>,
}

impl Entry {
    pub(super) fn new(id: LogId) -> Self {
        Self {
            id,
            state: Mutex::new(State {
                phase: Phase::Unread,
                row: None,
                masks: None,
                masker: None,
                base: 0,
                splitter: Splitter::default(),
                next_seq: 0,
                pieces: VecDeque::new(),
                durable: 0,
                settled: 0,
                received: 0,
                since: None,
                tended: false,
                charged: 0,
                charges: VecDeque::new(),
                watchers: Vec::new(),
                sealed_as: None,
            }),
            gate: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(0),
            room: Notify::default(),
            full: Notify::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    pub(super) fn wake(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(super) fn open(&self, masks: Masks) {
        {
            let mut state = self.lock();
            // Secrets that could not be had at first replace none; what masks already goes on.
            if state.masks.as_ref().is_none_or(Masks::is_empty) {
                state.masks = Some(masks);
            }
        }
        self.wake();
    }

    pub(super) fn fresh(&self, row: &Log) {
        let mut state = self.lock();
        if state.phase == Phase::Unread {
            state.phase = Phase::Open;
            state.row = Some(row.clone());
        }
    }

    pub(super) fn close(&self) {
        {
            let mut state = self.lock();
            state.phase = Phase::Closed;
            state.pieces.clear();
            state.charges.clear();
            state.charged = 0;
        }
        self.wake();
        self.room.notify_waiters();
        self.full.notify_one();
    }
}

impl State {
    /// Output need not wait any longer: it is known what to mask, or nothing more is taken.
    pub(super) fn is_ready(&self) -> bool {
        self.masks.is_some() || self.phase == Phase::Closed
    }

    /// What an agent may be told: everything before it is stored, or beyond the cap and dropped.
    pub(super) fn reported(&self, cap: u64) -> u64 {
        if self.settled >= cap && self.durable >= cap { self.received } else { self.durable }
    }

    /// Takes a frame in; answers whether there is something new to store.
    pub(super) fn take(&mut self, frame: Incoming, clock: AgentClock, cap: u64) -> Result<bool, Refusal> {
        if self.settled >= cap {
            self.received = self.received.max(frame.end());
            return Ok(false);
        }
        match frame {
            Incoming::Plain(frame) => Ok(self.take_plain(frame, clock, cap)?),
            Incoming::Packed(frame) if !is_sound(&frame) => Err(Damaged.into()),
            Incoming::Packed(frame) if self.may_keep(&frame, cap) => {
                self.keep(frame, clock);
                Ok(true)
            }
            Incoming::Packed(frame) => {
                let bytes = unpacked(&frame)?;
                Ok(self.take_plain(frame.plain(bytes), clock, cap)?)
            }
        }
    }

    /// Whether packed lines can be stored as they came: they go on exactly here, all of them are kept, and nothing in them is masked.
    fn may_keep(&self, frame: &PackedFrame, cap: u64) -> bool {
        let here = frame.offset == self.received && self.received == self.settled;
        here && frame.end() <= cap
            && self.masks.as_ref().is_some_and(Masks::is_empty)
            && self.masker.is_none()
    }

    fn keep(&mut self, frame: PackedFrame, clock: AgentClock) {
        (self.received, self.settled) = (frame.end(), frame.end());
        let PackedFrame { offset, channel, at_us, length, lines, packed: bytes, .. } = frame;
        let at = clock.at(at_us);
        self.pieces.push_back(Piece::Packed(Packed { offset, channel, at, length, lines, bytes }));
    }

    fn take_plain(&mut self, frame: StreamFrame, clock: AgentClock, cap: u64) -> Result<bool, GapError> {
        if frame.offset > self.received {
            return Err(GapError { expected: self.received, got: frame.offset });
        }
        let Some(mut frame) = frame.trimmed_to(self.received) else { return Ok(false) };
        // From here on the time is ours: what is held back may come out under another connection's clock.
        frame.at_us = clock.at(frame.at_us).0.cast_unsigned();
        if frame.bytes.len() < COPIED {
            frame.bytes = bytes::Bytes::copy_from_slice(&frame.bytes);
        }
        if self.masker.is_none()
            && let Some(masks) = self.masks.as_ref().filter(|m| !m.is_empty())
        {
            self.masker = Some(StreamMasker::new(masks, self.received));
        }
        self.received = frame.end();
        let before = self.settled;
        match &mut self.masker {
            None => self.append(frame, cap),
            Some(masker) => {
                for frame in masker.push(frame)? {
                    self.append(frame, cap);
                }
            }
        }
        Ok(self.settled > before)
    }

    fn append(&mut self, frame: StreamFrame, cap: u64) {
        let at = Timestamp(frame.at_us.cast_signed());
        let frame = Frame { offset: frame.offset, channel: frame.channel, at, bytes: frame.bytes };
        if let Some(frame) = frame.within(self.settled, cap) {
            self.settled = frame.end();
            self.pieces.push_back(Piece::Plain(frame));
        }
    }

    /// No more will come: what was held back comes out.
    pub(super) fn finish(&mut self, cap: u64) {
        if let Some(mut masker) = self.masker.take() {
            for frame in masker.finish(rouse_agent_protocol::StreamId(0)) {
                self.append(frame, cap);
            }
        }
    }

    /// Keeps the permit until the bytes that came so far are stored.
    pub(super) fn charge(&mut self, cost: usize, permit: OwnedSemaphorePermit) {
        self.charged += cost;
        if let Some((end, last)) = self.charges.back_mut()
            && last.num_permits() + cost <= CHARGE
        {
            *end = self.received;
            last.merge(permit);
        } else {
            self.charges.push_back((self.received, permit));
        }
    }

    /// Everything before `to` is stored.
    pub(super) fn stored(&mut self, to: u64) {
        self.durable = to;
        self.since = (self.settled > to).then(Instant::now);
        while let Some((end, _)) = self.charges.front()
            && *end <= to
        {
            if let Some((_, permit)) = self.charges.pop_front() {
                self.charged -= permit.num_permits();
            }
        }
    }

    /// The segments reach up to `to` now, where the lines stand as given.
    pub(super) fn rebase(&mut self, to: u64, splitter: Splitter) {
        self.base = to;
        self.splitter = splitter;
        while self.pieces.front().is_some_and(|piece| piece.end() <= to) {
            self.pieces.pop_front();
        }
        if let Some(front) = self.pieces.front_mut()
            && front.offset() < to
            && let Some(rest) = front.clone().frame().within(to, u64::MAX)
        {
            *front = Piece::Plain(rest);
        }
    }

    /// What stands in memory.
    pub(super) fn run(&self) -> Run {
        Run {
            first_byte: self.base,
            start: self.splitter.clone(),
            pieces: self.pieces.iter().cloned().collect(),
        }
    }
}
