//! `/projects`: tenants.

use super::AppState;
use super::auth::Reader;
use super::error::ApiError;
use super::listing::Listing;
use crate::config::Config;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    pub name: String,
    /// Its part of what several projects want at once.
    pub share: u32,
    pub codebases: Vec<String>,
    pub builders: Vec<String>,
    pub schedulers: Vec<String>,
}

/// Projects of the configuration in force
#[utoipa::path(get, path = "/projects", tag = "projects", responses((status = OK, body = Listing<ProjectView>)))]
async fn list(
    Reader(caller): Reader,
    State(state): State<AppState>,
) -> Result<Json<Listing<ProjectView>>, ApiError> {
    let active = state.ctx.config();
    let names = names(&active.config).into_iter().filter(|name| caller.sees(name));
    Ok(Json(Listing::whole(names.map(|name| view(&active.config, name)).collect())))
}

/// Declared ones, and those that something names: `default` needs no declaration.
fn names(config: &Config) -> BTreeSet<&str> {
    let declared = config.projects.keys().map(|name| name.as_str());
    let used = config
        .codebases
        .values()
        .map(|c| c.project.as_str())
        .chain(config.builders.values().map(|b| b.project.as_str()))
        .chain(config.schedulers.values().map(|s| s.project.as_str()));
    declared.chain(used).collect()
}

fn view(config: &Config, name: &str) -> ProjectView {
    ProjectView {
        name: name.to_owned(),
        share: config.projects.get(name).copied().unwrap_or_default().share,
        codebases: config
            .codebases
            .iter()
            .filter(|(_, c)| c.project.as_str() == name)
            .map(|(n, _)| n.to_string())
            .collect(),
        builders: config
            .builders
            .iter()
            .filter(|(_, b)| b.project.as_str() == name)
            .map(|(n, _)| n.to_string())
            .collect(),
        schedulers: config
            .schedulers
            .iter()
            .filter(|(_, s)| s.project.as_str() == name)
            .map(|(n, _)| n.to_string())
            .collect(),
    }
}
