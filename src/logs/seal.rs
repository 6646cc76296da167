//! The end of a log: its last bytes, and the part of the driver's batch that seals it.

use super::entry::{Entry, Phase};
use super::{LogError, Logs};
use rouse_model::LogId;
use rouse_store::Batch;
use std::sync::Arc;

impl Logs {
    /// What a batch must hold to seal the log at `end`, the offset that the agent's outcome names or [`Logs::received`] answers. Waits a while
    /// for bytes that have not come, then notes that they are missing. A log that is sealed already needs nothing. May be called again where
    /// the batch was refused.
    ///
    /// # Errors
    /// Where the log is not on record, or its last bytes cannot be stored.
    pub async fn seal(&self, log: LogId, end: u64, note: Option<String>) -> Result<Batch, LogError> {
        let entry = self.entry(log);
        self.load(&entry).await?;
        self.wait_until_received(&entry, end).await;
        let _alone = entry.gate.lock().await;
        let mut batch = Batch::new("log.seal");
        if let Some(mut row) = self.sealed_before(&entry).await? {
            if !row.sealed {
                row.sealed = true;
                self.fill(&mut batch, &entry, row);
            }
            return Ok(batch);
        }
        let cap = self.inner.limits.log_bytes;
        let (run, row, next_seq, received) = {
            let mut state = entry.lock();
            let Some(row) = state.row.clone() else { return Err(LogError::Unknown(log)) };
            if state.phase == Phase::Closed {
                return Ok(batch);
            }
            state.phase = Phase::Sealing;
            state.finish(cap);
            (state.run(), row, state.next_seq, state.received)
        };
        let kept = run.end();
        let mut written = self.write(row, run, next_seq, true).await?;
        written.row.sealed = true;
        written.row.note = note_of(note, kept, received, end);
        entry.lock().sealed_as = Some((written.row.clone(), written.segment));
        self.fill(&mut batch, &entry, written.row);
        Ok(batch)
    }

    /// The row as it stands now with what an earlier attempt made of it, or as it is where that attempt did succeed.
    async fn sealed_before(&self, entry: &Entry) -> Result<Option<rouse_model::logs::Log>, LogError> {
        let Some((made, _)) = entry.lock().sealed_as.clone() else { return Ok(None) };
        let row = self.inner.store.log(entry.id).await?.ok_or(LogError::Unknown(entry.id))?;
        if row.sealed {
            return Ok(Some(row));
        }
        Ok(Some(rouse_model::logs::Log { generation: row.generation, sealed: false, ..made }))
    }

    fn fill(&self, batch: &mut Batch, entry: &Arc<Entry>, mut row: rouse_model::logs::Log) {
        let segment = entry.lock().sealed_as.as_ref().and_then(|(_, segment)| segment.clone());
        batch.update(&mut row);
        if let Some(segment) = &segment {
            batch.insert(segment);
        }
        let (logs, entry) = (self.clone(), Arc::clone(entry));
        batch.after_commit(move || logs.sealed(&entry));
    }

    async fn wait_until_received(&self, entry: &Entry, end: u64) {
        let mut changed = entry.changed.subscribe();
        let whole = async {
            loop {
                {
                    let state = entry.lock();
                    if state.received >= end || state.phase != Phase::Open {
                        return;
                    }
                }
                // The entry holds the sender.
                let _ = changed.changed().await;
            }
        };
        // Past the wait the note says what is missing.
        let _ = tokio::time::timeout(self.inner.limits.seal_wait, whole).await;
    }

    /// The batch is committed: readers go to the store from now on.
    fn sealed(&self, entry: &Entry) {
        let segments = {
            let state = entry.lock();
            let last = state.sealed_as.as_ref().and_then(|(_, segment)| segment.as_ref());
            last.map_or(state.next_seq, |segment| segment.seq + 1)
        };
        self.forget(entry.id);
        entry.close();
        if usize::try_from(segments).is_ok_and(|n| n >= self.inner.limits.compact_at) {
            self.inner.scattered.push(entry.id);
        }
    }
}

fn note_of(given: Option<String>, kept: u64, received: u64, end: u64) -> Option<String> {
    let mut notes: Vec<String> = given.into_iter().collect();
    if received > kept {
        notes.push(format!(
            "truncated: {} bytes beyond the first {kept} were not kept",
            received.max(end) - kept
        ));
    } else if end > received {
        notes.push(format!("the last {} bytes did not arrive", end - received));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}
