//! After the end: a log's many small segments become few, and objects that no row names are removed.
//!
//! The new objects are stored first, one batch swaps the rows, and then the old objects go. Whatever is killed in between leaves objects
//! without a row, which [`Logs::collect_orphans`] finds.

use super::frames::Block;
use super::pieces::Run;
use super::segment::{BLOCK, Builder, Segment, unpack};
use super::{LogError, Logs};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use rouse_model::logs::{Log, LogSegment};
use rouse_model::{LogId, Timestamp};
use rouse_store::Batch;
use std::collections::HashSet;

/// Done once and read for long: size counts for more than speed.
const STORED_LEVEL: i32 = 3;
/// A block of so many bytes of output is taken over as it is. What an agent has packed mostly is.
const LARGE: u64 = BLOCK / 8;
/// A segment of more bytes than this is no reason to compact.
const SMALL: i64 = 2 << 20;

/// The segments that take the place of the old ones.
struct Compaction<'a> {
    logs: &'a Logs,
    row: Log,
    builder: Builder,
    /// Small blocks that become one.
    pending: Option<Block>,
    /// Where the segment in the making begins.
    begun: Option<(u64, i64)>,
    made: Vec<LogSegment>,
}

impl Logs {
    pub(super) async fn compact_all(&self) {
        loop {
            let log = self.inner.scattered.pop().await;
            if let Err(error) = self.compact(log).await {
                tracing::warn!(%log, error = %crate::supervisor::chain(&error), "a log could not be compacted");
            }
        }
    }

    /// Joins the segments of a sealed log, where they are many and small.
    ///
    /// # Errors
    /// Where the log cannot be read or written; it stays as it was.
    pub async fn compact(&self, log: LogId) -> Result<(), LogError> {
        let Some(row) = self.inner.store.log(log).await? else { return Ok(()) };
        let old = self.inner.store.segments(log).await?;
        if !row.sealed || old.iter().filter(|s| s.bytes < SMALL).count() < self.inner.limits.compact_at {
            return Ok(());
        }
        let tail = row.inline.clone();
        let mut work = Compaction {
            logs: self,
            row,
            builder: Builder::default(),
            pending: None,
            begun: None,
            made: Vec::new(),
        };
        for segment in &old {
            work.take(segment).await?;
        }
        if let Some(tail) = tail {
            work.join(Block::decode(tail.into())?).await?;
        }
        let (mut row, made) = work.finish().await?;
        let mut batch = Batch::new("log.compact");
        row.inline = None;
        batch.update(&mut row);
        for segment in &old {
            batch.delete(segment);
        }
        for segment in &made {
            batch.insert(segment);
        }
        match self.inner.store.commit(batch).await {
            Ok(()) => {}
            // Somebody else has compacted it meanwhile; what is in the store for nothing is an orphan.
            Err(error) if error.is_conflict() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for segment in &old {
            // What stays behind is an orphan.
            if let Err(error) = self.inner.objects.delete(&Path::from(segment.key.as_str())).await {
                tracing::debug!(%error, key = segment.key, "a compacted segment could not be removed");
            }
        }
        Ok(())
    }

    /// Removes objects older than `before` that no row names, of logs that are sealed or gone; answers how many. Also compacts what a
    /// killed master left scattered.
    ///
    /// # Errors
    /// Where the object store or the database cannot be read.
    pub async fn collect_orphans(&self, before: Timestamp) -> Result<usize, LogError> {
        let mut listed = self.inner.objects.list(Some(&Path::from("logs")));
        let mut current: Option<(LogId, Option<HashSet<String>>)> = None;
        let mut removed = 0;
        while let Some(object) = listed.try_next().await? {
            let Some(log) = log_of(&object.location) else { continue };
            if current.as_ref().is_none_or(|(known, _)| *known != log) {
                current = Some((log, self.named(log).await?));
            }
            let Some((_, Some(named))) = &current else { continue };
            let old = object.last_modified.timestamp_micros() < before.0;
            if old && !named.contains(object.location.as_ref()) {
                self.inner.objects.delete(&object.location).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The keys that a log's rows name; `None` where it is not sealed, so that what its writer has just stored and not yet recorded stays.
    async fn named(&self, log: LogId) -> Result<Option<HashSet<String>>, LogError> {
        let sealed = self.inner.store.log(log).await?.is_none_or(|row| row.sealed);
        if !sealed {
            return Ok(None);
        }
        let segments = self.inner.store.segments(log).await?;
        if segments.iter().filter(|s| s.bytes < SMALL).count() >= self.inner.limits.compact_at {
            self.inner.scattered.push(log);
        }
        Ok(Some(segments.into_iter().map(|s| s.key).collect()))
    }
}

fn log_of(key: &Path) -> Option<LogId> {
    key.filename()?.split('.').next()?.parse().ok()
}

impl Compaction<'_> {
    async fn take(&mut self, segment: &LogSegment) -> Result<(), LogError> {
        let objects = &*self.logs.inner.objects;
        let open = Segment::open(objects, &segment.key).await?;
        let end = (segment.first_byte + segment.bytes).cast_unsigned();
        for (n, entry) in open.index().iter().enumerate() {
            let next = open.index().get(n + 1).map_or(end, |e| e.first_byte);
            let packed = open.packed(objects, *entry).await?;
            if next.saturating_sub(entry.first_byte) >= LARGE {
                self.pack().await?;
                self.begun.get_or_insert((entry.first_byte, entry.first_line));
                self.builder.add_packed(*entry, [packed]);
                self.store_if_large(next, None).await?;
            } else {
                self.join(unpack(*entry, &packed)?).await?;
            }
        }
        Ok(())
    }

    async fn join(&mut self, block: Block) -> Result<(), LogError> {
        match &mut self.pending {
            Some(pending) => pending.frames.extend(block.frames),
            None => self.pending = Some(block),
        }
        let full = self.pending.as_ref().is_some_and(|p| p.end() - p.first_byte >= BLOCK);
        if full { self.pack().await } else { Ok(()) }
    }

    async fn pack(&mut self) -> Result<(), LogError> {
        let Some(pending) = self.pending.take().filter(|p| !p.frames.is_empty()) else { return Ok(()) };
        let end = pending.end();
        self.begun.get_or_insert((pending.first_byte, pending.start.next));
        Run::from(pending).store(&mut self.builder, STORED_LEVEL).map_err(LogError::Compress)?;
        self.store_if_large(end, None).await
    }

    /// Ends the segment in the making at `end` where it is large enough, or where the log's last line is given.
    async fn store_if_large(&mut self, end: u64, last: Option<i64>) -> Result<(), LogError> {
        if last.is_none() && self.builder.size() < self.logs.inner.limits.compacted_bytes {
            return Ok(());
        }
        let Some((from, first_line)) = self.begun.take() else { return Ok(()) };
        // The generation keeps it apart from every key that was in use before.
        let key = format!("{}.g{}", self.logs.key(self.row.id, from, end), self.row.generation);
        let object = std::mem::take(&mut self.builder).finish();
        self.logs.put("log.put-compacted", &key, object).await?;
        if let Some(before) = self.made.last_mut() {
            before.lines = first_line - before.first_line;
        }
        self.made.push(LogSegment {
            log: self.row.id,
            seq: i64::try_from(self.made.len()).unwrap_or(i64::MAX),
            first_byte: from.cast_signed(),
            bytes: (end - from).cast_signed(),
            first_line,
            lines: self.row.lines - first_line,
            key,
        });
        Ok(())
    }

    async fn finish(mut self) -> Result<(Log, Vec<LogSegment>), LogError> {
        self.pack().await?;
        let (end, lines) = (self.row.bytes.cast_unsigned(), self.row.lines);
        self.store_if_large(end, Some(lines)).await?;
        Ok((self.row, self.made))
    }
}
