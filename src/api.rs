//! The HTTP API under `/api/v1`: what the web UI, the CLI and everybody else use, and all that they can use.
//!
//! A folder or file for each resource. What leaves here is a view, converted by hand from rows, so that a table can change without the
//! API. It reads through the store and the services; what it writes are wishes (a cancel on a request, a drain on a worker) and new
//! buildsets, and then it nudges: it never does a loop's work. It names no database and no provider.

mod artifacts;
mod auth;
mod builders;
mod builds;
mod buildsets;
mod by_hand;
mod caches;
mod change_sets;
mod changes;
mod codebases;
mod config;
mod decisions;
mod error;
mod events;
mod extract;
mod health;
mod host;
mod listing;
mod locks;
mod logs;
mod machines;
mod master;
mod metrics;
mod moment;
mod pools;
mod projects;
mod requests;
mod schedulers;
mod secrets;
mod steps;
mod tested;
mod tokens;
mod words;
mod workers;

/// Views and envelopes, for those who read the API: the CLI.
pub mod views {
    pub use super::artifacts::ArtifactView;
    pub use super::builders::{BuilderDetail, BuilderView};
    pub use super::builds::{BuildDetail, BuildView, PhaseSeconds, PropertyView, TriggeredView};
    pub use super::buildsets::{BuildsetDetail, BuildsetView, MadeView, SourceView};
    pub use super::caches::CacheView;
    pub use super::change_sets::{ChangeSetDetail, ChangeSetView};
    pub use super::changes::ChangeView;
    pub use super::codebases::{CodebaseDetail, CodebaseView, HeadView};
    pub use super::config::{ConfigView, DiffView, FaultView, PlanView, ReloadView};
    pub use super::decisions::{DecisionView, EndedView, StandingView, SumView};
    pub use super::error::{ErrorBody, ErrorCode, ErrorEnvelope};
    pub use super::events::EventView;
    pub use super::listing::Listing;
    pub use super::locks::{HolderView, LockView};
    pub use super::logs::{LineView, LinesView, LogView};
    pub use super::machines::{EnrolmentView, MachineView};
    pub use super::master::{MasterView, StopView};
    pub use super::moment::Moment;
    pub use super::pools::{
        BudgetGrantView, OfferingView, PoolDetail, PoolExplanationView, PoolView, RefusedView, SpentView,
    };
    pub use super::projects::ProjectView;
    pub use super::requests::{ApprovalView, ApprovedView, ExplanationView, RequestView, StartView};
    pub use super::schedulers::{ParameterView, SchedulerView};
    pub use super::secrets::SecretView;
    pub use super::steps::StepView;
    pub use super::tested::{TestReportView, TestResultView, TestsView};
    pub use super::tokens::{MadeTokenView, TokenView};
    pub use super::words::*;
    pub use super::workers::{HeldView, WorkerDetail, WorkerExplanationView, WorkerView};
}

pub use auth::{FirstTokenError, TOKEN_FILE, ensure_first_token};

use crate::ctx::Ctx;
use axum::Router;
use error::{ApiError, ErrorCode};
use host::Hosts;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Where the API stands below a server's address.
pub const BASE: &str = "/api/v1";
/// The file in a state folder that says where this master's API answers, so that the CLI finds it.
pub const ADDRESS_FILE: &str = "api.url";

/// What the handlers share. Clones are handles.
#[derive(Clone)]
struct AppState {
    ctx: Arc<Ctx>,
    /// Under which names this server may be addressed.
    hosts: Hosts,
    /// Ends the streams, so that a stop does not wait for their readers.
    stopping: CancellationToken,
}

/// Why the API could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    #[error("make the first token")]
    FirstToken(#[from] FirstTokenError),
    #[error("write down where the API answers ({path})")]
    Address {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Rouse",
        description = "The API of a Rouse master. Every call but `/livez`, `/readyz` and `/api/v1/openapi.json` needs `Authorization: Bearer TOKEN`. \
                       Moments are RFC 3339 in UTC; spans are seconds. Lists are paged by key: pass a page's `next` as `before`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(error::ErrorEnvelope))
)]
struct Document;

/// All routes, with what the OpenAPI document says of them.
fn routes() -> OpenApiRouter<AppState> {
    let api = OpenApiRouter::new()
        .merge(master::routes())
        .merge(projects::routes())
        .merge(secrets::routes())
        .merge(tested::routes())
        .merge(codebases::routes())
        .merge(changes::routes())
        .merge(change_sets::routes())
        .merge(builders::routes())
        .merge(schedulers::routes())
        .merge(buildsets::routes())
        .merge(requests::routes())
        .merge(locks::routes())
        .merge(caches::routes())
        .merge(machines::routes())
        .merge(builds::routes())
        .merge(steps::routes())
        .merge(logs::routes())
        .merge(artifacts::routes())
        .merge(workers::routes())
        .merge(pools::routes())
        .merge(config::routes())
        .merge(events::routes())
        .merge(tokens::routes())
        .routes(routes!(health::openapi_document));
    OpenApiRouter::with_openapi(Document::openapi())
        .nest(BASE, api)
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::scrape))
}

/// The OpenAPI document, as it is served and as it is kept in the docs.
///
/// # Panics
/// Never: the document has string keys only.
#[must_use]
pub fn openapi_json() -> String {
    let mut text =
        serde_json::to_string_pretty(&openapi()).expect("an OpenAPI document has string keys only");
    text.push('\n');
    text
}

fn openapi() -> OpenApi {
    let mut document = routes().into_openapi();
    // The nested routes came after the derived part.
    for modifier in [&error::EveryOperationMayFail as &dyn utoipa::Modify, &auth::BearerTokens, &UniqueNames]
    {
        modifier.modify(&mut document);
    }
    document
}

/// Names each operation by its method and path, since those that write clients from the document want names that are unique.
struct UniqueNames;

impl utoipa::Modify for UniqueNames {
    fn modify(&self, document: &mut OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let words: Vec<&str> = path
                .strip_prefix(BASE)
                .unwrap_or(path)
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|word| !word.is_empty())
                .collect();
            let methods = [
                ("get", &mut item.get),
                ("put", &mut item.put),
                ("post", &mut item.post),
                ("delete", &mut item.delete),
                ("patch", &mut item.patch),
            ];
            for (method, operation) in methods {
                if let Some(operation) = operation {
                    operation.operation_id = Some(format!("{method}_{}", words.join("_")));
                }
            }
        }
    }
}

/// The whole API as one service, for a listener at `address`. Makes the first token where there is none, and leaves word in the state folder
/// where the API answers. Its streams end when `stopping` is cancelled.
///
/// # Errors
/// Where the state folder or the store cannot be written.
pub async fn router(
    ctx: Arc<Ctx>,
    address: SocketAddr,
    stopping: CancellationToken,
) -> Result<Router, SetUpError> {
    if let Some(path) = ensure_first_token(&ctx.store, &ctx.state, ctx.now()).await? {
        tracing::info!(path = %path.display(), "the first token, an administrator's, lies in this file");
    }
    write_address(&ctx.state, address)
        .map_err(|source| SetUpError::Address { path: ctx.state.join(ADDRESS_FILE), source })?;
    Ok(assemble(AppState { ctx, hosts: Hosts::for_listener(address), stopping }))
}

fn assemble(state: AppState) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(async || ApiError::new(ErrorCode::NotFound, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            ApiError::new(ErrorCode::MethodNotAllowed, "this path does not take this method")
        })
        .layer(axum::middleware::from_fn_with_state(state.clone(), host::check))
        .with_state(state)
}

/// A listener on all addresses is reached by loopback from here.
fn write_address(state: &Path, address: SocketAddr) -> std::io::Result<()> {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    let half = state.join(format!("{ADDRESS_FILE}.new"));
    std::fs::write(&half, format!("http://{address}\n"))?;
    std::fs::rename(half, state.join(ADDRESS_FILE))
}

#[cfg(test)]
pub(crate) mod tests;
