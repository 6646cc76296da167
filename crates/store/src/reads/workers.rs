//! Workers and the leases on their slots.

use super::{Page, Tail};
use crate::{ReadError, Store};
use rouse_model::WorkerId;
use rouse_model::build::Lease;
use rouse_model::worker::Worker;

/// Which workers; absent means all.
#[derive(Debug, Clone, Default)]
pub struct WorkerFilter {
    pub pool: Option<String>,
    /// Only those that are not gone.
    pub live: bool,
}

impl Store {
    pub async fn worker(&self, id: WorkerId) -> Result<Option<Worker>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    pub async fn worker_by_name(&self, name: &str) -> Result<Option<Worker>, ReadError> {
        self.select_one("WHERE name = $1", vec![name.into()]).await
    }

    /// Those of these ids that there are, in no order.
    pub async fn workers_by_id(&self, ids: &[WorkerId]) -> Result<Vec<Worker>, ReadError> {
        self.select_in("id", ids.iter().map(|id| id.0)).await
    }

    /// All that are not gone, oldest first.
    pub async fn live_workers(&self) -> Result<Vec<Worker>, ReadError> {
        self.select_few("WHERE gone IS NULL ORDER BY id", vec![]).await
    }

    /// The same for who has read them before: what has not changed since is taken from there.
    pub async fn live_workers_anew(&self, before: Vec<Worker>) -> Result<Vec<Worker>, ReadError> {
        self.select_anew("WHERE gone IS NULL ORDER BY id", vec![], before, |worker| worker.gone.is_none())
            .await
    }

    /// Those that are there, that is, an agent has come and they are not gone, and have a slot that no build has, oldest first.
    pub async fn workers_with_room(&self) -> Result<Vec<Worker>, ReadError> {
        let taken = "SELECT count(*) FROM leases WHERE leases.worker = workers.id";
        let there = "WHERE gone IS NULL AND attached IS NOT NULL";
        self.select_few(&format!("{there} AND slots > ({taken}) ORDER BY id"), vec![]).await
    }

    /// Newest first.
    pub async fn workers(&self, filter: &WorkerFilter, page: Page) -> Result<Vec<Worker>, ReadError> {
        let mut tail = Tail::default();
        tail.and_if("pool = ?", filter.pool.as_deref());
        if filter.live {
            tail.plain("gone IS NULL");
        }
        let (tail, params) = tail.page(page);
        self.select(&tail, params).await
    }

    pub async fn leases(&self) -> Result<Vec<Lease>, ReadError> {
        self.select_few("ORDER BY worker, slot", vec![]).await
    }

    pub async fn leases_of(&self, worker: WorkerId) -> Result<Vec<Lease>, ReadError> {
        self.select_few("WHERE worker = $1 ORDER BY slot", vec![worker.0.into()]).await
    }
}
