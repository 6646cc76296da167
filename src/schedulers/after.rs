//! The end of other schedulers' buildsets into buildsets, followed by the event log.

use super::{Turn, TurnError};
use crate::config::{After, When};
use crate::ctx::Announced;
use crate::requests::{self, Stamp, Wish};
use rouse_model::buildset::Buildset;
use rouse_model::event::EventKind;
use rouse_model::{BuildResult, BuildsetId, Timestamp};
use rouse_store::Batch;

const CURSOR: &str = "events";
const AT_ONCE: i64 = 500;
/// Of so many buildsets it is said what follows them.
const AHEAD: usize = 50;

impl Turn<'_> {
    pub(super) async fn after(&self, after: &After) -> Result<Option<Timestamp>, TurnError> {
        let mut memory = self.memory().await?;
        let cursor = self.place_in_events(&mut memory, CURSOR).await?;
        let events = self.ctx.store.events_of_kind_after(EventKind::BuildsetDone, cursor, AT_ONCE).await?;
        let more = i64::try_from(events.len()).unwrap_or(0) == AT_ONCE;
        for event in events {
            let mut batch = Batch::new("scheduler.skip");
            memory.set(&mut batch, CURSOR, &event.seq);
            let upstream = event.body.payload["scheduler"].as_str().unwrap_or_default();
            let when =
                after.upstream.iter().find(|(name, _)| name.as_str() == upstream).map(|(_, when)| *when);
            let id = event.body.subject.split('/').nth(1).and_then(|n| n.parse().ok()).map(BuildsetId);
            match (id, when) {
                (Some(id), Some(when)) => self.follow(id, upstream, when, batch).await?,
                _ => self.ctx.store.commit(batch).await?,
            }
        }
        Ok(more.then_some(self.now))
    }

    async fn follow(&self, id: BuildsetId, upstream: &str, when: When, also: Batch) -> Result<(), TurnError> {
        let Some(before) = self.ctx.store.buildset(id).await? else {
            self.ctx.store.commit(also).await?;
            return Ok(());
        };
        let result = before.result.unwrap_or(BuildResult::Exception);
        let counts = match when {
            When::Success => result.is_good(),
            When::Failure => result == BuildResult::Failure,
            When::Any => true,
        };
        if !counts {
            self.ctx.store.commit(also).await?;
            return Ok(());
        }
        let wish = self.wish_after(before, upstream).await?;
        requests::make(self.ctx, self.active, wish, also).await?;
        Ok(())
    }

    async fn wish_after(&self, before: Buildset, upstream: &str) -> Result<Wish, TurnError> {
        let id = before.id;
        let stamps = self.ctx.store.stamps(id).await?;
        let parent = self.ctx.store.requests_of(id).await?.into_iter().find_map(|r| r.build);
        Ok(Wish {
            owner: before.owner,
            stamps: stamps
                .into_iter()
                .map(|s| Stamp {
                    codebase: s.codebase,
                    branch: s.branch,
                    revision: s.revision,
                    change_set: s.change_set,
                    trust: s.trust,
                })
                .collect(),
            parent,
            trust: before.trust,
            ..self.wish(format!("after/{id}"), format!("after {upstream}: {}", before.reason))
        })
    }

    /// What follows the buildsets that are under way, should they end well; failures are not counted on.
    pub(super) async fn after_ahead(&self, after: &After) -> Result<Vec<Announced>, TurnError> {
        let mut ahead = Vec::new();
        for (upstream, _) in after.upstream.iter().filter(|(_, when)| **when != When::Failure) {
            // The oldest first, which ends first.
            for before in self.ctx.store.open_buildsets(upstream.as_str()).await?.into_iter().take(AHEAD) {
                let wish = self.wish_after(before, upstream.as_str()).await?;
                ahead.push(Announced { wish, due: None });
            }
        }
        Ok(ahead)
    }
}
