//! Reading a log from any place on, from the store into memory without a seam. A reader keeps one block; how many there are costs the writer nothing.

use super::entry::{Entry, Phase};
use super::frames::{Block, Frame};
use super::lines::Splitter;
use super::pieces::Piece;
use super::segment::Segment;
use super::{LogError, Logs};
use rouse_model::LogId;
use rouse_model::logs::{Log, LogSegment};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How much is taken from memory at once.
const BATCH: u64 = 256 * 1024;
/// How often a log that another master writes is looked at.
const POLL: Duration = Duration::from_secs(1);
/// Rows and objects move while they are read: from memory to the store, from small segments to large ones.
const TRIES: usize = 20;

/// Where reading is to begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Byte(u64),
    Line(i64),
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Got {
    Frames(Vec<Frame>),
    /// Nothing more now.
    Nothing,
    /// Nothing more ever.
    End,
}

#[derive(Debug)]
pub(super) struct Reader {
    logs: Logs,
    log: LogId,
    pub offset: u64,
    /// The log's part in memory, where it is open on this master.
    live: Option<(Arc<Entry>, watch::Receiver<u64>)>,
    stored: Option<Stored>,
    segment: Option<(String, Segment)>,
    block: Option<Block>,
}

/// The rows, as last read.
#[derive(Debug)]
struct Stored {
    row: Log,
    segments: Vec<LogSegment>,
}

impl Reader {
    /// A reader that stands at or before the target, and where the lines stand there.
    pub(super) async fn begin(logs: &Logs, log: LogId, target: Target) -> Result<(Self, Splitter), LogError> {
        let mut reader =
            Self { logs: logs.clone(), log, offset: 0, live: None, stored: None, segment: None, block: None };
        for _ in 0..TRIES {
            match reader.find(target).await {
                Ok(Some(start)) => return Ok((reader, start)),
                Ok(None) => {}
                Err(error) if is_moved(&error) => reader.forget_stored(),
                Err(error) => return Err(error),
            }
        }
        Err(LogError::Missing { log, offset: reader.offset })
    }

    async fn find(&mut self, target: Target) -> Result<Option<Splitter>, LogError> {
        self.look_for_entry().await?;
        if let Some((entry, _)) = &self.live {
            let state = entry.lock();
            let within = match target {
                Target::Byte(byte) => byte >= state.base,
                Target::Line(n) => n >= state.splitter.next,
            };
            if is_live(state.phase) && within {
                self.offset = state.base;
                return Ok(Some(state.splitter.clone()));
            }
        }
        self.refresh().await?;
        let Some(stored) = &self.stored else { return Ok(None) };
        let tail = stored.row.inline.clone().map(|t| Block::decode(t.into())).transpose()?;
        let begins_before = |first_byte: i64, first_line: i64| match target {
            Target::Byte(byte) => first_byte.cast_unsigned() <= byte,
            Target::Line(n) => first_line <= n,
        };
        let in_tail = tail.filter(|b| begins_before(b.first_byte.cast_signed(), b.start.next));
        let block = match in_tail {
            Some(tail) => tail,
            None => {
                let found = stored.segments.iter().rev().find(|s| begins_before(s.first_byte, s.first_line));
                let Some(found) = found.or(stored.segments.first()).cloned() else {
                    // Nothing is stored yet, and what is in memory began later than the target a moment ago.
                    self.offset = 0;
                    return Ok(Some(Splitter::default()));
                };
                self.open(&found.key).await?;
                let Some((_, segment)) = &self.segment else { return Ok(None) };
                let at = match target {
                    Target::Byte(byte) => segment.at_byte(byte),
                    Target::Line(n) => segment.at_line(n),
                };
                let at = at.or(segment.index().first().copied()).ok_or(super::Damaged)?;
                segment.block(&*self.logs.inner.objects, at).await?
            }
        };
        self.offset = block.first_byte;
        let start = block.start.clone();
        self.block = Some(block);
        Ok(Some(start))
    }

    /// What follows; the reader moves on.
    pub(super) async fn next(&mut self) -> Result<Got, LogError> {
        for _ in 0..TRIES {
            self.look_for_entry().await?;
            if let Some(got) = self.in_memory() {
                return Ok(self.moved(got));
            }
            match self.in_store().await {
                Ok(Some(got)) => return Ok(self.moved(got)),
                Ok(None) => {}
                Err(error) if is_moved(&error) => self.forget_stored(),
                Err(error) => return Err(error),
            }
        }
        Err(LogError::Missing { log: self.log, offset: self.offset })
    }

    /// Until there may be more.
    pub(super) async fn wait(&mut self) {
        match &mut self.live {
            // An entry that is dropped has ended: look again.
            Some((_, changed)) => {
                let _ = changed.changed().await;
            }
            None => tokio::time::sleep(POLL).await,
        }
    }

    fn moved(&mut self, got: Got) -> Got {
        if let Got::Frames(frames) = &got
            && let Some(last) = frames.last()
        {
            self.offset = last.end();
        }
        got
    }

    async fn look_for_entry(&mut self) -> Result<(), LogError> {
        if self.live.as_ref().is_some_and(|(entry, _)| entry.lock().phase == Phase::Closed) {
            self.live = None;
            self.stored = None;
        }
        if self.live.is_none()
            && let Some(entry) = self.logs.known(self.log)
        {
            match self.logs.load(&entry).await {
                Ok(()) => {
                    let changed = entry.changed.subscribe();
                    self.live = Some((entry, changed));
                }
                Err(LogError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some((_, changed)) = &mut self.live {
            // What is seen from here on is older than any change that is waited for.
            changed.borrow_and_update();
        }
        Ok(())
    }

    fn in_memory(&self) -> Option<Got> {
        let (entry, _) = self.live.as_ref()?;
        let state = entry.lock();
        if !is_live(state.phase) || self.offset < state.base {
            return None;
        }
        if self.offset >= state.settled {
            return Some(Got::Nothing);
        }
        let from = state.pieces.partition_point(|piece| piece.end() <= self.offset);
        let enough = self.offset + BATCH;
        let pieces = state.pieces.range(from..).take_while(|piece| piece.offset() < enough);
        let pieces: Vec<Piece> = pieces.cloned().collect();
        // The writer does not wait for what is unpacked here.
        drop(state);
        let frames = pieces.into_iter().filter_map(|piece| piece.frame().within(self.offset, u64::MAX));
        Some(Got::Frames(frames.collect()))
    }

    async fn in_store(&mut self) -> Result<Option<Got>, LogError> {
        if let Some(frames) = self.block.as_ref().and_then(|b| rest_of(b, self.offset)) {
            return Ok(Some(Got::Frames(frames)));
        }
        self.block = None;
        if self.stored.is_none() {
            self.refresh().await?;
        }
        let Some(stored) = &self.stored else { return Ok(None) };
        let holds = |s: &&LogSegment| {
            let (from, to) = (s.first_byte.cast_unsigned(), (s.first_byte + s.bytes).cast_unsigned());
            (from..to).contains(&self.offset)
        };
        let key = stored.segments.iter().rev().find(holds).map(|s| s.key.clone());
        let (end, sealed) = (stored.row.bytes.cast_unsigned(), stored.row.sealed);
        if let Some(key) = key {
            self.open(&key).await?;
            let Some((_, segment)) = &self.segment else { return Ok(None) };
            let at = segment.at_byte(self.offset).ok_or(super::Damaged)?;
            self.block = Some(segment.block(&*self.logs.inner.objects, at).await?);
        } else if let Some(tail) = &stored.row.inline {
            self.block = Some(Block::decode(tail.clone().into())?);
        }
        if let Some(frames) = self.block.as_ref().and_then(|b| rest_of(b, self.offset)) {
            return Ok(Some(Got::Frames(frames)));
        }
        // What was read may be old by now.
        self.forget_stored();
        if self.offset < end {
            return Ok(None);
        }
        if sealed {
            return Ok(Some(Got::End));
        }
        Ok(self.live.is_none().then_some(Got::Nothing))
    }

    /// The row first: what it no longer holds, the segments do.
    async fn refresh(&mut self) -> Result<(), LogError> {
        let store = &self.logs.inner.store;
        let row = store.log(self.log).await?.ok_or(LogError::Unknown(self.log))?;
        let segments = store.segments(self.log).await?;
        self.stored = Some(Stored { row, segments });
        Ok(())
    }

    fn forget_stored(&mut self) {
        self.stored = None;
        self.segment = None;
        self.block = None;
    }

    async fn open(&mut self, key: &str) -> Result<(), LogError> {
        if self.segment.as_ref().is_none_or(|(known, _)| known != key) {
            self.segment = Some((key.to_owned(), Segment::open(&*self.logs.inner.objects, key).await?));
        }
        Ok(())
    }
}

fn is_live(phase: Phase) -> bool {
    matches!(phase, Phase::Open | Phase::Sealing)
}

/// A compaction took the object away under the reader.
fn is_moved(error: &LogError) -> bool {
    matches!(error, LogError::Objects(object_store::Error::NotFound { .. }))
}

/// The frames of a block from an offset within it on.
fn rest_of(block: &Block, offset: u64) -> Option<Vec<Frame>> {
    let frames: Vec<Frame> = block.frames.iter().filter_map(|f| f.within(offset, u64::MAX)).collect();
    (block.first_byte <= offset && !frames.is_empty()).then_some(frames)
}
