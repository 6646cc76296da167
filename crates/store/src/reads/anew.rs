//! Rows that somebody reads again and again: those that are as they were are not read whole.

use crate::record::Record;
use crate::value::Value;
use crate::{ReadError, Store};
use rouse_model::buildset::Request;
use rouse_model::worker::Worker;
use std::collections::HashMap;

/// So many rows that have changed are read one by one; where there are more, all are.
const FEW: usize = 64;

/// A row with an id of its own and a generation that moves with each change.
pub(crate) trait Versioned: Record {
    fn version(&self) -> (i64, i64);
}

impl Versioned for Worker {
    fn version(&self) -> (i64, i64) {
        (self.id.0, self.generation)
    }
}

impl Versioned for Request {
    fn version(&self) -> (i64, i64) {
        (self.id.0, self.generation)
    }
}

impl Store {
    /// The rows that meet a condition, in its order, as [`Store::select_few`] has them. `before` are such as were read earlier: of those that have not
    /// changed nothing but their versions is read. `belongs` is the condition once more, for a row that changes meanwhile.
    pub(super) async fn select_anew<R: Versioned>(
        &self,
        tail: &str,
        params: Vec<Value>,
        before: Vec<R>,
        belongs: impl Fn(&R) -> bool,
    ) -> Result<Vec<R>, ReadError> {
        if before.is_empty() {
            return self.select_few(tail, params).await;
        }
        let sql = format!("SELECT id, generation FROM {} {tail}", R::table().name);
        let rows = self.inner.backend.few(&sql, params.clone()).await?;
        let listed: Vec<(i64, i64)> = rows.into_iter().filter_map(version_of).collect();
        let mut known: HashMap<(i64, i64), R> = before.into_iter().map(|row| (row.version(), row)).collect();
        let changed: Vec<i64> =
            listed.iter().filter(|row| !known.contains_key(row)).map(|row| row.0).collect();
        if changed.len() > FEW {
            return self.select_few(tail, params).await;
        }
        let changed: Vec<R> = self.select_by_id(&changed).await?;
        let mut anew: HashMap<i64, R> = changed.into_iter().map(|row| (row.version().0, row)).collect();
        let found = listed.into_iter().filter_map(|version| {
            known.remove(&version).or_else(|| anew.remove(&version.0).filter(&belongs))
        });
        Ok(found.collect())
    }

    async fn select_by_id<R: Versioned>(&self, ids: &[i64]) -> Result<Vec<R>, ReadError> {
        let Some(last) = ids.last() else { return Ok(Vec::new()) };
        // The last one fills up to a power of two, so that there are few statements, which the database keeps.
        let count = ids.len().next_power_of_two();
        let params =
            ids.iter().chain(std::iter::repeat(last)).take(count).map(|id| Value::I64(*id)).collect();
        let marks = (1..=count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        self.select_few(&format!("WHERE id IN ({marks})"), params).await
    }
}

fn version_of(row: Vec<Value>) -> Option<(i64, i64)> {
    match *row.as_slice() {
        [Value::I64(id), Value::I64(generation)] => Some((id, generation)),
        _ => None,
    }
}
