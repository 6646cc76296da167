//! The event log as other masters write it, turned into nudges. A nudge too many costs a look; what is missed is found by each loop's own tick.

use crate::ctx::{Ctx, Hint};
use crate::requests::Closed;
use crate::revisions::RevisionError;
use rouse_model::event::{Event, EventKind};
use rouse_model::{BuildId, WorkerId};
use rouse_store::ReadError;
use std::collections::VecDeque;

/// How many events are read at once.
const PAGE: i64 = 1_000;

#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error("read the event log")]
    Read(#[from] ReadError),
    #[error("put in force what another master has applied")]
    Config(#[from] RevisionError),
}

/// So many ticks before it is seen that somebody has come, he may have written something.
const UNSEEN: usize = 4;

/// Where in the log this master is.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// While it follows.
    cursor: Option<i64>,
    /// While it is alone: where the log ended at the last few ticks, the oldest first.
    ends: VecDeque<i64>,
}

impl Follower {
    /// Goes on to the log's end, where others write it.
    pub(super) async fn step(&mut self, ctx: &Ctx, in_company: bool) -> Result<(), FollowError> {
        if !in_company {
            self.cursor = None;
            self.ends.push_back(ctx.store.newest_event().await?);
            if self.ends.len() > UNSEEN {
                self.ends.pop_front();
            }
            return Ok(());
        }
        let mut cursor = match self.cursor {
            Some(cursor) => cursor,
            None => {
                let before = match self.ends.front() {
                    Some(end) => *end,
                    None => ctx.store.newest_event().await?,
                };
                ctx.revisions.follow().await?;
                ctx.nudges.all();
                self.ends.clear();
                before
            }
        };
        self.cursor = Some(cursor);
        loop {
            let events = ctx.store.events_after(cursor, PAGE).await?;
            for event in &events {
                nudge(ctx, event);
            }
            let applied = events.iter().any(|e| e.body.kind == EventKind::ConfigApplied);
            if let Some(last) = events.last() {
                cursor = last.seq;
                self.cursor = Some(cursor);
            }
            if applied && ctx.revisions.follow().await? {
                ctx.nudges.all();
            }
            if events.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }
}

fn nudge(ctx: &Ctx, event: &Event) {
    let nudges = &ctx.nudges;
    match event.body.kind {
        EventKind::RequestMade | EventKind::BuildsetMade | EventKind::RequestChanged => {
            nudges.fleet.notify_one();
            nudges.matching.notify_one();
        }
        EventKind::ChangeSetSeen => nudges.schedulers.notify_one(),
        EventKind::BuildsetDone => {
            Closed { parent: event.body.payload["parent"].as_i64().map(BuildId) }.tell(ctx)
        }
        EventKind::BuildPhase if event.body.payload["waiting"] == true => nudges.fleet.notify_one(),
        EventKind::BuildStarted => nudges.builds.notify_one(),
        EventKind::BuildFinished | EventKind::RequestDone => {
            nudges.fleet.notify_one();
            nudges.matching.notify_one();
        }
        EventKind::WorkerPhase | EventKind::WorkerLink | EventKind::WorkerWanted => {
            if let Some(worker) = number(&event.body.subject, "worker/") {
                ctx.switchboard.look_at_worker(WorkerId(worker));
            }
            nudges.fleet.notify_one();
            nudges.matching.notify_one();
            nudges.agent_link.notify_one();
        }
        EventKind::CodebaseHint => hint(ctx, event),
        _ => {}
    }
}

/// A hint that was given to another master; our own are known here already.
fn hint(ctx: &Ctx, event: &Event) {
    let payload = &event.body.payload;
    if payload["master"] == ctx.me.0 {
        return;
    }
    let Some(codebase) = event.body.subject.strip_prefix("codebase/") else { return };
    match serde_json::from_value::<Hint>(payload.clone()) {
        Ok(hint) => {
            ctx.hurry.say(codebase, hint);
            ctx.nudges.changes.notify_one();
        }
        Err(error) => tracing::debug!(%error, "a hint of another version"),
    }
}

fn number(subject: &str, prefix: &str) -> Option<i64> {
    subject.strip_prefix(prefix)?.parse().ok()
}
