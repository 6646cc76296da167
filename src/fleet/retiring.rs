//! The ends of workers: decided on the row that was judged, and for what the configuration says of them.

use super::sizing::InUse;
use super::{Fleet, FleetError};
use crate::ctx::Active;
use rouse_model::ConfigRevisionId;
use rouse_model::build::Lease;
use rouse_model::worker::{Cause, CauseCode, Transition, Wanted, Worker, WorkerEvent};
use std::collections::{HashMap, HashSet};

/// Whether a pool has become another one since a revision, as far as this was asked in one pass.
type Changed<'a> = HashMap<(ConfigRevisionId, &'a str), bool>;

impl Fleet {
    /// Ends workers whose pool is not there any more, is another one by now, or has left their account, and drains those of drained providers. What
    /// was begun goes on under the configuration that it began with.
    pub(super) async fn end_what_is_not_wanted(
        &self,
        active: &Active,
        workers: &[Worker],
        leases: &[Lease],
    ) -> Result<(), FleetError> {
        let taken = InUse::of(leases.to_vec(), HashSet::new(), HashMap::new()).slots;
        let mut changed = Changed::new();
        // One that is held has its own configuration, and ends for this when it is not held any more.
        for worker in workers.iter().filter(|w| !matches!(w.wanted, Wanted::Hold { .. })) {
            if let Some(message) = self.unwanted(active, worker, &mut changed).await {
                let busy = taken.get(&worker.id).copied().unwrap_or_default();
                let cause = Cause::new(CauseCode::PoolChanged, None, message);
                self.retire(worker, busy, cause).await?;
            }
        }
        Ok(())
    }

    /// Why the configuration has no place for a worker any more.
    async fn unwanted<'a>(
        &self,
        active: &Active,
        worker: &'a Worker,
        changed: &mut Changed<'a>,
    ) -> Option<String> {
        let config = &active.config;
        let Some(pool) = config.pools.get(worker.pool.as_str()) else {
            return Some(format!("pool `{}` was removed", worker.pool));
        };
        if config.providers.get(worker.provider.as_str()).is_some_and(|provider| provider.drain) {
            return Some(format!("provider `{}` is drained", worker.provider));
        }
        if !pool.on.iter().any(|account| account.as_str() == worker.provider) {
            return Some(format!("pool `{}` is not on `{}` any more", worker.pool, worker.provider));
        }
        if worker.config == active.revision {
            return None;
        }
        let key = (worker.config, worker.pool.as_str());
        let is_changed = match changed.get(&key) {
            Some(known) => *known,
            None => {
                // One that cannot be read says nothing.
                let then = self.ctx.revisions.get(worker.config).await.ok();
                let then = then.as_ref().and_then(|then| then.config.pools.get(worker.pool.as_str()));
                let is_changed = then.is_some_and(|then| !then.launches_like(pool));
                changed.insert(key, is_changed);
                is_changed
            }
        };
        is_changed.then(|| format!("pool `{}` was changed", worker.pool))
    }

    /// Ends a worker, or drains it while it is busy.
    pub(super) async fn retire(&self, judged: &Worker, busy: usize, cause: Cause) -> Result<(), FleetError> {
        let event = if busy > 0 { WorkerEvent::Drain { cause } } else { WorkerEvent::End { cause } };
        self.decide(judged, "worker.end", event).await
    }

    /// Applies what was decided on a row. Its generation is what the change expects, so whoever has changed the worker since then wins, be it a build that
    /// was matched or a drain that was taken back: it is judged again.
    pub(super) async fn decide(
        &self,
        judged: &Worker,
        name: &'static str,
        event: WorkerEvent,
    ) -> Result<(), FleetError> {
        let now = self.ctx.now();
        let Transition::Applied { next, .. } = judged.on(event, now) else { return Ok(()) };
        let mut next = *next;
        let mut batch = rouse_store::Batch::new(name);
        for event in crate::workers::events_of(judged, &next, now) {
            batch.event(event);
        }
        batch.update(&mut next);
        match self.ctx.store.commit(batch).await {
            Ok(()) => {
                self.nudge_driver(judged.id);
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
