//! Locks come before demand: a request that waits for one asks no pool for a worker. Whoever may go on takes its locks here, on record, under the
//! fleet's role, and keeps them until its build ends.

use super::FleetError;
use crate::config::{BuilderConfig, Config, PoolConfig};
use crate::ctx::{Active, Ctx};
use crate::requests::{needs, request_event};
use rouse_model::WorkerId;
use rouse_model::build::Lease;
use rouse_model::buildset::Request;
use rouse_model::event::EventKind;
use rouse_model::locks::{Ledger, Need, has_all, refused};
use rouse_model::master::Role;
use rouse_model::worker::Worker;
use rouse_store::Batch;
use std::collections::HashMap;

/// What the locks say to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Go,
    /// For now it asks nobody for a worker.
    Wait,
    /// It may never have them.
    Never,
}

/// The locks, as one pass of the fleet sees them.
pub(super) struct Gate<'a> {
    ctx: &'a Ctx,
    role: &'a Role,
    ledger: Ledger,
    /// Pool → places for builds that are taken.
    taken: HashMap<String, usize>,
    /// Worker → builds on it that have a lock that is counted on workers.
    locked: HashMap<WorkerId, usize>,
}

impl<'a> Gate<'a> {
    /// `None` where nobody who waits needs a lock, or has one.
    pub(super) async fn of(
        ctx: &'a Ctx,
        role: &'a Role,
        config: &Config,
        waiting: &[Request],
        workers: &[Worker],
        leases: &[Lease],
    ) -> Result<Option<Self>, FleetError> {
        let needs_some = |request: &Request| {
            let builder = config.builders.get(request.builder.as_str());
            request.locks.is_some() || builder.is_some_and(|builder| !builder.locks.is_empty())
        };
        if !waiting.iter().any(needs_some) {
            return Ok(None);
        }
        let holders = ctx.store.requests_with_locks().await?;
        let holds = holders.iter().flat_map(|r| r.holds().iter().map(|hold| (r.id, hold)));
        let ledger = Ledger::of(holds);
        let mut locked = HashMap::new();
        for holder in &holders {
            if let Some(worker) = holder.holds().iter().find_map(|hold| hold.worker) {
                *locked.entry(worker).or_default() += 1;
            }
        }
        Ok(Some(Self { ctx, role, ledger, taken: places_taken(workers, leases), locked }))
    }

    pub(super) fn locked(self) -> HashMap<WorkerId, usize> {
        self.locked
    }

    /// Whether a request asks for a worker. One that could have its locks, and whose pools have no room, keeps its place and takes nothing yet.
    pub(super) async fn lets(
        &mut self,
        active: &Active,
        builder: &BuilderConfig,
        request: &mut Request,
        candidates: &[(&str, &PoolConfig)],
        wished: impl Fn(&str) -> usize,
    ) -> Result<Says, FleetError> {
        let branch = request.branch.clone();
        let needs = needs(&active.config, builder, branch.as_deref());
        if refused(&needs, request.trust).is_some() {
            if request.locks.is_some() {
                self.ledger.forget(request.id);
                self.record(request, None).await?;
            }
            return Ok(Says::Never);
        }
        if has_all(request.holds(), &needs) && (request.locks.is_none() || !candidates.is_empty()) {
            return Ok(Says::Go);
        }
        if request.locks.is_some() {
            // The configuration has changed: it takes what it needs now, or nothing.
            self.ledger.forget(request.id);
            if needs.is_empty() || candidates.is_empty() {
                return self.record(request, None).await;
            }
        }
        if candidates.is_empty() {
            return Ok(Says::Wait);
        }
        let free = self.ledger.try_all(&needs, request.trust, None).is_ok();
        let room = candidates.iter().any(|(name, pool)| {
            let taken = self.taken.get(*name).copied().unwrap_or_default();
            taken + wished(name) < pool.at(self.ctx.now()).max as usize * pool.slots as usize
        });
        if !free || !room {
            self.ledger.wait(request.id, &needs, None);
            return Ok(Says::Wait);
        }
        self.grant(request, &needs).await
    }

    async fn grant(&mut self, request: &mut Request, needs: &[Need<'_>]) -> Result<Says, FleetError> {
        let holds = self.ledger.take(request.id, needs, None);
        self.record(request, Some(holds).filter(|holds| !holds.is_empty())).await
    }

    /// It waits where it is not on record, since somebody else has changed the request.
    async fn record(
        &self,
        request: &mut Request,
        locks: Option<Vec<rouse_model::locks::Hold>>,
    ) -> Result<Says, FleetError> {
        request.locks = locks;
        let mut batch = Batch::new("request.lock");
        batch.expect_role(self.role).update(request);
        batch.event(request_event(EventKind::RequestChanged, request, self.ctx.now()));
        match self.ctx.store.commit(batch).await {
            Ok(()) => {
                self.ctx.nudges.matching.notify_one();
                Ok(Says::Go)
            }
            Err(error) if error.is_conflict() => Ok(Says::Wait),
            Err(error) => Err(error.into()),
        }
    }
}

/// Pool → places that are taken by builds, or by workers that are about to go.
fn places_taken(workers: &[Worker], leases: &[Lease]) -> HashMap<String, usize> {
    let mut builds: HashMap<WorkerId, usize> = HashMap::new();
    for lease in leases {
        *builds.entry(lease.worker).or_default() += 1;
    }
    let mut taken: HashMap<String, usize> = HashMap::new();
    for worker in workers {
        let busy = builds.get(&worker.id).copied().unwrap_or_default();
        let all = usize::try_from(worker.slots).unwrap_or(1);
        let leaves = !matches!(worker.wanted, rouse_model::worker::Wanted::Run);
        *taken.entry(worker.pool.clone()).or_default() += if leaves { all } else { busy };
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::Timestamp;
    use rouse_model::worker::{Cause, CauseCode, Wanted};
    use rouse_store::testing::samples;

    #[test]
    fn places_are_taken_by_builds_and_by_workers_that_leave() {
        let worker = |id: i64, slots: i64| Worker { slots, ..samples::worker(id) };
        let leaves = Wanted::Drain { cause: Cause::new(CauseCode::Idle, None, "it was idle") };
        let workers = [
            worker(1, 4),
            Worker { wanted: leaves, ..worker(2, 3) },
            Worker { pool: "small".into(), ..worker(3, 1) },
        ];
        let lease = |worker: i64, slot: i64| Lease {
            worker: WorkerId(worker),
            slot,
            build: (worker * 10 + slot).into(),
            since: Timestamp(0),
        };
        let taken = places_taken(&workers, &[lease(1, 0), lease(1, 1), lease(2, 0)]);
        assert_eq!(taken, HashMap::from([("big".to_owned(), 2 + 3), ("small".to_owned(), 0)]));
    }
}
