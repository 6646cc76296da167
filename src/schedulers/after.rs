//! The end of other schedulers' buildsets into buildsets, followed by the event log.

use super::{Turn, TurnError};
use crate::config::{After, When};
use crate::requests::{self, Stamp, Wish};
use rouse_model::event::EventKind;
use rouse_model::{BuildResult, BuildsetId, Timestamp};
use rouse_store::Batch;

const CURSOR: &str = "events";
const AT_ONCE: i64 = 500;

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
        let stamps = self.ctx.store.stamps(id).await?;
        let parent = self.ctx.store.requests_of(id).await?.into_iter().find_map(|r| r.build);
        let wish = Wish {
            origin: format!("{}/after/{id}", self.name),
            scheduler: Some(self.name.to_owned()),
            reason: format!("after {upstream}: {}", before.reason),
            owner: before.owner,
            properties: requests::force::properties_of(self.config, self.name),
            builders: self.builders(),
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
            priority: self.config.priority,
            images: [].into(),
            merges: [].into(),
            approved: None,
        };
        requests::make(self.ctx, self.active, wish, also).await?;
        Ok(())
    }
}
