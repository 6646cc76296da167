//! `/master`: the one that answers.

use super::AppState;
use super::auth::{Admin, Reader};
use super::error::ApiError;
use super::extract::Sent;
use super::moment::Moment;
use super::words::Role;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(stop))
}

/// The master that answers, and who asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MasterView {
    pub id: i64,
    pub name: String,
    pub version: String,
    /// Random; made with the database.
    pub installation: String,
    /// Rises when a backup is restored.
    pub store_epoch: i64,
    /// Rises with each takeover.
    pub term: i64,
    pub started: Moment,
    pub now: Moment,
    /// Under which the installation is known.
    pub url: String,
    /// The config revision in force.
    pub config: i64,
    /// Requests that wait.
    pub queue: i64,
    /// The newest event's number: where a follower begins.
    pub newest_event: i64,
    /// Masters of this installation.
    pub masters: Vec<PeerView>,
    /// The token that asks.
    pub token: CallerView,
}

/// How a master is to end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// Another master takes its place, as a newer binary: agents wait for it with what they run, for so many seconds at most. Without this, for
    /// as long as they wait for any master that is silent.
    #[schema(minimum = 1, maximum = 86400)]
    pub handover_s: Option<u64>,
}

/// A master that ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StopView {
    pub name: String,
    /// Builds that go on on their workers.
    pub running: i64,
    /// How long agents wait for a master, seconds.
    pub waits_s: u64,
}

/// A master of the installation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    pub id: i64,
    pub name: String,
    pub machine: String,
    pub started: Moment,
    /// It ended on its own.
    pub stopped: bool,
    /// What it does for all: `poller app`, `matcher`.
    pub roles: Vec<String>,
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallerView {
    pub name: String,
    pub role: Role,
    /// The one project that it may see; null: all.
    pub project: Option<String>,
}

/// The master that answers: version, configuration, queue
#[utoipa::path(get, path = "/master", tag = "master", responses((status = OK, body = MasterView)))]
async fn show(Reader(caller): Reader, State(state): State<AppState>) -> Result<Json<MasterView>, ApiError> {
    let store = &state.ctx.store;
    let masters = store.masters().await?;
    let roles = store.roles().await?;
    let me = masters.iter().find(|m| m.id == state.ctx.me);
    let peers = masters.iter().map(|master| PeerView {
        id: master.id.0,
        name: master.name.clone(),
        machine: master.machine.clone(),
        started: master.started.into(),
        stopped: master.stopped,
        roles: roles
            .iter()
            .filter(|role| role.master == master.id)
            .map(|role| format!("{} {}", role.role, role.shard).trim_end().to_owned())
            .collect(),
    });
    Ok(Json(MasterView {
        id: state.ctx.me.0,
        name: me.map_or_else(String::new, |m| m.name.clone()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        installation: store.facts().installation.clone(),
        store_epoch: store.facts().store_epoch,
        term: me.map_or(0, |m| m.term),
        started: me.map_or_else(|| state.ctx.now(), |m| m.started).into(),
        now: state.ctx.now().into(),
        url: state.ctx.url.clone(),
        config: state.ctx.config().revision.0,
        queue: store.queue_length().await?,
        newest_event: store.newest_event().await?,
        masters: peers.collect(),
        token: CallerView { name: caller.name, role: caller.role, project: caller.project },
    }))
}

/// End this master; what runs goes on on its workers, for the next one
#[utoipa::path(post, path = "/master/stop", tag = "master", request_body = Stop, security(("token" = ["admin"])),
    responses((status = ACCEPTED, body = StopView)))]
async fn stop(
    Admin(caller): Admin,
    State(state): State<AppState>,
    Sent(how): Sent<Stop>,
) -> Result<(StatusCode, Json<StopView>), ApiError> {
    caller.must_see_all()?;
    if how.handover_s.is_some_and(|seconds| !(1..=86_400).contains(&seconds)) {
        return Err(ApiError::invalid("`handover_s` is from 1 to 86400"));
    }
    let ctx = &state.ctx;
    let running = ctx.store.open_builds().await?.iter().filter(|build| build.master == ctx.me).count();
    let masters = ctx.store.masters().await?;
    let name = masters.into_iter().find(|m| m.id == ctx.me).map_or_else(String::new, |m| m.name);
    let waits_s = match how.handover_s {
        Some(seconds) => {
            // Asked twice, the first word stands.
            let _ = ctx.away.set(Duration::from_secs(seconds));
            seconds
        }
        None => rouse_model::worker::DEAD_MAN.as_secs(),
    };
    tracing::info!(by = caller.signature(), running, waits_s, "stopping");
    // What is being answered is answered first.
    state.stopping.cancel();
    let running = i64::try_from(running).unwrap_or(i64::MAX);
    Ok((StatusCode::ACCEPTED, Json(StopView { name, running, waits_s })))
}
