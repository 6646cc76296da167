//! What an installation forgets: one build, one log, one file, some events at a time, each whole or not at all. Rows go first; the keys of the
//! objects that they named are answered, and the caller removes those. What may be forgotten is the caller's to say, but that nothing goes
//! that is not over.

use crate::reads::BuildFilter;
use crate::record::Table;
use crate::{Batch, CommitError, Page, ReadError, Store};
use rouse_model::build::{Build, BuildProperty};
use rouse_model::buildset::Buildset;
use rouse_model::logs::Artifact;
use rouse_model::master::Role;
use rouse_model::worker::Worker;
use rouse_model::{ArtifactId, BuildId, BuildsetId, Timestamp, WorkerId};
use std::sync::LazyLock;

static EVENTS: LazyLock<Table> = LazyLock::new(|| Table::new("events", &["seq"], &["seq"], &[]));

/// Why nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    #[error("read what is to be forgotten")]
    Read(#[from] ReadError),
    #[error("forget it")]
    Commit(#[from] CommitError),
}

impl Store {
    /// Builds in the order of their ids, from above one on; the running ones too.
    pub async fn builds_above(&self, above: BuildId, limit: i64) -> Result<Vec<Build>, ReadError> {
        self.select("WHERE id > $1 ORDER BY id LIMIT $2", vec![above.0.into(), limit.into()]).await
    }

    /// A builder's newest ended build and its newest good one: what says how it stands.
    pub async fn standing_of(&self, builder: &str) -> Result<Vec<BuildId>, ReadError> {
        let newest = async |condition: &str| {
            let tail =
                format!("WHERE builder = $1 AND finished IS NOT NULL{condition} ORDER BY id DESC LIMIT 1");
            self.select_one::<Build>(&tail, vec![builder.into()]).await
        };
        let found = [newest("").await?, newest(" AND result <= 1").await?];
        Ok(found.into_iter().flatten().map(|build| build.id).collect())
    }

    /// A builder's ended builds but for the newest so many, the newest of them first.
    pub async fn builds_beyond(&self, builder: &str, keep: i64, limit: i64) -> Result<Vec<Build>, ReadError> {
        let tail = "WHERE builder = $1 AND finished IS NOT NULL ORDER BY id DESC LIMIT $2 OFFSET $3";
        self.select(tail, vec![builder.into(), limit.into(), keep.into()]).await
    }

    /// Files in the order of their ids.
    pub async fn artifacts_above(&self, above: ArtifactId, limit: i64) -> Result<Vec<Artifact>, ReadError> {
        self.select("WHERE id > $1 ORDER BY id LIMIT $2", vec![above.0.into(), limit.into()]).await
    }

    /// Buildsets in the order of their ids.
    pub async fn buildsets_above(&self, above: BuildsetId, limit: i64) -> Result<Vec<Buildset>, ReadError> {
        self.select("WHERE id > $1 ORDER BY id LIMIT $2", vec![above.0.into(), limit.into()]).await
    }

    /// Workers in the order of their ids.
    pub async fn workers_above(&self, above: WorkerId, limit: i64) -> Result<Vec<Worker>, ReadError> {
        self.select("WHERE id > $1 ORDER BY id LIMIT $2", vec![above.0.into(), limit.into()]).await
    }

    /// Forgets an ended build with all that belongs to it, and its request and buildset where nothing else is left of them. One that is not over, or
    /// whose request is not, stays: `None`.
    ///
    /// # Errors
    /// Where somebody else changed it meanwhile, or the database is away.
    pub async fn forget_build(&self, build: &Build, role: &Role) -> Result<Option<Vec<String>>, ForgetError> {
        let Some(request) = self.request(build.request).await? else { return Ok(None) };
        if build.finished.is_none() || request.done.is_none() {
            return Ok(None);
        }
        let mut batch = Batch::new("retention.build");
        batch.expect_role(role);
        let mut keys = Vec::new();
        for log in self.logs_of(build.id).await? {
            for segment in self.segments(log.id).await? {
                batch.delete(&segment);
                keys.push(segment.key);
            }
            batch.delete(&log);
        }
        for artifact in self.artifacts(build.id).await? {
            batch.delete(&artifact);
            keys.push(artifact.key);
        }
        for report in self.test_reports(build.id).await? {
            batch.delete(&report);
        }
        for result in self.test_results(build.id).await? {
            batch.delete(&result);
        }
        for command in self.commands(build.id).await? {
            batch.delete(&command);
        }
        for step in self.steps(build.id).await? {
            batch.delete(&step);
        }
        let properties: Vec<BuildProperty> = self.select("WHERE build = $1", vec![build.id.0.into()]).await?;
        for property in &properties {
            batch.delete(property);
        }
        batch.delete(build);
        let filter = BuildFilter { request: Some(request.id), ..BuildFilter::default() };
        if self.builds(&filter, Page { before: None, limit: 2 }).await?.len() == 1 {
            batch.delete(&request);
            let others = self.requests_of(request.buildset).await?;
            if others.iter().all(|other| other.id == request.id) {
                self.forget_buildset_in(&mut batch, request.buildset).await?;
            }
        }
        self.commit(batch).await?;
        Ok(Some(keys))
    }

    /// Forgets a buildset that is done and never had a build; whether it did.
    ///
    /// # Errors
    /// Where somebody else changed it meanwhile, or the database is away.
    pub async fn forget_empty(&self, buildset: &Buildset, role: &Role) -> Result<bool, ForgetError> {
        let requests = self.requests_of(buildset.id).await?;
        for request in &requests {
            let filter = BuildFilter { request: Some(request.id), ..BuildFilter::default() };
            let has_build = !self.builds(&filter, Page { before: None, limit: 1 }).await?.is_empty();
            if has_build || request.done.is_none() {
                return Ok(false);
            }
        }
        let mut batch = Batch::new("retention.buildset");
        batch.expect_role(role);
        for request in &requests {
            batch.delete(request);
        }
        self.forget_buildset_in(&mut batch, buildset.id).await?;
        self.commit(batch).await?;
        Ok(true)
    }

    async fn forget_buildset_in(&self, batch: &mut Batch, id: BuildsetId) -> Result<(), ForgetError> {
        for stamp in self.stamps(id).await? {
            batch.delete(&stamp);
        }
        if let Some(buildset) = self.buildset(id).await? {
            batch.delete(&buildset);
        }
        Ok(())
    }

    /// Empties the sealed logs of a build, and notes why; how many, and what they named.
    ///
    /// # Errors
    /// Where somebody else changed one meanwhile, or the database is away.
    pub async fn forget_logs(
        &self,
        build: BuildId,
        note: &str,
        role: &Role,
    ) -> Result<(usize, Vec<String>), ForgetError> {
        let mut batch = Batch::new("retention.logs");
        batch.expect_role(role);
        let (mut count, mut keys) = (0, Vec::new());
        for mut log in self.logs_of(build).await? {
            if !log.sealed || log.bytes == 0 {
                continue;
            }
            for segment in self.segments(log.id).await? {
                batch.delete(&segment);
                keys.push(segment.key);
            }
            (log.bytes, log.lines, log.inline, log.note) = (0, 0, None, Some(note.to_owned()));
            batch.update(&mut log);
            count += 1;
        }
        if count > 0 {
            self.commit(batch).await?;
        }
        Ok((count, keys))
    }

    /// Forgets one file; what it named.
    ///
    /// # Errors
    /// Where somebody else was faster, or the database is away.
    pub async fn forget_artifact(&self, artifact: &Artifact, role: &Role) -> Result<String, ForgetError> {
        let mut batch = Batch::new("retention.artifact");
        batch.expect_role(role);
        batch.delete(artifact);
        self.commit(batch).await?;
        Ok(artifact.key.clone())
    }

    /// Forgets a worker that is gone and that no build names; whether it did.
    ///
    /// # Errors
    /// Where somebody else was faster, or the database is away.
    pub async fn forget_worker(&self, worker: &Worker, role: &Role) -> Result<bool, ForgetError> {
        let filter = BuildFilter { worker: Some(worker.id), ..BuildFilter::default() };
        if worker.gone.is_none() || !self.builds(&filter, Page { before: None, limit: 1 }).await?.is_empty() {
            return Ok(false);
        }
        let mut batch = Batch::new("retention.worker");
        batch.expect_role(role);
        for parking in self.parkings_of(worker.id).await? {
            batch.delete(&parking);
        }
        batch.delete(worker);
        self.commit(batch).await?;
        Ok(true)
    }

    /// Forgets the oldest decisions that were true for the last time before a moment, at most so many; how many.
    ///
    /// # Errors
    /// Where somebody else was faster, or the database is away.
    pub async fn forget_decisions(
        &self,
        before: Timestamp,
        limit: i64,
        role: &Role,
    ) -> Result<usize, ForgetError> {
        let mut batch = Batch::new("retention.decisions");
        batch.expect_role(role);
        let mut count = 0;
        for decision in self.oldest_decisions(limit).await?.iter().take_while(|d| d.until < before) {
            batch.delete(decision);
            count += 1;
        }
        if count > 0 {
            self.commit(batch).await?;
        }
        Ok(count)
    }

    /// Forgets the oldest events that were written before a moment, at most so many; how many. The newest one of all stays, since its number says
    /// where the log is.
    ///
    /// # Errors
    /// Where somebody else was faster, or the database is away.
    pub async fn forget_events(
        &self,
        before: Timestamp,
        limit: i64,
        role: &Role,
    ) -> Result<usize, ForgetError> {
        let newest = self.newest_event().await?;
        let mut batch = Batch::new("retention.events");
        batch.expect_role(role);
        let mut count = 0;
        // Only a beginning of the log goes: a wall clock that was set back makes no hole in it.
        let cursor = self.oldest_event().await? - 1;
        for event in self.events_after(cursor, limit).await? {
            if event.body.at >= before || event.seq >= newest {
                break;
            }
            batch.ops.push(crate::Op::Delete { table: &EVENTS, key: vec![event.seq.into()] });
            count += 1;
        }
        if count > 0 {
            self.commit(batch).await?;
        }
        Ok(count)
    }
}
