//! Changes, clocks and other builds into buildsets. Each scheduler is a role of one master; what it remembers is rows, moved in the very
//! commit that makes the buildset, whose origin is unique: so nothing is made twice and nothing is forgotten.

mod after;
mod changes;
mod clock;
mod memory;
#[cfg(test)]
mod tests;

use crate::config::{SchedulerConfig, Trigger};
use crate::ctx::{Active, Announced, Coming, Ctx};
use crate::requests::{self, MakeError, Stamp, SupersedeError, Wish};
use rouse_model::{Timestamp, Trust};
use rouse_store::{CommitError, HoldError, ReadError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(5);
/// Between looks at what is coming.
const ANNOUNCE: Duration = Duration::from_secs(2);

/// Why a scheduler's turn was cut short.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("read what is there")]
    Read(#[from] ReadError),
    #[error("record what was decided")]
    Commit(#[from] CommitError),
    #[error("take the scheduler's role")]
    Role(#[from] HoldError),
    #[error("make a buildset")]
    Make(#[from] MakeError),
    #[error("end what a newer change supersedes")]
    Supersede(#[from] SupersedeError),
    #[error("what the scheduler remembers cannot be read: {0}")]
    Memory(String),
}

/// One scheduler at one moment.
struct Turn<'a> {
    ctx: &'a Ctx,
    active: &'a Active,
    name: &'a str,
    config: &'a SchedulerConfig,
    now: Timestamp,
}

/// Says what is coming to whoever listens, until told to stop. Not with each turn: what ends a thousand times in a minute is not looked at as often.
async fn announce(ctx: Arc<Ctx>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ANNOUNCE) => {}
        }
        if ctx.coming.has_listeners() {
            ctx.coming.say(announced(&ctx, &ctx.config(), Coming::LEAD).await);
        }
    }
}

/// What is coming within a time, of all schedulers: branches that are not quiet yet, strokes of clocks, and what follows buildsets that are under way.
async fn announced(ctx: &Ctx, active: &Active, within: Duration) -> Vec<Announced> {
    let mut all = Vec::new();
    for (name, config) in &active.config.schedulers {
        let turn = Turn { ctx, active, name: name.as_str(), config, now: ctx.now() };
        match turn.ahead(within).await {
            Ok(ahead) => all.extend(ahead),
            Err(error) => {
                let error = crate::supervisor::chain(&error);
                tracing::debug!(scheduler = name.as_str(), error, "a scheduler cannot say what is coming");
            }
        }
    }
    all
}

/// Runs all schedulers until told to stop.
pub async fn run(ctx: Arc<Ctx>, stop: CancellationToken) {
    crate::supervisor::spawn("announcer", announce(Arc::clone(&ctx), stop.clone()));
    let mut tidied = None;
    loop {
        let revision = ctx.config().revision;
        if tidied != Some(revision) {
            match memory::forget_others(&ctx, &ctx.config().config).await {
                Ok(()) => tidied = Some(revision),
                Err(error) => {
                    tracing::warn!(
                        error = crate::supervisor::chain(&error),
                        "what removed schedulers remember is forgotten later"
                    );
                }
            }
        }
        let next = pass(&ctx).await;
        let wait = next.map_or(TICK, |at| at.since(ctx.now()).clamp(Duration::from_millis(5), TICK));
        tokio::select! {
            () = stop.cancelled() => return,
            () = ctx.nudges.schedulers.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One turn of each; answers when the next one is due.
async fn pass(ctx: &Ctx) -> Option<Timestamp> {
    let active = ctx.config();
    let mut next = None;
    for (name, config) in &active.config.schedulers {
        let turn = Turn { ctx, active: &active, name: name.as_str(), config, now: ctx.now() };
        match turn.take().await {
            Ok(due) => next = [next, due].into_iter().flatten().min(),
            // One that is broken does not stop the others.
            Err(error) => {
                tracing::warn!(
                    scheduler = name.as_str(),
                    error = crate::supervisor::chain(&error),
                    "a scheduler tries again"
                );
            }
        }
    }
    next
}

impl Turn<'_> {
    async fn take(&self) -> Result<Option<Timestamp>, TurnError> {
        if matches!(self.config.trigger, Trigger::Force(_)) {
            return Ok(None);
        }
        if self.ctx.roles.hold("scheduler", self.name).await?.is_none() {
            return Ok(None);
        }
        match &self.config.trigger {
            Trigger::Changes(changes) => self.changes(changes).await,
            Trigger::Every(every) => self.every(*every).await,
            Trigger::Cron(cron) => self.cron(cron).await,
            Trigger::After(after) => self.after(after).await,
            Trigger::Force(_) => Ok(None),
        }
    }

    async fn ahead(&self, within: Duration) -> Result<Vec<Announced>, TurnError> {
        match &self.config.trigger {
            Trigger::Changes(_) => self.changes_ahead().await,
            Trigger::Every(_) | Trigger::Cron(_) => {
                Ok(self.stroke_ahead(within).await?.into_iter().collect())
            }
            Trigger::After(after) => self.after_ahead(after).await,
            Trigger::Force(_) => Ok(Vec::new()),
        }
    }

    /// What this scheduler asks for, but for what it is built from. The origin is unique among its own.
    fn wish(&self, origin: String, reason: String) -> Wish {
        Wish {
            origin: format!("{}/{origin}", self.name),
            scheduler: Some(self.name.to_owned()),
            reason,
            owner: None,
            properties: requests::force::properties_of(self.config, self.name),
            builders: self.config.builders.iter().map(ToString::to_string).collect(),
            stamps: Vec::new(),
            parent: None,
            trust: Trust::Trusted,
            priority: self.config.priority,
            images: [].into(),
            merges: [].into(),
            approved: None,
        }
    }

    /// When this scheduler came to be, as far as is known: what happened before is not its business.
    async fn since(&self) -> Result<Timestamp, TurnError> {
        let revision = self.ctx.store.config_revision(self.active.revision).await?;
        Ok(revision.map_or(self.now, |r| r.effective))
    }

    /// The newest of each codebase, as far as the mirrors have been looked at.
    async fn stamps_of_heads(&self) -> Result<Vec<Stamp>, TurnError> {
        let mut stamps = Vec::new();
        for (codebase, branch) in &self.config.codebases {
            stamps.push(self.stamp_of_head(codebase.as_str(), branch.clone()).await?);
        }
        Ok(stamps)
    }

    async fn stamp_of_head(&self, codebase: &str, branch: Option<String>) -> Result<Stamp, TurnError> {
        let store = &self.ctx.store;
        let branch = match branch {
            Some(branch) => Some(branch),
            // The repository's own, as the last look saw it.
            None => store.codebase_state(codebase).await?.and_then(|state| state.default_branch),
        };
        let head = match &branch {
            Some(branch) => store.head(codebase, branch).await?,
            None => None,
        };
        Ok(Stamp {
            codebase: codebase.to_owned(),
            branch,
            revision: head.and_then(|h| h.revision),
            change_set: None,
            trust: Trust::Trusted,
        })
    }
}
