//! What was spent, and what was allowed beyond a budget.

use super::{Page, Tail};
use crate::record::taken;
use crate::{ReadError, Store};
use rouse_model::budget::{BudgetGrant, Parking};
use rouse_model::money::Money;
use rouse_model::{Timestamp, WorkerId};

impl Store {
    /// What those workers of a pool have cost since `from` that were gone after `after` and not after `until`: each from when it was taken until it was gone. One
    /// that never was cost nothing.
    pub async fn cost_of_gone(
        &self,
        pool: &str,
        from: Timestamp,
        (after, until): (Timestamp, Timestamp),
    ) -> Result<Money, ReadError> {
        // By the second, rounded up: in what is smaller a year of a dear machine is out of range.
        let sql = "SELECT COALESCE(CAST(SUM((gone - CASE WHEN accepted > $2 THEN accepted ELSE $2 END + 999999) / 1000000 * price / 3600) AS BIGINT), 0) \
             FROM workers WHERE pool = $1 AND gone > $3 AND gone <= $4 AND price > 0 AND accepted IS NOT NULL";
        let params = vec![pool.into(), from.0.into(), after.0.into(), until.0.into()];
        let rows = self.inner.backend.query(sql, params.clone()).await?;
        let cost: Money = taken("workers", "price", rows.into_iter().next().and_then(|mut row| row.pop()))?;
        // By the second, rounded down. One that was not resumed lay until it was gone.
        let sql = "SELECT COALESCE(CAST(SUM((COALESCE(p.until, w.gone) - CASE WHEN p.since > $2 THEN p.since ELSE $2 END) / 1000000 * p.spares / 3600) AS BIGINT), 0) \
             FROM workers w JOIN parkings p ON p.worker = w.id \
             WHERE w.pool = $1 AND w.gone > $3 AND w.gone <= $4 AND w.price > 0 AND COALESCE(p.until, w.gone) > $2";
        let rows = self.inner.backend.query(sql, params).await?;
        let spared: Money =
            taken("parkings", "spares", rows.into_iter().next().and_then(|mut row| row.pop()))?;
        Ok(cost - spared)
    }

    /// When a worker lay parked that had been resumed so often.
    pub async fn parking(&self, worker: WorkerId, nth: i64) -> Result<Option<Parking>, ReadError> {
        self.select_one("WHERE worker = $1 AND nth = $2", vec![worker.0.into(), nth.into()]).await
    }

    /// When a worker lay parked, in all.
    pub async fn parkings_of(&self, worker: WorkerId) -> Result<Vec<Parking>, ReadError> {
        self.select_few("WHERE worker = $1 ORDER BY nth", vec![worker.0.into()]).await
    }

    /// When the workers of a pool that are not gone lay parked.
    pub async fn parkings_of_live(&self, pool: &str) -> Result<Vec<Parking>, ReadError> {
        let live = "WHERE worker IN (SELECT id FROM workers WHERE pool = $1 AND gone IS NULL)";
        self.select_few(live, vec![pool.into()]).await
    }

    /// What is allowed beyond the budgets of all pools at a moment, oldest first.
    pub async fn budget_grants_at(&self, now: Timestamp) -> Result<Vec<BudgetGrant>, ReadError> {
        self.select_few("WHERE until > $1 ORDER BY id", vec![now.0.into()]).await
    }

    /// What was allowed beyond the budget of a pool, newest first.
    pub async fn budget_grants(&self, pool: &str, page: Page) -> Result<Vec<BudgetGrant>, ReadError> {
        let mut tail = Tail::default();
        tail.and("pool = ?", pool);
        let (tail, params) = tail.page(page);
        self.select(&tail, params).await
    }
}
