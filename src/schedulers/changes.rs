//! Changes into buildsets: filters, and the tree-stable timer that waits until a branch is quiet.
//!
//! Change sets are followed by the numbers of their events, never by their ids: ids are given out before the commit, so one that is lower
//! may become visible later.

use super::memory::Memory;
use super::{Turn, TurnError};
use crate::config::{ChangeFilter, Changes};
use crate::ctx::Announced;
use crate::requests::{self, Stamp, Wish};
use rouse_model::event::EventKind;
use rouse_model::source::{Change, ChangeSet};
use rouse_model::{ChangeSetId, Timestamp};
use rouse_store::Batch;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The number of the last event that was taken.
const CURSOR: &str = "events";
const TIMER: &str = "settle/";
/// Change sets that one turn takes.
const AT_ONCE: i64 = 200;

/// A branch that is not quiet yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Timer {
    /// The newest; what is built.
    newest: i64,
    /// How many change sets it stands for.
    sets: u32,
    due: i64,
}

impl Turn<'_> {
    pub(super) async fn changes(&self, changes: &Changes) -> Result<Option<Timestamp>, TurnError> {
        let mut memory = self.memory().await?;
        let cursor = self.place_in_events(&mut memory, CURSOR).await?;
        let events = self.ctx.store.events_of_kind_after(EventKind::ChangeSetSeen, cursor, AT_ONCE).await?;
        let more = i64::try_from(events.len()).unwrap_or(0) == AT_ONCE;
        for event in events {
            let id = event.body.subject.split('/').nth(1).and_then(|n| n.parse().ok()).map(ChangeSetId);
            let set = match id {
                Some(id) => self.ctx.store.change_set(id).await?,
                None => None,
            };
            let mut batch = Batch::new("scheduler.skip");
            memory.set(&mut batch, CURSOR, &event.seq);
            match set {
                Some(set) => self.consider(changes, &mut memory, set, batch).await?,
                None => self.ctx.store.commit(batch).await?,
            }
        }
        let next = self.strike(changes.settle.0, &mut memory).await?;
        Ok(if more { Some(self.now) } else { next })
    }

    async fn consider(
        &self,
        changes: &Changes,
        memory: &mut Memory,
        set: ChangeSet,
        mut batch: Batch,
    ) -> Result<(), TurnError> {
        let rows = self.ctx.store.changes_of(set.id).await?;
        let filter = changes.codebases.iter().find(|(name, _)| name.as_str() == set.codebase).map(|(_, f)| f);
        let counts = filter.is_some_and(|filter| filter.wake && counts(filter, changes, &set, &rows));
        if !counts {
            self.ctx.store.commit(batch).await?;
            return Ok(());
        }
        if changes.settle.0.is_zero() {
            return self.build(set, 1, &rows, batch).await;
        }
        let key = format!("{TIMER}{}/{}", set.codebase, set.branch);
        let before: Option<Timer> = memory.get(&key)?;
        let timer = Timer {
            newest: set.id.0,
            sets: before.map_or(0, |t| t.sets) + 1,
            due: (set.seen_at + changes.settle.0).0,
        };
        memory.set(&mut batch, &key, &timer);
        batch.name = "scheduler.settle";
        self.ctx.store.commit(batch).await?;
        Ok(())
    }

    /// Builds what has been quiet for long enough; answers when the next one will have been.
    async fn strike(&self, settle: Duration, memory: &mut Memory) -> Result<Option<Timestamp>, TurnError> {
        let mut next = None;
        for key in memory.keys(TIMER) {
            let Some(timer): Option<Timer> = memory.get(&key)? else { continue };
            let due = Timestamp(timer.due);
            // Farther away than it can be, it was set under a clock that has been set back since.
            if due > self.now && due.since(self.now) <= settle {
                next = [next, Some(due)].into_iter().flatten().min();
                continue;
            }
            let mut batch = Batch::new("scheduler.settled");
            memory.remove(&mut batch, &key);
            match self.ctx.store.change_set(ChangeSetId(timer.newest)).await? {
                Some(set) => {
                    let rows = self.ctx.store.changes_of(set.id).await?;
                    self.build(set, timer.sets, &rows, batch).await?;
                }
                None => self.ctx.store.commit(batch).await?,
            }
        }
        Ok(next)
    }

    async fn build(&self, set: ChangeSet, sets: u32, rows: &[Change], also: Batch) -> Result<(), TurnError> {
        let wish = self.wish_of_changes(&set, sets, rows).await?;
        requests::supersede(self.ctx, &self.active.config, &wish).await?;
        requests::make(self.ctx, self.active, wish, also).await?;
        Ok(())
    }

    async fn wish_of_changes(&self, set: &ChangeSet, sets: u32, rows: &[Change]) -> Result<Wish, TurnError> {
        let mut stamps = vec![Stamp {
            codebase: set.codebase.clone(),
            branch: Some(set.branch.clone()),
            revision: Some(set.revision.clone()),
            // Of several the files are not known together, and nobody may take the last one's for all.
            change_set: (sets == 1).then_some(set.id),
            trust: set.trust,
        }];
        for (codebase, branch) in
            self.config.codebases.iter().filter(|(name, _)| name.as_str() != set.codebase)
        {
            stamps.push(self.stamp_of_head(codebase.as_str(), branch.clone()).await?);
        }
        Ok(Wish {
            owner: rows.last().map(|c| c.author.clone()),
            stamps,
            ..self.wish(format!("changes/{}", set.id), reason(set, sets, rows))
        })
    }

    /// Branches that are not quiet yet, and when they will have been.
    pub(super) async fn changes_ahead(&self) -> Result<Vec<Announced>, TurnError> {
        let memory = self.memory().await?;
        let mut ahead = Vec::new();
        for key in memory.keys(TIMER) {
            let Some(timer): Option<Timer> = memory.get(&key)? else { continue };
            if let Some(set) = self.ctx.store.change_set(ChangeSetId(timer.newest)).await? {
                let rows = self.ctx.store.changes_of(set.id).await?;
                let wish = self.wish_of_changes(&set, timer.sets, &rows).await?;
                ahead.push(Announced { wish, due: Some(Timestamp(timer.due)), likely: 1.0 });
            }
        }
        Ok(ahead)
    }
}

fn counts(filter: &ChangeFilter, changes: &Changes, set: &ChangeSet, rows: &[Change]) -> bool {
    if !filter.takes_branch(&set.branch) {
        return false;
    }
    // Of a change set that was cut, or has no commits of its own (a new tag), the files are not known: it counts.
    let known = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= set.commits && !rows.is_empty();
    if known && !filter.takes_paths(rows.iter().flat_map(|c| c.files.iter().map(String::as_str))) {
        return false;
    }
    match &changes.message {
        Some(patterns) if !rows.is_empty() => rows.iter().any(|c| patterns.matches(&c.message)),
        _ => true,
    }
}

fn reason(set: &ChangeSet, sets: u32, rows: &[Change]) -> String {
    let mut authors: Vec<&str> =
        rows.iter().map(|c| c.author.split(" <").next().unwrap_or(&c.author)).collect();
    authors.sort_unstable();
    authors.dedup();
    let by = match authors.as_slice() {
        [] => String::new(),
        [one] => format!(" by {one}"),
        [one, rest @ ..] => format!(" by {one} and {} more", rest.len()),
    };
    let what = match (set.commits, sets) {
        (_, 2..) => format!("{sets} pushes"),
        (1, _) => "1 commit".to_owned(),
        (n, _) => format!("{n} commits"),
    };
    format!("{what} on {}{by}", set.branch)
}
