//! Clocks into buildsets: equal distances, and cron with time zones.

use super::memory::Memory;
use super::{Turn, TurnError};
use crate::config::{Cron, Every, IfChanged, Missed, Trigger};
use crate::ctx::Announced;
use crate::requests::{self, Stamp, Wish};
use chrono::{DateTime, Utc};
use rouse_model::Timestamp;
use rouse_store::{Batch, Page};
use std::time::Duration;

const LAST: &str = "last";
/// How often strokes have begun anew since the clock was set back: with it, what strikes a second time under one name is another one.
const ANEW: &str = "anew";
/// Clocks that are kept in step are set back by less.
const SLACK: Duration = Duration::from_secs(1);
/// A moment that is later than this when it is looked at passed while no master was up.
const LATE: Duration = Duration::from_secs(90);
/// A clock that is set back by more than this was wrong before, and what it said then counts no more.
const CORRECTED: Duration = Duration::from_secs(3 * 3600);

impl Turn<'_> {
    pub(super) async fn every(&self, every: Every) -> Result<Option<Timestamp>, TurnError> {
        let mut memory = self.memory().await?;
        let last = self.last(&mut memory).await?;
        let due = last + every.period.0;
        if last.since(self.now) > SLACK {
            self.begin_anew(&mut memory).await?;
            return Ok(Some(self.now + every.period.0));
        }
        if due > self.now {
            return Ok(Some(due));
        }
        // However many were missed, one is enough; the beat is kept.
        let period = i64::try_from(every.period.0.as_micros()).unwrap_or(i64::MAX).max(1);
        let struck = Timestamp(due.0 + (self.now.0 - due.0) / period * period);
        self.strike_at(&mut memory, struck, every.only_if_changed, true).await?;
        Ok(Some(struck + every.period.0))
    }

    pub(super) async fn cron(&self, cron: &Cron) -> Result<Option<Timestamp>, TurnError> {
        let mut memory = self.memory().await?;
        let mut last = self.last(&mut memory).await?;
        if strikes_anew(cron, last, self.now) {
            self.begin_anew(&mut memory).await?;
            last = self.now;
        }
        let Some(mut struck) = next_after(cron, last) else { return Ok(None) };
        if struck > self.now {
            return Ok(Some(struck));
        }
        while let Some(later) = next_after(cron, struck).filter(|at| *at <= self.now) {
            struck = later;
        }
        let wanted = self.now.since(struck) <= LATE || cron.missed == Missed::Once;
        self.strike_at(&mut memory, struck, cron.only_if_changed, wanted).await?;
        Ok(next_after(cron, struck))
    }

    async fn last(&self, memory: &mut Memory) -> Result<Timestamp, TurnError> {
        if let Some(last) = memory.get::<i64>(LAST)? {
            return Ok(Timestamp(last));
        }
        let since = self.since().await?;
        let mut batch = Batch::new("scheduler.begin");
        memory.set(&mut batch, LAST, &since.0);
        self.ctx.store.commit(batch).await?;
        Ok(since)
    }

    /// From now on, under a clock that was set back, strokes are others than those that had the same names before.
    async fn begin_anew(&self, memory: &mut Memory) -> Result<(), TurnError> {
        let anew = memory.get::<i64>(ANEW)?.unwrap_or(0) + 1;
        let mut batch = Batch::new("scheduler.anew");
        memory.set(&mut batch, ANEW, &anew);
        memory.set(&mut batch, LAST, &self.now.0);
        self.ctx.store.commit(batch).await?;
        tracing::warn!(scheduler = self.name, "the clock was set back since this scheduler struck last");
        Ok(())
    }

    async fn strike_at(
        &self,
        memory: &mut Memory,
        at: Timestamp,
        only_if_changed: Option<IfChanged>,
        wanted: bool,
    ) -> Result<(), TurnError> {
        let mut batch = Batch::new("scheduler.skip");
        memory.set(&mut batch, LAST, &at.0);
        match self.stroke(memory, at, only_if_changed).await?.filter(|_| wanted) {
            Some(wish) => _ = requests::make(self.ctx, self.active, wish, batch).await?,
            None => self.ctx.store.commit(batch).await?,
        }
        Ok(())
    }

    /// What is built at a moment, as things stand now; `None` where there is nothing new.
    async fn stroke(
        &self,
        memory: &Memory,
        at: Timestamp,
        only_if_changed: Option<IfChanged>,
    ) -> Result<Option<Wish>, TurnError> {
        let stamps = self.stamps_of_heads().await?;
        if !self.has_changed(only_if_changed, &stamps).await? {
            return Ok(None);
        }
        let anew = memory.get::<i64>(ANEW)?.map_or_else(String::new, |anew| format!("/{anew}"));
        let shown =
            DateTime::<Utc>::from_timestamp_micros(at.0).map(|t| t.format("%Y-%m-%d %H:%M UTC").to_string());
        let reason = format!("scheduled for {}", shown.unwrap_or_default());
        Ok(Some(Wish { stamps, ..self.wish(format!("at/{}{anew}", at.0 / 1_000_000), reason) }))
    }

    /// The next stroke, where it comes within a time. A clock that has never been looked at has none yet.
    pub(super) async fn stroke_ahead(&self, within: Duration) -> Result<Option<Announced>, TurnError> {
        let memory = self.memory().await?;
        let Some(last) = memory.get::<i64>(LAST)?.map(Timestamp) else { return Ok(None) };
        let (due, only_if_changed) = match &self.config.trigger {
            Trigger::Every(every) => (Some(last + every.period.0), every.only_if_changed),
            Trigger::Cron(cron) => (next_after(cron, last), cron.only_if_changed),
            _ => return Ok(None),
        };
        let Some(due) = due.filter(|due| *due <= self.now + within) else { return Ok(None) };
        let wish = self.stroke(&memory, due, only_if_changed).await?;
        Ok(wish.map(|wish| Announced { wish, due: Some(due), likely: 1.0 }))
    }

    /// Whether a codebase stands elsewhere than in the buildset that is compared with; where there is none, everything is new.
    async fn has_changed(&self, since: Option<IfChanged>, stamps: &[Stamp]) -> Result<bool, TurnError> {
        let Some(since) = since else { return Ok(true) };
        let mut page = Page { before: None, limit: 50 };
        loop {
            let sets = self.ctx.store.buildsets(Some(self.name), page).await?;
            let Some(oldest) = sets.last().map(|s| s.id.0) else { return Ok(true) };
            let compared = sets.into_iter().find(|set| match since {
                IfChanged::LastBuild => true,
                IfChanged::LastSuccess => set.result.is_some_and(rouse_model::BuildResult::is_good),
            });
            if let Some(compared) = compared {
                let before = self.ctx.store.stamps(compared.id).await?;
                // What is not known now, before the first look, is no news; else each stroke until then would build.
                let same = stamps.iter().all(|s| {
                    s.revision.is_none()
                        || before.iter().any(|b| b.codebase == s.codebase && b.revision == s.revision)
                });
                return Ok(!same);
            }
            page.before = Some(oldest);
        }
    }
}

/// Whether the clock was set back since the last stroke in a way that must not be waited out. What strikes in every hour goes by the new time at once;
/// what strikes at a written time has struck, unless the clock was plainly wrong.
fn strikes_anew(cron: &Cron, last: Timestamp, now: Timestamp) -> bool {
    let ahead = last.since(now);
    let text = cron.expression.as_str().trim();
    let in_every_hour =
        text.starts_with("@hourly") || text.split_whitespace().take(2).any(|field| field.contains('*'));
    ahead > CORRECTED || (ahead > LATE && in_every_hour)
}

/// The next moment of a cron expression strictly after another, in its own time zone: on the night that has an hour twice it strikes once,
/// on the one that lacks it at its end.
fn next_after(cron: &Cron, after: Timestamp) -> Option<Timestamp> {
    let after = DateTime::<Utc>::from_timestamp_micros(after.0)?.with_timezone(&cron.zone.0);
    let next = cron.expression.cron.find_next_occurrence(&after, false).ok()?;
    Some(Timestamp(next.timestamp_micros()))
}

#[cfg(test)]
mod tests;
