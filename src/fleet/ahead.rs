//! What is coming is prepared: its images are asked for before anybody waits for them, so that they are on a host by then, and where it is known when it
//! comes, its workers are launched so long before as they take.
//!
//! Nothing is kept of it but the image on the host. When the work comes, its buildset asks anew what its tags mean, and a host that has the layers already is
//! quick to say.

use super::breakers::May;
use super::kept::{self, Usual};
use super::{Fleet, FleetError, provisioning};
use crate::accounts::Account;
use crate::config::{BuilderConfig, PoolConfig};
use crate::ctx::{Active, Announced};
use crate::requests::{Draft, draft};
use crate::specs::{self, Wish};
use rouse_contract::{ResolveRequest, Resolved};
use rouse_model::buildset::{Request, RequestState};
use rouse_model::matching::ReuseClass;
use rouse_model::{BuildsetId, RequestId, scaling};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Before this master looks again whether it has the fleet's role, and what idle workers are to be.
const LOOK: Duration = Duration::from_secs(5);
/// Pulls ahead at one time: what is waited for comes first.
const AT_ONCE: usize = 2;

/// A builder of a buildset that is coming, by its origin.
type Key = (String, String);
/// The class of workers that something asks for, once that is known.
pub(super) type Foreseen = Arc<OnceLock<ReuseClass>>;
/// What has been prepared.
type Prepared = HashMap<Key, Foreseen>;

/// Work of which is known when it comes.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub origin: String,
    pub builder: String,
    pub class: ReuseClass,
    pub coming: scaling::Coming,
}

/// Prepares until told to stop.
pub(super) async fn run(fleet: Arc<Fleet>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut prepared = Prepared::new();
    loop {
        if let Err(error) = listen(&fleet, &places, &mut prepared, &stop).await {
            let error = crate::supervisor::chain(&error);
            tracing::debug!(error, "nothing is prepared for what is coming");
        }
        fleet.expect(Vec::new());
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
    prepared: &mut Prepared,
    stop: &CancellationToken,
) -> Result<(), FleetError> {
    let mut coming = fleet.ctx.coming.listen();
    let mut revision = fleet.ctx.config().revision;
    let mut usual = Usual::default();
    while fleet.ctx.roles.hold("fleet", "").await?.is_some() {
        kept::prepare(fleet, places, &mut usual).await?;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            said = coming.changed() => if said.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK) => continue,
        }
        let all = Arc::clone(&coming.borrow_and_update());
        let now = fleet.ctx.config().revision;
        if std::mem::replace(&mut revision, now) != now {
            // Pools may be others by now.
            prepared.clear();
        }
        *prepared = prepare_all(fleet, places, &all, prepared).await?;
        fleet.expect(expected(&all, prepared));
    }
    Ok(())
}

/// Answers what of all that is coming has been prepared.
async fn prepare_all(
    fleet: &Arc<Fleet>,
    places: &Arc<Semaphore>,
    all: &[Announced],
    before: &Prepared,
) -> Result<Prepared, FleetError> {
    let active = fleet.ctx.config();
    let mut prepared = Prepared::new();
    for Announced { wish, .. } in all {
        // Under no ids: it is never on record.
        let ids = vec![RequestId(0); wish.builders.len()];
        let Ok(draft) = draft(&active, wish.clone(), BuildsetId(0), &ids, fleet.ctx.now()) else { continue };
        for request in &draft.requests {
            // What waits for a person's word may never be built.
            if request.state != RequestState::Queued {
                continue;
            }
            let key = (draft.buildset.origin.clone(), request.builder.clone());
            let class = match before.get(&key) {
                Some(class) => Some(Arc::clone(class)),
                None => prepare(fleet, places, &active, &draft, request).await?,
            };
            prepared.extend(class.map(|class| (key, class)));
        }
    }
    Ok(prepared)
}

/// Asks for the images of one request that is not on record; `None` where there was no place for that yet.
async fn prepare(
    fleet: &Arc<Fleet>,
    places: &Arc<Semaphore>,
    active: &Active,
    draft: &Draft,
    request: &Request,
) -> Result<Option<Foreseen>, FleetError> {
    let Some(builder) = active.config.builders.get(request.builder.as_str()) else {
        return Ok(Some(Foreseen::default()));
    };
    let candidates = specs::candidates(&active.config, builder, request);
    let Some(pool) = candidates.first().copied() else { return Ok(Some(Foreseen::default())) };
    let wish = drafted(fleet, builder, draft, request).await?;
    let class = foresee(fleet, places, active, pool, wish);
    // Whether it will have its locks by then, nobody knows.
    Ok(class.map(|class| if builder.locks.is_empty() { class } else { Foreseen::default() }))
}

/// A request that is not on record, with its surroundings.
pub(super) async fn drafted(
    fleet: &Fleet,
    builder: &BuilderConfig,
    draft: &Draft,
    request: &Request,
) -> Result<Wish, FleetError> {
    let (buildset, stamps) = (draft.buildset.clone(), draft.stamps.clone());
    Ok(specs::wish_of(&fleet.ctx.store, builder, request.clone(), buildset, stamps).await?)
}

/// Asks for the images that a pool is to have for a wish, and finds out its class: that is never known where something is wrong with it. `None` where
/// there was no place for that yet.
pub(super) fn foresee(
    fleet: &Arc<Fleet>,
    places: &Arc<Semaphore>,
    active: &Active,
    (pool_name, pool): (&str, &PoolConfig),
    wish: Wish,
) -> Option<Foreseen> {
    let class = Foreseen::default();
    let Some(kind) = fleet.accounts.kind(&pool.kind).cloned() else { return Some(class) };
    // Whoever comes to build it says what is wrong.
    let Ok(mut wanted) = fleet.wanted(pool_name, pool, &*kind, &wish) else { return Some(class) };
    let place = Arc::clone(places).try_acquire_owned().ok()?;
    let asks = std::mem::take(&mut wanted.asks).into_iter();
    let asks = asks.map(|(service, ask)| fleet.whom(active, pool, &ask).map(|whom| (service, whom, ask)));
    let Ok(asks) = asks.collect::<Result<Vec<_>, _>>() else { return Some(class) };
    let (fleet, known, pool_name) = (Arc::clone(fleet), Arc::clone(&class), pool_name.to_owned());
    let pool = Arc::new(pool.clone());
    crate::supervisor::spawn("image ahead", async move {
        let _place = place;
        let mut waits = false;
        for (service, (account, key), ask) in asks {
            match resolve(&fleet, &account, &key, &ask).await {
                Some(resolved) => wanted.is(service, resolved),
                None => waits = true,
            }
        }
        if !waits {
            let digest = fleet.specs.put(wanted.spec(&pool_name, &wish.request), pool);
            let _ = known.set(provisioning::class(&wish.request, &pool_name, digest));
        }
    });
    Some(class)
}

async fn resolve(fleet: &Fleet, account: &Account, key: &str, ask: &ResolveRequest) -> Option<Resolved> {
    let at = account.name.as_str();
    if !matches!(fleet.breakers.may(at, key), May::Ask) {
        return None;
    }
    fleet.breakers.asks(at, key);
    match account.provider.resolve(ask).await {
        Ok(resolved) => {
            fleet.breakers.good(at, key);
            fleet.warm.note(at, &resolved.id);
            tracing::debug!(account = at, image = resolved.image, "an image is there ahead of its builds");
            Some(resolved)
        }
        Err(error) => {
            let error = fleet.breakers.failed(at, key, error);
            let error = crate::supervisor::chain(&error);
            tracing::debug!(account = at, error, "an image is not to be had ahead of its builds");
            None
        }
    }
}

/// What comes at a known time.
fn expected(all: &[Announced], prepared: &Prepared) -> Vec<Expected> {
    let mut expected = Vec::new();
    for Announced { wish, due, likely } in all {
        for builder in &wish.builders {
            let class = prepared.get(&(wish.origin.clone(), builder.clone())).and_then(|class| class.get());
            if let (Some(due), Some(class)) = (*due, class) {
                expected.push(Expected {
                    origin: wish.origin.clone(),
                    builder: builder.clone(),
                    class: class.clone(),
                    coming: scaling::Coming { due, likely: *likely, beside: 0.0 },
                });
            }
        }
    }
    expected.sort_by_key(|expected| expected.coming.due);
    expected
}
