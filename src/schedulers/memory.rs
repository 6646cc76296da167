//! What a scheduler remembers: rows by key, with JSON values, moved by compare-and-set.

use super::{Turn, TurnError};
use crate::config::Config;
use crate::ctx::Ctx;
use rouse_model::buildset::SchedulerState;
use rouse_store::Batch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// All rows of one scheduler.
pub(super) struct Memory {
    scheduler: String,
    rows: BTreeMap<String, SchedulerState>,
}

impl Turn<'_> {
    pub(super) async fn memory(&self) -> Result<Memory, TurnError> {
        let rows = self.ctx.store.scheduler_states(self.name).await?;
        let rows = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        Ok(Memory { scheduler: self.name.to_owned(), rows })
    }

    /// How far a scheduler has followed the event log. One that was not there before begins where the configuration took effect that has it.
    pub(super) async fn place_in_events(&self, memory: &mut Memory, key: &str) -> Result<i64, TurnError> {
        if let Some(place) = memory.get(key)? {
            return Ok(place);
        }
        let store = &self.ctx.store;
        // Where that event is not numbered yet, the newest that is was before it.
        let place = match store.event_of_config(self.active.revision).await? {
            Some(place) => place,
            None => store.newest_event().await?,
        };
        let mut batch = Batch::new("scheduler.begin");
        memory.set(&mut batch, key, &place);
        store.commit(batch).await?;
        Ok(place)
    }
}

/// Forgets what schedulers remember that are not configured any more: one that comes back under the name begins anew, and does not build all
/// that has happened meanwhile.
pub(super) async fn forget_others(ctx: &Ctx, config: &Config) -> Result<(), TurnError> {
    let mut batch = Batch::new("scheduler.forget");
    for row in ctx.store.all_scheduler_states().await? {
        if !config.schedulers.keys().any(|name| name.as_str() == row.scheduler) {
            batch.delete(&row);
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    match ctx.store.commit(batch).await {
        // Another master was quicker.
        Err(error) if error.is_conflict() => Ok(()),
        done => Ok(done?),
    }
}

impl Memory {
    pub(super) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, TurnError> {
        let Some(row) = self.rows.get(key) else { return Ok(None) };
        serde_json::from_str(&row.value).map(Some).map_err(|e| TurnError::Memory(format!("{key}: {e}")))
    }

    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        self.rows.keys().filter(|k| k.starts_with(prefix)).cloned().collect()
    }

    /// Puts a value into the batch, and here.
    pub(super) fn set<T: Serialize>(&mut self, batch: &mut Batch, key: &str, value: &T) {
        let value = serde_json::to_string(value).unwrap_or_default();
        match self.rows.get_mut(key) {
            Some(row) => {
                row.value = value;
                batch.update(row);
            }
            None => {
                let row = SchedulerState {
                    scheduler: self.scheduler.clone(),
                    key: key.to_owned(),
                    value,
                    generation: 0,
                };
                batch.insert(&row);
                self.rows.insert(key.to_owned(), row);
            }
        }
    }

    pub(super) fn remove(&mut self, batch: &mut Batch, key: &str) {
        if let Some(row) = self.rows.remove(key) {
            batch.delete(&row);
        }
    }
}
