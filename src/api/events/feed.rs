//! One reader's way along the event log.

use super::{EventQuery, EventView};
use crate::api::AppState;
use crate::api::auth::Caller;
use rouse_store::ReadError;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use tokio::sync::watch;

/// How many are read at once.
const BATCH: i64 = 200;
/// Another master's commits are found by looking.
const LOOK: Duration = Duration::from_secs(1);

/// What a reader is given.
pub(super) enum Item {
    Event(Box<EventView>),
    /// Events after the reader's place are not kept any more: read the state anew, and go on from this number.
    Reset(i64),
}

/// Where one reader is, and what it wants to see.
pub(super) struct Feed {
    state: AppState,
    caller: Caller,
    cursor: i64,
    kinds: HashSet<String>,
    subjects: HashSet<String>,
    ready: VecDeque<Item>,
    committed: watch::Receiver<u64>,
    checked: bool,
}

impl Feed {
    pub(super) async fn open(
        state: AppState,
        caller: Caller,
        query: EventQuery,
        after: Option<i64>,
    ) -> Result<Self, ReadError> {
        // Subscribed before the first look, so that nothing falls in between.
        let committed = state.ctx.store.committed();
        let cursor = match after.or(query.after) {
            Some(after) => after,
            None => state.ctx.store.newest_event().await?,
        };
        let set = |list: Option<String>| -> HashSet<String> {
            list.into_iter()
                .flat_map(|l| l.split(',').map(|w| w.trim().to_owned()).collect::<Vec<_>>())
                .collect()
        };
        Ok(Self {
            state,
            caller,
            cursor,
            kinds: set(query.kind),
            subjects: set(query.subject),
            ready: VecDeque::new(),
            committed,
            checked: false,
        })
    }

    /// The number that the reader has seen all up to.
    pub(super) fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The next item; `None` once the master stops. Dropped at any moment, it has lost nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            if self.state.stopping.is_cancelled() {
                return Ok(None);
            }
            self.committed.mark_unchanged();
            if !self.look().await? {
                let stopping = self.state.stopping.clone();
                tokio::select! {
                    () = stopping.cancelled() => return Ok(None),
                    changed = self.committed.changed() => {
                        if changed.is_err() {
                            return Ok(None);
                        }
                    }
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }

    /// Reads what there is; false where there was nothing.
    pub(super) async fn look(&mut self) -> Result<bool, ReadError> {
        let store = self.state.ctx.store.clone();
        if !self.checked {
            let (oldest, newest) = (store.oldest_event().await?, store.newest_event().await?);
            self.checked = true;
            // Past the end: numbers of another database, or of the time that a backup's return has undone.
            let lost = self.cursor > newest || store.is_of_a_lost_time(self.cursor);
            if self.cursor < oldest - 1 || lost {
                self.cursor = newest;
                self.ready.push_back(Item::Reset(newest));
                return Ok(true);
            }
        }
        let events = store.events_after(self.cursor, BATCH).await?;
        let Some(last) = events.last() else { return Ok(false) };
        self.cursor = last.seq;
        for event in events {
            let view = EventView::from(event);
            if self.wants(&view) {
                self.ready.push_back(Item::Event(Box::new(view)));
            }
        }
        Ok(true)
    }

    pub(super) fn take_ready(&mut self) -> Vec<Item> {
        self.ready.drain(..).collect()
    }

    fn wants(&self, event: &EventView) -> bool {
        // The installation's own events say nothing of other projects; configurations do.
        let visible = self.caller.sees(&event.project);
        visible
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.subjects.is_empty() || self.subjects.contains(&event.subject))
    }
}
