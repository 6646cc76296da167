//! Starting builds through a scheduler, with answers to its questions.

use crate::api::AppState;
use crate::api::auth::Operator;
use crate::api::buildsets::MadeView;
use crate::api::by_hand::{Named, key, made, refused, sources};
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::requests::{self, Asked};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What to start, and the answers to the scheduler's questions.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    /// Parameter → answer, as JSON of its type or as text.
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// What is not named is built at its default branch.
    sources: Vec<Named>,
    /// Why, for whoever looks at it later.
    reason: Option<String>,
    /// Higher goes first. Default: the scheduler's.
    priority: Option<i64>,
}

/// Start builds through a scheduler
///
/// The scheduler must be one with `force:`. All answers are judged at once. With an `Idempotency-Key`, calls of the same token and key make one
/// buildset.
#[utoipa::path(post, path = "/schedulers/{name}/force", tag = "schedulers", params(("name" = String, Path)), request_body = Wanted,
    security(("token" = ["operate"])), responses((status = CREATED, body = MadeView), (status = OK, body = MadeView, description = "Made before, under the same key")))]
pub(super) async fn force(
    Operator(caller): Operator,
    At(name): At<String>,
    headers: HeaderMap,
    State(state): State<AppState>,
    Sent(wanted): Sent<Wanted>,
) -> Result<(StatusCode, Json<MadeView>), ApiError> {
    let active = state.ctx.config();
    let scheduler = active.config.schedulers.get(name.as_str()).filter(|s| caller.sees(s.project.as_str()));
    let scheduler = scheduler.ok_or_else(|| ApiError::not_found(format_args!("scheduler `{name}`")))?;
    let built: Vec<String> = scheduler.codebases.keys().map(ToString::to_string).collect();
    let asked = Asked {
        answers: wanted.parameters.into_iter().collect(),
        sources: sources(&built, wanted.sources)?,
        reason: wanted.reason,
        owner: caller.name.clone(),
        idempotency_key: key(&caller, &headers)?,
        priority: wanted.priority,
    };
    made(&state, requests::force::scheduler(&state.ctx, &name, asked).await.map_err(refused)?).await
}
