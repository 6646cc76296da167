//! A fleet without its loops, for tests that ask one part of it: nothing happens here but what they do.

use super::town;
use crate::ctx::{Active, Ctx};
use crate::fleet::Fleet;
use crate::requests::{self, Made, Wish};
use rouse_contract::ProviderKind;
use rouse_model::buildset::Request;
use rouse_model::worker::Worker;
use rouse_model::{RequestId, Timestamp, Trust, WorkerId};
use rouse_provider_fake::{Cloud, FakeKind};
use rouse_store::Batch;
use rouse_store::testing::{Memory, samples};
use rouse_testkit::clock::SimClock;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::DropGuard;

/// 2025-11-25, one o'clock.
const START: Timestamp = Timestamp(1_764_032_400_000_000);

pub(in crate::fleet) struct Lone {
    pub fleet: Arc<Fleet>,
    pub cloud: Arc<Cloud>,
    pub memory: Memory,
    pub folder: tempfile::TempDir,
    wishes: AtomicUsize,
    _logs: DropGuard,
}

/// Where a configuration says `$FOLDER` it means this one.
fn write(folder: &Path, config: &str) {
    let config = config.replace("$FOLDER", &folder.display().to_string());
    std::fs::write(folder.join("rouse.yaml"), config).unwrap();
}

impl Lone {
    pub(in crate::fleet) async fn of(config: &str) -> Self {
        Self::listening(config, Some(7)).await
    }

    /// Agents come to this port, where there is one.
    pub(in crate::fleet) async fn listening(config: &str, agents_port: Option<u16>) -> Self {
        let clock = Arc::new(SimClock::at(START));
        clock.enter();
        let cloud = Cloud::new(Arc::clone(&clock), 1, &["debian:12"]);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), config);
        let memory = Memory::new().unwrap();
        let store = memory.open().await.unwrap();
        let mut kinds: Vec<Arc<dyn ProviderKind>> = crate::boot::provider_kinds();
        kinds.push(Arc::new(FakeKind::new(Arc::clone(&cloud))));
        let (_, ctx, accounts, logs) =
            town::context(("one", store), clock, kinds, folder.path(), agents_port).await;
        let fleet = Arc::new(Fleet::new(ctx, accounts));
        Self { fleet, cloud, memory, folder, wishes: AtomicUsize::new(0), _logs: logs }
    }

    pub(in crate::fleet) fn ctx(&self) -> &Ctx {
        &self.fleet.ctx
    }

    pub(in crate::fleet) fn active(&self) -> Arc<Active> {
        self.fleet.ctx.config()
    }

    pub(in crate::fleet) fn now(&self) -> Timestamp {
        self.fleet.ctx.now()
    }

    /// Writes another configuration, which holds from now on.
    pub(in crate::fleet) async fn reload(&self, config: &str) {
        write(self.folder.path(), config);
        self.fleet.ctx.revisions.reload("test").await.unwrap();
    }

    pub(in crate::fleet) async fn request(&self, builder: &str) -> Request {
        self.request_of(builder, Trust::Trusted).await
    }

    pub(in crate::fleet) async fn request_of(&self, builder: &str, trust: Trust) -> Request {
        let number = self.wishes.fetch_add(1, Ordering::Relaxed);
        let wish = Wish { trust, ..town::wish(number, builder) };
        let made = requests::make(self.ctx(), &self.active(), wish, Batch::new("test.wish")).await.unwrap();
        let Made::New { requests, .. } = made else { panic!("it was made before") };
        self.row(requests[0]).await
    }

    /// A request as it is on record.
    pub(in crate::fleet) async fn row(&self, request: RequestId) -> Request {
        self.fleet.ctx.store.request(request).await.unwrap().expect("it is there")
    }

    /// A worker that was asked for a moment ago, of which nothing is on record yet.
    pub(in crate::fleet) fn worker(&self, id: i64, pool: &str, account: &str) -> Worker {
        Worker {
            name: format!("{pool}-{id}"),
            pool: pool.into(),
            provider: account.into(),
            offering: None,
            config: self.active().revision,
            master: self.fleet.ctx.me,
            requested: self.now(),
            ..samples::worker(id)
        }
    }

    pub(in crate::fleet) async fn insert(&self, workers: &[&Worker]) {
        let mut batch = Batch::new("test.workers");
        workers.iter().for_each(|worker| _ = batch.insert(*worker));
        self.fleet.ctx.store.commit(batch).await.unwrap();
    }

    /// A worker as it is on record.
    pub(in crate::fleet) async fn worker_row(&self, id: WorkerId) -> Worker {
        self.fleet.ctx.store.worker(id).await.unwrap().expect("it is there")
    }
}
