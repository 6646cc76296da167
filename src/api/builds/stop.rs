//! Cancelling a build: a wish on its row, which its driver honours.

use super::{BuildView, seen, views};
use crate::api::AppState;
use crate::api::auth::Operator;
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::api::requests::{Cancel, wish};
use crate::requests::TRIES;
use crate::switchboard::ToDriver;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rouse_store::Batch;

/// Cancel a build
///
/// Answers at once; the build ends when its command has stopped and its steps marked `always` have run. Its request ends with it.
/// Cancelling twice is cancelling once.
#[utoipa::path(post, path = "/builds/{id}/cancel", tag = "builds", params(("id" = i64, Path)), request_body = Cancel,
    security(("token" = ["operate"])), responses((status = ACCEPTED, body = BuildView)))]
pub(super) async fn cancel(
    Operator(caller): Operator,
    At(id): At<i64>,
    State(state): State<AppState>,
    Sent(cancel): Sent<Cancel>,
) -> Result<(StatusCode, Json<BuildView>), ApiError> {
    let wish = wish(&caller, &cancel);
    for _ in 0..TRIES {
        let mut build = seen(&state, &caller, id).await?;
        if build.finished.is_some() {
            return Err(ApiError::conflict(format!("build {id} has ended")).help("see `rouse build show`"));
        }
        if build.cancel.is_none() {
            build.cancel = Some(wish.clone());
            let mut batch = Batch::new("cancel_build");
            batch.update(&mut build);
            match state.ctx.store.commit(batch).await {
                Ok(()) => {}
                Err(error) if error.is_conflict() => continue,
                Err(error) => return Err(error.into()),
            }
            state.ctx.switchboard.to_driver(build.id, ToDriver::Look);
            state.ctx.nudges.builds.notify_one();
        }
        let view = views(&state.ctx, vec![build]).await?.pop();
        let view = view.ok_or_else(|| ApiError::not_found(format_args!("build {id}")))?;
        return Ok((StatusCode::ACCEPTED, Json(view)));
    }
    Err(ApiError::conflict(format!("build {id} changes too fast")).help("try again"))
}
