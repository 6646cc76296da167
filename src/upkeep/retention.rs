//! Retention: what is older than `server.keep` says, or beyond the number that it says, is forgotten in small commits, rows first and their
//! objects after. One master does it. Never what runs, nor the newest ended build and the newest good one of a builder.
//!
//! It walks by id from the oldest on, a page of each kind at a time, and remembers in memory how far it has come; a restart, another `server.keep`
//! and each new day walk from the beginning.

use crate::config::{Keep, Period};
use crate::ctx::Ctx;
use rouse_model::build::Build;
use rouse_model::cache::Cache;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::master::Role;
use rouse_model::{ArtifactId, BuildId, BuildsetId, Timestamp, WorkerId};
use rouse_store::retention::ForgetError;
use rouse_store::{Batch, HoldError};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two passes, where nothing is left to do.
const INTERVAL: Duration = Duration::from_secs(60);
/// Between two passes, where there is more: others want the database too.
const BREATH: Duration = Duration::from_millis(200);
/// What was passed over, since it ran or said how its builder stands, is looked at again after so long.
const AGAIN: Duration = Duration::from_secs(24 * 3600);
/// A version of a cache that nobody begins with any more is still being read by some, so long at most.
const READING: Period = Period(Duration::from_secs(3600));
/// Rows that are looked at, of each kind, in one pass.
const PAGE: i64 = 200;

#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Forget(#[from] ForgetError),
    #[error("take the role")]
    Role(#[from] HoldError),
    #[error("read what is there")]
    Read(#[from] rouse_store::ReadError),
    #[error("record what was forgotten")]
    Commit(#[from] rouse_store::CommitError),
}

/// How far each walk has come.
#[derive(Debug, Default, Clone)]
struct Walk {
    keep: Keep,
    begun: Timestamp,
    builds: i64,
    logs: i64,
    artifacts: i64,
    buildsets: i64,
    workers: i64,
}

/// What one pass has forgotten.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Forgotten {
    builds: usize,
    logs: usize,
    artifacts: usize,
    events: usize,
    decisions: usize,
    workers: usize,
    caches: usize,
}

/// Runs until told to stop.
pub async fn run(ctx: Arc<Ctx>, stop: CancellationToken) {
    let mut walk = Walk::default();
    let mut active = ctx.active.clone();
    loop {
        active.mark_unchanged();
        let wait = match pass(&ctx, &mut walk).await {
            Ok(true) => BREATH,
            Ok(false) => INTERVAL,
            Err(error) => {
                tracing::warn!(error = crate::supervisor::chain(&error), "retention tries again");
                INTERVAL
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = active.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One turn of everything; whether there is more at once.
async fn pass(ctx: &Ctx, walk: &mut Walk) -> Result<bool, PassError> {
    let keep = ctx.config().config.server.keep;
    // Where there is nothing to forget, nobody needs the role for it.
    if (Keep { caches: None, ..keep }) == Keep::default()
        && old_caches(ctx, keep.caches, ctx.now(), 1).await?.is_empty()
    {
        return Ok(false);
    }
    let Some(role) = ctx.roles.hold("upkeep", "").await? else { return Ok(false) };
    let now = ctx.now();
    if walk.keep != keep || now.since(walk.begun) > AGAIN {
        *walk = Walk { keep, begun: now, ..Walk::default() };
    }
    let mut turn = Turn { ctx, role, now, standing: HashMap::new(), forgotten: Forgotten::default() };
    let done = turn.take(walk).await;
    turn.tell().await?;
    done
}

fn before(now: Timestamp, period: Period) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(period.0.as_micros()).unwrap_or(i64::MAX)))
}

/// Caches that nobody begins with any more, and those that nobody has begun with for long.
async fn old_caches(
    ctx: &Ctx,
    keep: Option<Period>,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Cache>, rouse_store::ReadError> {
    let unused_since = keep.map_or(Timestamp(i64::MIN), |keep| before(now, keep));
    ctx.store.caches_beyond(unused_since, before(now, READING), limit).await
}

struct Turn<'a> {
    ctx: &'a Ctx,
    role: Role,
    now: Timestamp,
    /// What says how a builder stands, by its name.
    standing: HashMap<String, HashSet<BuildId>>,
    forgotten: Forgotten,
}

impl Turn<'_> {
    async fn take(&mut self, walk: &mut Walk) -> Result<bool, PassError> {
        let keep = walk.keep;
        let mut more = false;
        if let Some(most) = keep.per_builder {
            more |= self.beyond(i64::from(most)).await?;
        }
        if let Some(before) = self.before(keep.builds) {
            more |= self.old_builds(&mut walk.builds, before).await?;
            more |= self.empty_buildsets(&mut walk.buildsets, before).await?;
            more |= self.workers(&mut walk.workers, before).await?;
        }
        if let Some(before) = self.before(keep.logs) {
            let note = keep.logs.map_or_else(String::new, |period| format!("logs are kept for {period}"));
            more |= self.logs(&mut walk.logs, before, &note).await?;
        }
        if let Some(before) = self.before(keep.artifacts) {
            more |= self.artifacts(&mut walk.artifacts, before).await?;
        }
        more |= self.caches(keep.caches).await?;
        if let Some(before) = self.before(keep.events) {
            let count = self.ctx.store.forget_events(before, PAGE * 5, &self.role).await?;
            self.forgotten.events += count;
            more |= count as i64 == PAGE * 5;
            let count = self.ctx.store.forget_decisions(before, PAGE, &self.role).await?;
            self.forgotten.decisions += count;
            more |= count as i64 == PAGE;
        }
        Ok(more)
    }

    fn before(&self, keep: Option<Period>) -> Option<Timestamp> {
        Some(before(self.now, keep?))
    }

    async fn beyond(&mut self, most: i64) -> Result<bool, PassError> {
        let active = self.ctx.config();
        let mut more = false;
        for (builder, _) in &active.config.builders {
            let found = self.ctx.store.builds_beyond(builder.as_str(), most, PAGE).await?;
            let full = found.len() as i64 == PAGE;
            let mut gone = 0;
            for build in found {
                gone += usize::from(self.forget(&build).await?);
            }
            // What is kept for another reason will be there next time, too.
            more |= full && gone > 0;
            if self.forgotten.builds as i64 >= PAGE {
                return Ok(true);
            }
        }
        Ok(more)
    }

    /// A page of the walk, which begins anew once it has come to what is young: few are left behind by then.
    async fn old_builds(&mut self, above: &mut i64, before: Timestamp) -> Result<bool, PassError> {
        let page = self.ctx.store.builds_above(BuildId(*above), PAGE).await?;
        let full = page.len() as i64 == PAGE;
        for build in page {
            if build.requested >= before {
                *above = 0;
                return Ok(false);
            }
            if build.finished.is_some_and(|at| at < before) {
                self.forget(&build).await?;
            }
            *above = build.id.0;
        }
        if !full {
            *above = 0;
        }
        Ok(full)
    }

    /// Whether it is gone.
    async fn forget(&mut self, build: &Build) -> Result<bool, PassError> {
        if self.stands(build).await? {
            return Ok(false);
        }
        match self.ctx.store.forget_build(build, &self.role).await {
            Ok(Some(keys)) => {
                self.forgotten.builds += 1;
                self.ctx.artifacts.remove_objects(keys).await;
                Ok(true)
            }
            Ok(None) => Ok(false),
            // Somebody changed a row meanwhile; the next pass looks again.
            Err(ForgetError::Commit(error)) if error.is_conflict() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is what says how its builder stands.
    async fn stands(&mut self, build: &Build) -> Result<bool, PassError> {
        if let Some(all) = self.standing.get(&build.builder) {
            return Ok(all.contains(&build.id));
        }
        let all: HashSet<BuildId> = self.ctx.store.standing_of(&build.builder).await?.into_iter().collect();
        let stands = all.contains(&build.id);
        self.standing.insert(build.builder.clone(), all);
        Ok(stands)
    }

    async fn logs(&mut self, above: &mut i64, before: Timestamp, note: &str) -> Result<bool, PassError> {
        let page = self.ctx.store.builds_above(BuildId(*above), PAGE).await?;
        let full = page.len() as i64 == PAGE;
        for build in page {
            if build.finished.is_some_and(|at| at >= before) {
                return Ok(false);
            }
            if build.finished.is_some() && !self.stands(&build).await? {
                let (count, keys) = self.ctx.store.forget_logs(build.id, note, &self.role).await?;
                self.forgotten.logs += count;
                self.ctx.artifacts.remove_objects(keys).await;
            }
            *above = build.id.0;
        }
        Ok(full)
    }

    async fn artifacts(&mut self, above: &mut i64, before: Timestamp) -> Result<bool, PassError> {
        let page = self.ctx.store.artifacts_above(ArtifactId(*above), PAGE).await?;
        let full = page.len() as i64 == PAGE;
        for artifact in page {
            if artifact.created >= before {
                return Ok(false);
            }
            let build = self.ctx.store.build(artifact.build).await?;
            let stays = match &build {
                // Of a build that runs they are read yet.
                Some(build) => build.finished.is_none() || self.stands(build).await?,
                None => false,
            };
            if !stays {
                let key = self.ctx.store.forget_artifact(&artifact, &self.role).await?;
                self.forgotten.artifacts += 1;
                self.ctx.artifacts.remove_objects(vec![key]).await;
            }
            *above = artifact.id.0;
        }
        Ok(full)
    }

    async fn caches(&mut self, keep: Option<Period>) -> Result<bool, PassError> {
        let page = old_caches(self.ctx, keep, self.now, PAGE).await?;
        let full = page.len() as i64 == PAGE;
        for cache in page {
            let mut batch = Batch::new("retention.cache");
            batch.expect_role(&self.role).delete(&cache);
            match self.ctx.store.commit(batch).await {
                Ok(()) => {}
                // Somebody has begun with it just now.
                Err(error) if error.is_conflict() => continue,
                Err(error) => return Err(error.into()),
            }
            self.forgotten.caches += 1;
            self.ctx.artifacts.remove_objects(vec![cache.object]).await;
        }
        Ok(full)
    }

    /// Those whose requests ended before any build began.
    async fn empty_buildsets(&mut self, above: &mut i64, before: Timestamp) -> Result<bool, PassError> {
        let page = self.ctx.store.buildsets_above(BuildsetId(*above), PAGE).await?;
        let full = page.len() as i64 == PAGE;
        for buildset in page {
            match buildset.done {
                Some(at) if at >= before => return Ok(false),
                Some(_) => {
                    self.ctx.store.forget_empty(&buildset, &self.role).await?;
                }
                None => {}
            }
            *above = buildset.id.0;
        }
        Ok(full)
    }

    async fn workers(&mut self, above: &mut i64, before: Timestamp) -> Result<bool, PassError> {
        let page = self.ctx.store.workers_above(WorkerId(*above), PAGE).await?;
        let full = page.len() as i64 == PAGE;
        for worker in page {
            match worker.gone {
                Some(at) if at >= before => return Ok(false),
                Some(_) => {
                    let gone = self.ctx.store.forget_worker(&worker, &self.role).await?;
                    self.forgotten.workers += usize::from(gone);
                }
                None => {}
            }
            *above = worker.id.0;
        }
        Ok(full)
    }

    /// Leaves word of what has gone.
    async fn tell(&self) -> Result<(), PassError> {
        let gone = self.forgotten;
        if gone == Forgotten::default() {
            return Ok(());
        }
        let Forgotten { builds, logs, artifacts, events, decisions, workers, caches } = gone;
        tracing::info!(
            builds,
            logs,
            artifacts,
            events,
            decisions,
            workers,
            caches,
            "forgotten, as `server.keep` says"
        );
        // Of these alone there would be one more event each time.
        if (Forgotten { events: 0, decisions: 0, ..gone }) == Forgotten::default() {
            return Ok(());
        }
        let mut batch = Batch::new("retention.told");
        batch.event(NewEvent {
            kind: EventKind::Forgotten,
            version: 1,
            subject: format!("master/{}", self.ctx.me),
            project: String::new(),
            at: self.now,
            payload: json!({
                "builds": builds, "logs": logs, "artifacts": artifacts, "events": events, "decisions": decisions,
                "workers": workers, "caches": caches,
            }),
        });
        Ok(self.ctx.store.commit(batch).await?)
    }
}
