//! What providers have against what is on record: orphans are ended when seen twice, ghosts are told to their drivers. Also where hints
//! of providers come in.

use super::{Fleet, FleetError};
use crate::accounts::Account;
use rouse_contract::{Hint, Observed, ObservedState};
use rouse_model::worker::{Phase, ProviderRef, Worker};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks at everything; an orphan must stand in two of them.
const INTERVAL: Duration = Duration::from_secs(10);

/// Looks until told to stop.
pub(super) async fn run(fleet: Arc<Fleet>, stop: CancellationToken) {
    let mut suspects: HashSet<(String, ProviderRef)> = HashSet::new();
    let mut listened: HashMap<String, CancellationToken> = HashMap::new();
    loop {
        connect_configured(&fleet);
        let mut seen = HashSet::new();
        for account in fleet.accounts.all() {
            listened.entry(account.name.clone()).or_insert_with(|| listen(&fleet, &account, &stop));
            match sweep(&fleet, &account, &suspects, &mut seen).await {
                Ok(()) => {}
                // Nothing was seen of this account: its suspects wait for the next look.
                Err(error) => {
                    tracing::debug!(
                        account = account.name,
                        error = crate::supervisor::chain(&error),
                        "an account could not be swept"
                    );
                    seen.extend(suspects.iter().filter(|(name, _)| *name == account.name).cloned());
                }
            }
        }
        suspects = seen;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Accounts are connected when they are first used; leftovers of a former process must be found before that.
fn connect_configured(fleet: &Fleet) {
    let active = fleet.ctx.config();
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
enum SweepError {
    #[error(transparent)]
    Provider(#[from] rouse_contract::ProviderError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("read the workers")]
    Read(#[from] rouse_store::ReadError),
}

async fn sweep(
    fleet: &Arc<Fleet>,
    account: &Account,
    suspects: &HashSet<(String, ProviderRef)>,
    seen: &mut HashSet<(String, ProviderRef)>,
) -> Result<(), SweepError> {
    // Records first for ghosts, the provider first for orphans: what is made between the two is neither.
    let before = fleet.ctx.store.live_workers().await?;
    let there = account.provider.list().await?;
    let after = fleet.ctx.store.live_workers().await?;
    for observed in &there {
        if belongs(fleet, observed, &after) {
            continue;
        }
        let key = (account.name.clone(), observed.at.clone());
        if suspects.contains(&key) {
            let what = observed.tag.as_ref().map_or("a side resource", |t| t.name.as_str());
            tracing::info!(account = account.name, what, at = observed.at.0, "reaping an orphan");
            account.provider.terminate(&observed.at).await?;
        } else {
            seen.insert(key);
        }
    }
    for worker in before.iter().filter(|w| w.provider == account.name) {
        let (Phase::Booting { at, .. } | Phase::Up { at }) = &worker.phase else { continue };
        if !there.iter().any(|o| o.at == *at) {
            // Its driver asks the provider itself before it believes that.
            fleet.look_at(worker.id);
        }
    }
    Ok(())
}

/// Whether something that a provider has is wanted by a live record of this store epoch, or serves all of them.
fn belongs(fleet: &Fleet, observed: &Observed, live: &[Worker]) -> bool {
    if matches!(observed.state, ObservedState::Resource { keep: true, .. }) {
        return true;
    }
    let Some(tag) = &observed.tag else { return false };
    let facts = fleet.ctx.store.facts();
    tag.store_epoch == facts.store_epoch && live.iter().any(|w| w.id == tag.worker)
}

/// Passes an account's hints on to the drivers.
fn listen(fleet: &Arc<Fleet>, account: &Account, stop: &CancellationToken) -> CancellationToken {
    let token = stop.child_token();
    let (fleet, account, stopped) = (Arc::clone(fleet), account.clone(), token.clone());
    crate::supervisor::spawn("provider-hints", async move {
        loop {
            let hint = tokio::select! {
                () = stopped.cancelled() => return,
                hint = account.provider.next_hint() => hint,
            };
            match fleet.ctx.store.live_workers().await {
                Ok(workers) => {
                    for worker in workers.iter().filter(|w| w.provider == account.name) {
                        let meant = match &hint {
                            Hint::Instance(at) => {
                                worker.provider_ref() == Some(at)
                                    || matches!(worker.phase, Phase::Launching { .. })
                            }
                            Hint::Everything => true,
                        };
                        if meant {
                            fleet.look_at(worker.id);
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "a hint could not be followed"),
            }
        }
    });
    token
}
