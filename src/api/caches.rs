//! `/caches`: what builds have kept for those after them.

use super::AppState;
use super::auth::{Operator, Reader};
use super::error::ApiError;
use super::extract::At;
use super::listing::Listing;
use super::moment::Moment;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rouse_model::CacheId;
use rouse_model::cache::Cache;
use rouse_store::Batch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(remove))
}

/// What lies under one key of a project's cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CacheView {
    pub id: i64,
    pub project: String,
    /// As the builders of the project call it.
    pub name: String,
    /// May be empty.
    pub key: String,
    /// Packed.
    pub bytes: i64,
    /// The build that left it.
    pub build: i64,
    pub created: Moment,
    /// When a build last began with it, to the hour.
    pub used: Moment,
}

/// Caches that builds begin with, by project, name and key
#[utoipa::path(get, path = "/caches", tag = "caches", responses((status = OK, body = Listing<CacheView>)))]
async fn list(
    Reader(caller): Reader,
    State(state): State<AppState>,
) -> Result<Json<Listing<CacheView>>, ApiError> {
    let caches = state.ctx.store.caches().await?;
    let seen = caches.into_iter().filter(|cache| caller.sees(&cache.project));
    Ok(Json(Listing::whole(seen.map(view).collect())))
}

fn view(cache: Cache) -> CacheView {
    CacheView {
        id: cache.id.0,
        project: cache.project,
        name: cache.name,
        key: cache.key,
        bytes: cache.bytes,
        build: cache.build.0,
        created: cache.created.into(),
        used: cache.used.into(),
    }
}

/// Remove what lies under one key: the next build begins without it
#[utoipa::path(delete, path = "/caches/{id}", tag = "caches", params(("id" = i64, Path)), security(("token" = ["operate"])),
    responses((status = NO_CONTENT, description = "Nobody begins with it any more")))]
async fn remove(
    Operator(caller): Operator,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found(format_args!("cache {id}"));
    let found = state.ctx.store.cache(CacheId(id)).await?;
    let mut cache =
        found.filter(|cache| cache.replaced.is_none() && caller.sees(&cache.project)).ok_or_else(missing)?;
    // Its bytes go a while later: a build may be reading them.
    cache.replaced = Some(state.ctx.now());
    let mut batch = Batch::new("cache.remove");
    batch.update(&mut cache);
    match state.ctx.store.commit(batch).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) if error.is_conflict() => {
            Err(ApiError::conflict("a build has changed it just now").help("look at `GET /caches` again"))
        }
        Err(error) => Err(error.into()),
    }
}
