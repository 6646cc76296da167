//! Why a pool has as many workers as it has, on the wire.

use super::CountsView;
use crate::api::AppState;
use crate::api::auth::Reader;
use crate::api::decisions::{self, DecisionView};
use crate::api::error::ApiError;
use crate::api::extract::{Asked, At};
use crate::api::listing::{Listing, page};
use crate::api::moment::Moment;
use crate::explain::Counts;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What the fleet came to for a pool, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolExplanationView {
    pub pool: String,
    pub min: u32,
    pub max: u32,
    pub counts: CountsView,
    pub decisions: Listing<DecisionView>,
    /// When the counts were true.
    pub checked_at: Moment,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// At most so many, 1 to 500; 50 where it is not given.
    limit: Option<i64>,
    /// Only what is older than this id.
    before: Option<i64>,
}

/// What the fleet came to for a pool, newest first
#[utoipa::path(get, path = "/pools/{name}/explain", tag = "pools", params(("name" = String, Path), Query),
    responses((status = OK, body = PoolExplanationView)))]
pub(super) async fn explain(
    Reader(caller): Reader,
    At(name): At<String>,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<PoolExplanationView>, ApiError> {
    let page = page(query.limit, query.before)?;
    let active = state.ctx.config();
    let config = active.config.pools.get(name.as_str());
    let config = config.ok_or_else(|| ApiError::not_found(format_args!("pool `{name}`")))?;
    let bounds = config.at(state.ctx.now());
    let store = &state.ctx.store;
    let workers = store.live_workers().await?;
    let counts = Counts::of(workers.iter().filter(|w| w.pool == name), &store.leases().await?);
    let rows = store.decisions(&name, page).await?;
    Ok(Json(PoolExplanationView {
        min: bounds.min,
        max: bounds.max,
        counts: counts.into(),
        decisions: Listing::of(rows, page, |d| d.id.0, |d| Some(decisions::view(&caller, d))),
        checked_at: state.ctx.now().into(),
        pool: name,
    }))
}
