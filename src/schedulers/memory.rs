//! What a scheduler remembers: rows by key, with JSON values, moved by compare-and-set.

use super::{Turn, TurnError};
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
