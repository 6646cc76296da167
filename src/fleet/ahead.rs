//! Images of what is coming: asked for before anybody waits for them, so that they are on a host by then.
//!
//! Nothing is kept of it but the image on the host. When the work comes, its buildset asks anew what its tags mean, and a host that has the layers already is
//! quick to say.

use super::breakers::May;
use super::{Fleet, FleetError};
use crate::accounts::Account;
use crate::ctx::{Active, Announced};
use crate::requests::{Draft, draft};
use crate::specs;
use rouse_contract::ResolveRequest;
use rouse_model::buildset::{Request, RequestState};
use rouse_model::{BuildsetId, RequestId};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Before this master looks again whether it has the fleet's role.
const LOOK: Duration = Duration::from_secs(5);
/// Pulls ahead at one time: what is waited for comes first.
const AT_ONCE: usize = 2;

/// A builder of a buildset that is coming, by its origin.
type Key = (String, String);

/// Prepares until told to stop.
pub(super) async fn run(fleet: Arc<Fleet>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut prepared: HashSet<Key> = HashSet::new();
    loop {
        if let Err(error) = listen(&fleet, &places, &mut prepared, &stop).await {
            let error = crate::supervisor::chain(&error);
            tracing::debug!(error, "nothing is prepared for what is coming");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// For as long as this master has the fleet's role.
async fn listen(
    fleet: &Arc<Fleet>,
    places: &Arc<Semaphore>,
    prepared: &mut HashSet<Key>,
    stop: &CancellationToken,
) -> Result<(), FleetError> {
    let mut coming = fleet.ctx.coming.listen();
    while fleet.ctx.roles.hold("fleet", "").await?.is_some() {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            said = coming.changed() => if said.is_err() { return Ok(()) },
        }
        let all = Arc::clone(&coming.borrow_and_update());
        *prepared = prepare_all(fleet, places, &all, prepared).await?;
    }
    Ok(())
}

/// Answers what of all that is coming has been prepared.
async fn prepare_all(
    fleet: &Arc<Fleet>,
    places: &Arc<Semaphore>,
    all: &[Announced],
    before: &HashSet<Key>,
) -> Result<HashSet<Key>, FleetError> {
    let active = fleet.ctx.config();
    let mut prepared = HashSet::new();
    for Announced { wish, .. } in all {
        // Under no ids: it is never on record.
        let ids = vec![RequestId(0); wish.builders.len()];
        let Ok(draft) = draft(&active, wish.clone(), BuildsetId(0), &ids, fleet.ctx.now()) else { continue };
        for request in &draft.requests {
            let key = (draft.buildset.origin.clone(), request.builder.clone());
            // What waits for a person's word may never be built.
            let is_new = request.state == RequestState::Queued && !before.contains(&key);
            if !is_new || prepare(fleet, places, &active, &draft, request).await? {
                prepared.insert(key);
            }
        }
    }
    Ok(prepared)
}

/// Asks for the images of one request; `false` where there was no place for that yet.
async fn prepare(
    fleet: &Arc<Fleet>,
    places: &Arc<Semaphore>,
    active: &Active,
    draft: &Draft,
    request: &Request,
) -> Result<bool, FleetError> {
    let Some(builder) = active.config.builders.get(request.builder.as_str()) else { return Ok(true) };
    let Some((pool_name, pool)) = specs::candidates(&active.config, builder, request).first().copied() else {
        return Ok(true);
    };
    let Some(kind) = fleet.accounts.kind(&pool.kind).cloned() else { return Ok(true) };
    let (buildset, stamps) = (draft.buildset.clone(), draft.stamps.clone());
    let wish = specs::wish_of(&fleet.ctx.store, builder, request.clone(), buildset, stamps).await?;
    // Whoever comes to build it says what is wrong.
    let Ok(wanted) = fleet.wanted(pool_name, pool, &*kind, &wish) else { return Ok(true) };
    if wanted.asks.is_empty() {
        return Ok(true);
    }
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return Ok(false) };
    let asks = wanted.asks.into_iter().map(|(_, ask)| ask);
    let asks = asks.filter_map(|ask| fleet.whom(active, pool, &ask).ok().map(|whom| (whom, ask))).collect();
    crate::supervisor::spawn("image ahead", ask_all(Arc::clone(fleet), asks, place));
    Ok(true)
}

async fn ask_all(
    fleet: Arc<Fleet>,
    asks: Vec<((Account, String), ResolveRequest)>,
    _place: OwnedSemaphorePermit,
) {
    for ((account, key), ask) in asks {
        let at = account.name.as_str();
        if !matches!(fleet.breakers.may(at, &key), May::Ask) {
            continue;
        }
        fleet.breakers.asks(at, &key);
        match account.provider.resolve(&ask).await {
            Ok(resolved) => {
                fleet.breakers.good(at, &key);
                fleet.warm.note(at, &resolved.id);
                tracing::debug!(
                    account = at,
                    image = resolved.image,
                    "an image is there ahead of its builds"
                );
            }
            Err(error) => {
                let error = fleet.breakers.failed(at, &key, error);
                let error = crate::supervisor::chain(&error);
                tracing::debug!(account = at, error, "an image is not to be had ahead of its builds");
            }
        }
    }
}
