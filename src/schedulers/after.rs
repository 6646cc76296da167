//! The end of other schedulers' buildsets into buildsets, followed by the event log.

use super::{Turn, TurnError};
use crate::config::{After, When};
use crate::ctx::Announced;
use crate::requests::{self, Stamp, Wish};
use rouse_model::buildset::Buildset;
use rouse_model::event::EventKind;
use rouse_model::{BuildResult, BuildsetId, Timestamp};
use rouse_store::reads::BuildFilter;
use rouse_store::{Batch, Page};
use std::time::Duration;

const CURSOR: &str = "events";
const AT_ONCE: i64 = 500;
/// Of a builder's last so many builds some are good, and show how long they take.
const LEARNED_FROM: i64 = 20;
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
        for (upstream, when) in after.upstream.iter().filter(|(_, when)| **when != When::Failure) {
            // The oldest first, which ends first.
            for before in self.ctx.store.open_buildsets(upstream.as_str()).await?.into_iter().take(AHEAD) {
                let (due, good) = self.foretold_end(&before).await?;
                let likely = if *when == When::Success { good } else { 1.0 };
                let wish = self.wish_after(before, upstream.as_str()).await?;
                ahead.push(Announced { wish, due, likely });
            }
        }
        Ok(ahead)
    }

    /// When all builds of a buildset will have ended, should they take as long as such builds did before; `None` where one does not run yet, or is the first of
    /// its builder. And how likely all are good, should they be as such builds were.
    async fn foretold_end(&self, before: &Buildset) -> Result<(Option<Timestamp>, f64), TurnError> {
        let (mut end, mut known, mut likely) = (None, true, 1.0);
        for request in self.ctx.store.requests_of(before.id).await? {
            if let Some(result) = request.result {
                likely *= f64::from(u8::from(result.is_good()));
                continue;
            }
            let build = match request.build {
                Some(build) => self.ctx.store.build(build).await?,
                None => None,
            };
            let (usual, good) = self.usual(&request.builder).await?;
            likely *= good;
            match (build, usual) {
                (Some(build), Some(usual)) => end = end.max(Some(build.matched + usual)),
                _ => known = false,
            }
        }
        Ok((end.filter(|_| known), likely))
    }

    /// How long the half of a builder's last good builds took at most, and which share of its last builds were good; 1 where there were none.
    async fn usual(&self, builder: &str) -> Result<(Option<Duration>, f64), TurnError> {
        let page = Page { before: None, limit: LEARNED_FROM };
        let filter = BuildFilter { builder: Some(builder.to_owned()), ..BuildFilter::default() };
        let builds = self.ctx.store.builds(&filter, page).await?;
        let ended = builds.iter().filter(|build| build.finished.is_some()).count();
        let good = builds.iter().filter(|build| build.result.is_some_and(BuildResult::is_good));
        let mut took: Vec<Duration> =
            good.filter_map(|build| Some(build.finished?.since(build.matched))).collect();
        took.sort_unstable();
        let share = if ended == 0 { 1.0 } else { took.len() as f64 / ended as f64 };
        Ok((took.get(took.len() / 2).copied(), share))
    }
}
