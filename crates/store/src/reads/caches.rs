//! What builds keep for those after them.

use crate::{ReadError, Store};
use rouse_model::cache::Cache;
use rouse_model::{CacheId, Timestamp};

impl Store {
    pub async fn cache(&self, id: CacheId) -> Result<Option<Cache>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    /// The version that counts under a key.
    pub async fn cache_at(&self, project: &str, name: &str, key: &str) -> Result<Option<Cache>, ReadError> {
        let tail = "WHERE project = $1 AND name = $2 AND key = $3 AND replaced IS NULL";
        self.select_one(tail, vec![project.into(), name.into(), key.into()]).await
    }

    /// All keys of a project's cache, the least recently used first.
    pub async fn caches_named(&self, project: &str, name: &str) -> Result<Vec<Cache>, ReadError> {
        let tail = "WHERE project = $1 AND name = $2 AND replaced IS NULL ORDER BY used, id";
        self.select(tail, vec![project.into(), name.into()]).await
    }

    /// All that count, in the order of project, name and key.
    pub async fn caches(&self) -> Result<Vec<Cache>, ReadError> {
        self.select("WHERE replaced IS NULL ORDER BY project, name, key", vec![]).await
    }

    /// Those that nobody has begun with since, and those that were replaced before: a page.
    pub async fn caches_beyond(
        &self,
        unused_since: Timestamp,
        replaced_before: Timestamp,
        limit: i64,
    ) -> Result<Vec<Cache>, ReadError> {
        let tail = "WHERE (replaced IS NULL AND used < $1) OR replaced < $2 ORDER BY id LIMIT $3";
        self.select(tail, vec![unused_since.0.into(), replaced_before.0.into(), limit.into()]).await
    }
}
