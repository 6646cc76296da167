//! `/master`: the one that answers.

use super::AppState;
use super::auth::Reader;
use super::error::ApiError;
use super::moment::Moment;
use super::words::Role;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show))
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
