//! `/secrets`: that they exist, and whom they are for; never their values, nor where on the master they are kept.

use super::AppState;
use super::auth::{Caller, Operator};
use super::error::ApiError;
use super::listing::Listing;
use crate::config::{Config, Reach, SecretSource};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A name for a value that no configuration holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    pub name: String,
    /// What keeps it: `file`, `env`, `credential` or `vault`.
    pub source: String,
    /// The builders whose trusted builds may see it. Neither these nor `projects`: all.
    pub builders: Vec<String>,
    /// The projects whose trusted builds may see it.
    pub projects: Vec<String>,
    /// The builders whose steps are given it.
    pub used_by: Vec<String>,
}

/// Secrets of the configuration in force, without their values; for a token of one project those that reach it
#[utoipa::path(get, path = "/secrets", tag = "secrets", security(("token" = ["operate"])),
    responses((status = OK, body = Listing<SecretView>)))]
async fn list(
    Operator(caller): Operator,
    State(state): State<AppState>,
) -> Result<Json<Listing<SecretView>>, ApiError> {
    let active = state.ctx.config();
    let config = &active.config;
    let seen = config.secrets.iter().filter(|(_, secret)| reaches(config, &secret.reach, &caller));
    let views =
        seen.map(|(name, secret)| view(config, name.as_str(), &secret.source, &secret.reach, &caller));
    Ok(Json(Listing::whole(views.collect())))
}

/// Whether a builder or project that the caller may see can see the secret.
fn reaches(config: &Config, reach: &Reach, caller: &Caller) -> bool {
    let Some(project) = &caller.project else { return true };
    reach.covers(project, None) || reach.builders.iter().any(|name| sees(config, caller, name.as_str()))
}

fn sees(config: &Config, caller: &Caller, builder: &str) -> bool {
    config.builders.iter().any(|(name, b)| name.as_str() == builder && caller.sees(b.project.as_str()))
}

fn view(config: &Config, name: &str, source: &SecretSource, reach: &Reach, caller: &Caller) -> SecretView {
    let source = match source {
        SecretSource::File(_) => "file",
        SecretSource::Env(_) => "env",
        SecretSource::Credential(_) => "credential",
        SecretSource::Vault(_) => "vault",
    };
    let builders = reach.builders.iter().map(|name| name.as_str());
    let projects = reach.projects.iter().map(|name| name.as_str());
    let users = config.builders.iter().filter(|(_, b)| {
        caller.sees(b.project.as_str()) && b.secrets.iter().any(|used| used.as_str() == name)
    });
    SecretView {
        name: name.to_owned(),
        source: source.to_owned(),
        builders: builders.filter(|name| sees(config, caller, name)).map(str::to_owned).collect(),
        projects: projects.filter(|name| caller.sees(name)).map(str::to_owned).collect(),
        used_by: users.map(|(name, _)| name.to_string()).collect(),
    }
}
