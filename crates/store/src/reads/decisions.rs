//! What the fleet came to.

use super::{Page, Tail};
use crate::{ReadError, Store};
use rouse_model::DecisionId;
use rouse_model::decision::Decision;

impl Store {
    pub async fn decision(&self, id: DecisionId) -> Result<Option<Decision>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    /// Of one pool, newest first.
    pub async fn decisions(&self, pool: &str, page: Page) -> Result<Vec<Decision>, ReadError> {
        let mut tail = Tail::default();
        tail.and("pool = ?", pool);
        let (tail, params) = tail.page(page);
        self.select(&tail, params).await
    }

    /// In the order of their ids, from the first on.
    pub async fn oldest_decisions(&self, limit: i64) -> Result<Vec<Decision>, ReadError> {
        self.select("ORDER BY id LIMIT $1", vec![limit.into()]).await
    }
}
