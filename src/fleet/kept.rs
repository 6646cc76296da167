//! What idle workers are to be that a pool keeps though nothing waits: whatever it was asked for last. Where nobody has asked it for any since this
//! master began, or the pool has become another one since, it is found out here: what the last request on record would get now, and where there is none,
//! what a builder would ask for with nothing given.

use super::ahead::{Foreseen, drafted, foresee};
use super::{Fleet, FleetError};
use crate::config::BuilderConfig;
use crate::ctx::Active;
use crate::requests::{self, draft};
use crate::specs::{self, Wish};
use rouse_model::buildset::Request;
use rouse_model::{BuildsetId, RequestId};
use rouse_store::Page;
use rouse_store::reads::RequestFilter;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Where it could not be found out, it is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// What is being found out, by pool, and since when.
pub(super) type Usual = HashMap<String, (Instant, Foreseen)>;

/// Looks after the pools that keep workers.
pub(super) async fn prepare(
    fleet: &Arc<Fleet>,
    places: &Arc<Semaphore>,
    usual: &mut Usual,
) -> Result<(), FleetError> {
    let active = fleet.ctx.config();
    for (name, pool) in active.config.pools.iter().filter(|(_, pool)| pool.keeps_some()) {
        let name = name.as_str();
        let latest = fleet.learned.latest(name);
        if latest.is_some_and(|class| fleet.specs.is_of(&class.spec_digest, pool)) {
            usual.remove(name);
            continue;
        }
        if let Some((since, class)) = usual.get(name) {
            match class.get() {
                Some(class) if fleet.specs.is_of(&class.spec_digest, pool) => {
                    fleet.learned.foresees(class.clone());
                    continue;
                }
                None if since.elapsed() < AGAIN => continue,
                _ => {}
            }
        }
        let class = match usual_wish(fleet, &active, name).await? {
            Some(wish) => foresee(fleet, places, &active, (name, pool), wish),
            None => Some(Foreseen::default()),
        };
        usual.extend(class.map(|class| (name.to_owned(), (Instant::now(), class))));
    }
    Ok(())
}

/// What a pool is likely to be asked for.
async fn usual_wish(fleet: &Fleet, active: &Active, pool: &str) -> Result<Option<Wish>, FleetError> {
    let mut last: Option<(&BuilderConfig, Request)> = None;
    for (name, builder) in &active.config.builders {
        let filter = RequestFilter { builder: Some(name.to_string()), ..RequestFilter::default() };
        let page = Page { before: None, limit: 1 };
        let Some(request) = fleet.ctx.store.requests(&filter, page).await?.pop() else { continue };
        let is_later = last.as_ref().is_none_or(|(_, last)| last.id < request.id);
        if is_later && may_have(active, builder, &request, pool) {
            last = Some((builder, request));
        }
    }
    if let Some((builder, request)) = last {
        return Ok(specs::wish(&fleet.ctx.store, builder, request).await?);
    }
    for (name, builder) in &active.config.builders {
        // Under no ids: it is never on record.
        let bare = requests::Wish::bare(name.as_str());
        let draft = draft(active, bare, BuildsetId(0), &[RequestId(0)], fleet.ctx.now());
        let Ok(draft) = draft else { continue };
        let Some(request) = draft.requests.first().filter(|one| may_have(active, builder, one, pool)) else {
            continue;
        };
        return drafted(fleet, builder, &draft, request).await.map(Some);
    }
    Ok(None)
}

fn may_have(active: &Active, builder: &BuilderConfig, request: &Request, pool: &str) -> bool {
    specs::candidates(&active.config, builder, request).iter().any(|(name, _)| *name == pool)
}
