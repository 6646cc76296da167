//! Writing: what has come is stored as a segment once it is six mebibytes or two seconds old, or in the row while it is short.

use super::entry::{Entry, Phase, State};
use super::lines::Splitter;
use super::pieces::Run;
use super::segment::Builder;
use super::{LogError, Logs};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use rouse_model::LogId;
use rouse_model::logs::{Log, LogSegment};
use rouse_store::{Batch, CommitError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// While a log grows, speed counts for more than size.
const LIVE_LEVEL: i32 = 1;
/// Between two tries, where the store is away or full.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Compressing more than this is not done between two other things.
const BLOCKING: usize = 64 * 1024;
/// An encoded tail is a little longer than its bytes; output in tiny frames may make it much longer, and then it is no tail for a row.
const INLINE_OVERHEAD: usize = 4;

/// A log's next stored state, not yet on record.
pub(super) struct Written {
    pub row: Log,
    pub segment: Option<LogSegment>,
    /// Where the lines stand at its end.
    splitter: Splitter,
    end: u64,
}

impl Logs {
    /// Stores what comes in and compacts what is sealed, until it is stopped. What is not stored by then the agents still have.
    pub async fn run(&self, stop: CancellationToken) {
        let mut tended = FuturesUnordered::new();
        let compaction = self.compact_all();
        tokio::pin!(compaction);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                entry = self.inner.dirty.pop() => tended.push(self.tend(entry)),
                Some(()) = tended.next() => {}
                () = &mut compaction => return,
            }
        }
    }

    /// Follows one log until nothing of it waits.
    async fn tend(&self, entry: Arc<Entry>) {
        let mut pause = Duration::from_millis(200);
        loop {
            let due = {
                let mut state = entry.lock();
                let Some(since) =
                    state.since.filter(|_| state.phase == Phase::Open && state.settled > state.durable)
                else {
                    state.tended = false;
                    return;
                };
                let full = state.settled - state.durable >= self.inner.limits.segment_bytes;
                if full { None } else { Some(since + self.inner.limits.segment_age) }
            };
            if let Some(due) = due
                && tokio::time::timeout_at(due, entry.full.notified()).await.is_ok()
            {
                continue;
            }
            match self.flush(&entry).await {
                Ok(()) => pause = Duration::from_millis(200),
                Err(LogError::Commit(CommitError::Fenced { .. })) => return,
                Err(error) => {
                    tracing::warn!(log = %entry.id, error = %crate::supervisor::chain(&error), "output could not be stored yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Stores what is there now.
    async fn flush(&self, entry: &Entry) -> Result<(), LogError> {
        let _alone = entry.gate.lock().await;
        let (run, row, next_seq) = {
            let state = entry.lock();
            let (Phase::Open, Some(row)) = (state.phase, &state.row) else { return Ok(()) };
            if state.settled == state.durable {
                return Ok(());
            }
            (state.run(), row.clone(), state.next_seq)
        };
        let mut written = self.write(row, run, next_seq, false).await?;
        let mut batch = Batch::new("log.flush");
        batch.update(&mut written.row);
        if let Some(segment) = &written.segment {
            batch.insert(segment);
        }
        match self.inner.store.commit(batch).await {
            Ok(()) => {}
            // An attempt whose answer was lost may have been the one that succeeded.
            Err(error) if error.is_conflict() || error.is_duplicate() => {
                let row = self.inner.store.log(entry.id).await?.ok_or(LogError::Unknown(entry.id))?;
                if row.sealed {
                    self.forget(entry.id);
                    entry.close();
                    return Ok(());
                }
                if row.bytes != written.row.bytes {
                    entry.lock().row = Some(row);
                    return Err(error.into());
                }
                written.row = row;
            }
            Err(error) => return Err(error.into()),
        }
        {
            let mut state = entry.lock();
            self.settle(&mut state, entry.id, written);
        }
        entry.room.notify_waiters();
        entry.wake();
        Ok(())
    }

    fn settle(&self, state: &mut State, log: LogId, written: Written) {
        state.stored(written.end);
        if let Some(segment) = written.segment {
            state.next_seq = segment.seq + 1;
            state.rebase(written.end, written.splitter);
        }
        state.row = Some(written.row);
        let to = state.reported(self.inner.limits.log_bytes);
        state.watchers.iter().for_each(|w| w.say(log, to));
    }

    /// The row and, where the bytes are too many for it, the segment that hold what has come; the segment's object is in the store.
    pub(super) async fn write(
        &self,
        mut row: Log,
        mut run: Run,
        next_seq: i64,
        last: bool,
    ) -> Result<Written, LogError> {
        let (first_byte, first_line, end) = (run.first_byte, run.start.next, run.end());
        row.bytes = end.cast_signed();
        row.inline = None;
        if end - first_byte <= self.inner.limits.inline_bytes {
            let (block, mut splitter) = run.block();
            let tail = block.encode();
            if tail.len() as u64 <= self.inner.limits.inline_bytes * INLINE_OVERHEAD as u64 {
                row.inline = Some(tail);
                row.lines = lines_at(&mut splitter, last);
                return Ok(Written { row, segment: None, splitter, end });
            }
            run = block.into();
        }
        let key = self.key(row.id, first_byte, end);
        let (object, mut splitter) = compressed(run).await?;
        row.lines = lines_at(&mut splitter, last);
        self.put("log.put", &key, object).await?;
        let segment = LogSegment {
            log: row.id,
            seq: next_seq,
            first_byte: first_byte.cast_signed(),
            bytes: (end - first_byte).cast_signed(),
            first_line,
            lines: splitter.next - first_line,
            key,
        };
        Ok(Written { row, segment: Some(segment), splitter, end })
    }

    pub(super) async fn put(
        &self,
        deed: &'static str,
        key: &str,
        object: PutPayload,
    ) -> Result<(), LogError> {
        let key = Path::from(key);
        self.inner.store.deed(deed, self.inner.objects.put(&key, object)).await?;
        Ok(())
    }

    /// The same bytes have the same key, so an attempt that is made twice leaves one object.
    pub(super) fn key(&self, log: LogId, from: u64, to: u64) -> String {
        let epoch = self.inner.store.facts().store_epoch;
        format!("logs/e{epoch}/{}/{log}.{from}-{to}", log.0 / 1000)
    }
}

/// How many lines there are; at a log's end those that no line end follows count.
fn lines_at(splitter: &mut Splitter, last: bool) -> i64 {
    if last {
        splitter.finish(&mut |_| {});
    }
    splitter.next
}

async fn compressed(run: Run) -> Result<(PutPayload, Splitter), LogError> {
    let size = run.size();
    let work = move || segment_of(run).map_err(LogError::Compress);
    if size <= BLOCKING {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(LogError::Compress(std::io::Error::other(error))),
    }
}

fn segment_of(run: Run) -> std::io::Result<(PutPayload, Splitter)> {
    let mut builder = Builder::default();
    let splitter = run.store(&mut builder, LIVE_LEVEL)?;
    Ok((builder.finish(), splitter))
}
