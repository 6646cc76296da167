//! Building once more what a build has built.

use super::seen;
use crate::api::AppState;
use crate::api::auth::Operator;
use crate::api::buildsets::MadeView;
use crate::api::by_hand::{key, made, not_made};
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::api::requests::said;
use crate::requests::{self, Stamp, Wish};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use rouse_model::Trust;
use rouse_model::approval::Given;
use rouse_model::source::SourceStamp;
use rouse_store::Batch;
use serde::Deserialize;
use utoipa::ToSchema;

/// How to repeat a build.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rebuild {
    /// Why, for whoever looks at it later.
    reason: Option<String>,
    /// Higher goes first. Default: as the request of the build.
    priority: Option<i64>,
}

/// Build once more what a build has built: the same sources, merges, properties and images, under the configuration in force
#[utoipa::path(post, path = "/builds/{id}/rebuild", tag = "builds", params(("id" = i64, Path)), request_body = Rebuild,
    security(("token" = ["operate"])), responses((status = CREATED, body = MadeView), (status = OK, body = MadeView, description = "Made before, under the same key")))]
pub(super) async fn rebuild(
    Operator(caller): Operator,
    At(id): At<i64>,
    headers: HeaderMap,
    State(state): State<AppState>,
    Sent(wanted): Sent<Rebuild>,
) -> Result<(StatusCode, Json<MadeView>), ApiError> {
    let build = seen(&state, &caller, id).await?;
    if !state.ctx.config().config.builders.contains_key(build.builder.as_str()) {
        return Err(ApiError::conflict(format!(
            "builder `{}` is not in the configuration any more",
            build.builder
        )));
    }
    let store = &state.ctx.store;
    let what = format!("the buildset of build {id}");
    let buildset = store.buildset(build.buildset).await?.ok_or_else(|| ApiError::not_found(&what))?;
    let request = store.request(build.request).await?;
    let first = store.requests_of(build.buildset).await?.into_iter().next();
    let merges = first.map(|first| first.provision.merges).unwrap_or_default();
    let stamps = store.stamps(build.buildset).await?;
    let key = key(&caller, &headers)?.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    // Whoever may build it once more may approve it, and asks for just what was built, unless a stranger's branch alone is known of that.
    let is_known = |stamp: &SourceStamp| stamp.trust == Trust::Trusted || stamp.revision.is_some();
    let approved = stamps.iter().all(is_known).then(|| Given {
        by: caller.signature(),
        reason: said(wanted.reason.as_deref()),
        at: state.ctx.now(),
    });
    let stamps = stamps.into_iter().map(|stamp| Stamp {
        codebase: stamp.codebase,
        branch: stamp.branch,
        revision: stamp.revision,
        change_set: stamp.change_set,
        trust: stamp.trust,
    });
    let wish = Wish {
        origin: format!("api/{key}"),
        scheduler: None,
        reason: wanted.reason.unwrap_or_else(|| format!("build {id} once more, for {}", caller.name)),
        owner: Some(caller.name.clone()),
        properties: buildset.properties,
        builders: vec![build.builder],
        stamps: stamps.collect(),
        parent: buildset.parent,
        trust: buildset.trust,
        priority: wanted.priority.unwrap_or(request.as_ref().map_or(0, |r| r.priority)),
        merges,
        images: request.map(|r| r.provision.images).unwrap_or_default(),
        approved,
    };
    let active = state.ctx.config();
    let done =
        requests::make(&state.ctx, &active, wish, Batch::new("buildset.make")).await.map_err(not_made)?;
    made(&state, done).await
}
