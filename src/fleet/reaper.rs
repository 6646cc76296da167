//! What providers have against what is on record: orphans are ended when seen twice, ghosts are told to their drivers. Also where hints
//! of providers come in.

use super::breakers::Freed;
use super::{Fleet, FleetError};
use crate::accounts::Account;
use rouse_contract::{Hint, LaunchSpec, Observed, ObservedState};
use rouse_model::WorkerId;
use rouse_model::worker::{Phase, ProviderRef};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Between two looks at everything; an orphan must stand in two of them.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Most hints that wait to be followed; more wait at their provider.
const HINTS: usize = 1_024;

/// Sees to it that each account is looked after, until told to stop.
pub(super) async fn run(fleet: Arc<Fleet>, stop: CancellationToken) {
    let mut looked_after: HashSet<usize> = HashSet::new();
    loop {
        connect_configured(&fleet);
        for account in fleet.accounts.all() {
            // By the connection, not by the name: after a change of its options an account is there twice.
            let connection = Arc::as_ptr(&account.provider).cast::<()>() as usize;
            if looked_after.insert(connection) {
                listen(&fleet, &account, &stop);
                look_after(&fleet, account, &stop);
            }
        }
        let mut active = fleet.ctx.active.clone();
        active.mark_unchanged();
        tokio::select! {
            () = stop.cancelled() => return,
            _ = active.changed() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Each account by a task of its own: one that hangs holds up no other.
fn look_after(fleet: &Arc<Fleet>, account: Account, stop: &CancellationToken) {
    let (fleet, stop) = (Arc::clone(fleet), stop.clone());
    crate::supervisor::spawn("sweep", async move {
        let mut suspects = HashSet::new();
        loop {
            let swept = tokio::select! {
                () = stop.cancelled() => return,
                swept = sweep(&fleet, &account, &suspects) => swept,
            };
            match swept {
                Ok(seen) => {
                    suspects = seen;
                    if let Err(error) = collect(&fleet, &account).await {
                        tracing::debug!(
                            account = account.name,
                            error = crate::supervisor::chain(&error),
                            "images could not be collected"
                        );
                    }
                }
                // Nothing was seen of it: its suspects wait for the next look.
                Err(error) => tracing::debug!(
                    account = account.name,
                    error = crate::supervisor::chain(&error),
                    "an account could not be swept"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    });
}

/// By the rates of now. Accounts are connected when they are first used; leftovers of a former process must be found before that.
fn connect_configured(fleet: &Fleet) {
    let active = fleet.ctx.config();
    fleet.accounts.keep_rates(&active.config);
    for (name, _) in &active.config.providers {
        if let Err(error) = fleet.accounts.get(&active.config, name.as_str()) {
            tracing::warn!(
                provider = name.as_str(),
                error = crate::supervisor::chain(&error),
                "a provider cannot be used"
            );
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error(transparent)]
    Provider(#[from] rouse_contract::ProviderError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("read the workers")]
    Read(#[from] rouse_store::ReadError),
}

/// One look at everything; answers what has no record and was not suspected before.
pub(super) async fn sweep(
    fleet: &Arc<Fleet>,
    account: &Account,
    suspects: &HashSet<ProviderRef>,
) -> Result<HashSet<ProviderRef>, SweepError> {
    // Records first for ghosts, the provider first for orphans: what is made between the two is neither.
    let before = fleet.ctx.store.live_workers().await?;
    let there = account.provider.list().await?;
    let mut seen = HashSet::new();
    let after: HashSet<WorkerId> = fleet.ctx.store.live_workers().await?.iter().map(|w| w.id).collect();
    for observed in &there {
        if belongs(fleet, observed, &after) {
            continue;
        }
        if suspects.contains(&observed.at) {
            match &observed.tag {
                Some(tag) => {
                    tracing::info!(
                        account = account.name,
                        what = tag.name,
                        at = observed.at.0,
                        "reaping an orphan"
                    );
                }
                // What served workers that have all ended: nothing has gone wrong.
                None => tracing::debug!(account = account.name, at = observed.at.0, "tidying up"),
            }
            if let Err(error) = account.provider.terminate(&observed.at).await {
                // The others are not left for its sake.
                tracing::warn!(
                    account = account.name,
                    at = observed.at.0,
                    error = crate::supervisor::chain(&error),
                    "an orphan could not be reaped yet"
                );
                seen.insert(observed.at.clone());
            } else if observed.tag.is_some() {
                fleet.ctx.metrics.reaped(&account.name);
                fleet.offerings.freed(&account.name, Freed::Anything);
            }
        } else {
            seen.insert(observed.at.clone());
        }
    }
    let is_ended = |observed: &&Observed| matches!(observed.state, ObservedState::Ended { .. });
    let there: HashMap<&ProviderRef, &ObservedState> = there
        .iter()
        .filter(|observed| !is_ended(observed))
        .map(|observed| (&observed.at, &observed.state))
        .collect();
    for worker in before.iter().filter(|w| w.provider == account.name) {
        let (Phase::Booting { at, .. }
        | Phase::Up { at }
        | Phase::Parked { at, .. }
        | Phase::Resuming { at, .. }) = &worker.phase
        else {
            continue;
        };
        let lies = |state: &&ObservedState| matches!(state, ObservedState::Parked);
        let is_as_it_should = there.get(at).is_some_and(|state| worker.lies() || !lies(state));
        if !is_as_it_should {
            // Its driver asks the provider itself before it believes that.
            fleet.look_at(worker.id);
        }
    }
    Ok(seen)
}

/// Has the host forget images that it has too many of; not those that anybody waits for or runs in.
async fn collect(fleet: &Arc<Fleet>, account: &Account) -> Result<(), SweepError> {
    if !account.provider.collects() {
        return Ok(());
    }
    let mut wanted = HashSet::new();
    for request in fleet.ctx.store.queue(super::WINDOW).await? {
        wanted.extend(request.provision.images.into_values().map(|image| image.id));
    }
    for worker in fleet.ctx.store.live_workers().await? {
        let Ok(spec) = serde_json::from_str::<LaunchSpec>(&worker.spec) else { continue };
        wanted.extend(spec.image.into_iter().chain(spec.beside.into_values()).map(|image| image.id));
    }
    for gone in account.provider.collect(&wanted).await? {
        fleet.warm.forget(&account.name, &gone.known_as);
        let image = gone.known_as.first().cloned().unwrap_or_default();
        tracing::info!(account = account.name, image, bytes = gone.bytes, "an image was collected");
    }
    Ok(())
}

/// Whether something that a provider has is wanted by a live record of this store epoch, or serves all of them.
fn belongs(fleet: &Fleet, observed: &Observed, live: &HashSet<WorkerId>) -> bool {
    if matches!(observed.state, ObservedState::Resource { keep: true, .. }) {
        return true;
    }
    let Some(tag) = &observed.tag else { return false };
    let facts = fleet.ctx.store.facts();
    tag.store_epoch == facts.store_epoch && live.contains(&tag.worker)
}

/// Passes an account's hints on to the drivers.
fn listen(fleet: &Arc<Fleet>, account: &Account, stop: &CancellationToken) {
    let (tell, mut told) = mpsc::channel(HINTS);
    let (provider, stopped) = (Arc::clone(&account.provider), stop.clone());
    crate::supervisor::spawn("provider-hints", async move {
        loop {
            let hint = tokio::select! {
                () = stopped.cancelled() => return,
                hint = provider.next_hint() => hint,
            };
            // Nobody listens any more.
            if tell.send(hint).await.is_err() {
                return;
            }
        }
    });
    let (fleet, account) = (Arc::clone(fleet), account.clone());
    crate::supervisor::spawn("provider-hints-followed", async move {
        let mut hints = Vec::new();
        // All that came meanwhile are followed by one look at the record: a host that goes takes many instances along.
        while told.recv_many(&mut hints, HINTS).await > 0 {
            let everything = hints.contains(&Hint::Everything);
            if everything && fleet.offerings.freed(&account.name, Freed::Anything) {
                fleet.ctx.nudges.fleet.notify_one();
            }
            let instances: HashSet<ProviderRef> = hints
                .drain(..)
                .filter_map(|hint| match hint {
                    Hint::Instance(at) => Some(at),
                    Hint::Everything => None,
                })
                .collect();
            match fleet.ctx.store.live_workers().await {
                Ok(workers) => {
                    for worker in workers.iter().filter(|w| w.provider == account.name) {
                        let known = worker.provider_ref().is_some_and(|at| instances.contains(at));
                        if everything || known || matches!(worker.phase, Phase::Launching { .. }) {
                            fleet.look_at(worker.id);
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "hints could not be followed"),
            }
        }
    });
}
