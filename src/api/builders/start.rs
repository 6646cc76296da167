//! Starting a build of a builder, with no scheduler in between.

use crate::api::AppState;
use crate::api::auth::Operator;
use crate::api::buildsets::MadeView;
use crate::api::by_hand::{Named, key, made, refused, sources};
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::config::PropertyName;
use crate::requests::{self, Asked};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What to start.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Start {
    /// Property → value.
    #[schema(value_type = Object)]
    properties: Map<String, Value>,
    /// What is not named is built at its default branch.
    sources: Vec<Named>,
    /// Why, for whoever looks at it later.
    reason: Option<String>,
    /// Higher goes first.
    priority: Option<i64>,
}

/// Start a build of a builder
///
/// With an `Idempotency-Key`, calls of the same token and key make one buildset.
#[utoipa::path(post, path = "/builders/{name}/build", tag = "builders", params(("name" = String, Path)), request_body = Start,
    security(("token" = ["operate"])), responses((status = CREATED, body = MadeView), (status = OK, body = MadeView, description = "Made before, under the same key")))]
pub(super) async fn start(
    Operator(caller): Operator,
    At(name): At<String>,
    headers: HeaderMap,
    State(state): State<AppState>,
    Sent(wanted): Sent<Start>,
) -> Result<(StatusCode, Json<MadeView>), ApiError> {
    let active = state.ctx.config();
    let builder = active.config.builders.get(name.as_str()).filter(|b| caller.sees(b.project.as_str()));
    let builder = builder.ok_or_else(|| super::unknown(&active.config, &name))?;
    let built: Vec<String> = builder.codebases.iter().map(ToString::to_string).collect();
    for property in wanted.properties.keys() {
        property.parse::<PropertyName>().map_err(|fault| {
            ApiError::invalid(format!("the property `{property}` is refused: {}", fault.message))
        })?;
    }
    let asked = Asked {
        answers: wanted.properties.into_iter().collect(),
        sources: sources(&built, wanted.sources)?,
        reason: wanted.reason,
        owner: caller.name.clone(),
        idempotency_key: key(&caller, &headers)?,
        priority: wanted.priority,
    };
    made(&state, requests::force::builder(&state.ctx, &name, asked).await.map_err(refused)?).await
}
