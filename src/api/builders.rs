//! `/builders`: recipes of the configuration in force.

use super::AppState;
use super::auth::Reader;
use super::builds::{BuildView, views};
use super::error::ApiError;
use super::extract::{Asked, At};
use super::listing::Listing;
use super::words::Trust;
use crate::config::BuilderConfig;
use axum::Json;
use axum::extract::State;
use rouse_model::matching::{Offer, Requirement, fits};
use rouse_store::Page;
use rouse_store::reads::{BuildFilter, RequestFilter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

mod start;

/// Builds that are shown with each builder of the list.
const RECENT: i64 = 5;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(start::start))
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuilderView {
    pub name: String,
    pub project: String,
    /// The pools that it names; empty: any that accepts it.
    pub pools: Vec<String>,
    pub codebases: Vec<String>,
    pub schedulers: Vec<String>,
    /// Names of its steps.
    pub steps: Vec<String>,
    /// Newest first, at most five.
    pub recent: Vec<BuildView>,
}

/// A recipe with what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuilderDetail {
    #[serde(flatten)]
    pub builder: BuilderView,
    /// Its plan: steps, environment, limits.
    #[schema(value_type = Object)]
    pub plan: Value,
    /// Properties that its builds start with.
    #[schema(value_type = Object)]
    pub properties: Value,
    /// How each pool stands to a build of it.
    pub matches: Vec<MatchView>,
    /// Requests of it that wait.
    pub waiting: usize,
}

/// Whether a pool can run builds of a builder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MatchView {
    pub pool: String,
    pub trust: Trust,
    pub fits: bool,
    /// Why not.
    pub why: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    project: Option<String>,
}

/// Builders with their latest builds
#[utoipa::path(get, path = "/builders", tag = "builders", params(Query), responses((status = OK, body = Listing<BuilderView>)))]
async fn list(
    Reader(caller): Reader,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<Listing<BuilderView>>, ApiError> {
    let active = state.ctx.config();
    let project = caller.narrow(query.project);
    let mut items = Vec::new();
    for (name, config) in &active.config.builders {
        if project.as_deref().is_none_or(|wanted| config.project.as_str() == wanted) {
            items.push(view(&state, name.as_str(), config).await?);
        }
    }
    Ok(Json(Listing::whole(items)))
}

/// A builder with its plan and the pools that would take it
#[utoipa::path(get, path = "/builders/{name}", tag = "builders", params(("name" = String, Path)), responses((status = OK, body = BuilderDetail)))]
async fn show(
    Reader(caller): Reader,
    At(name): At<String>,
    State(state): State<AppState>,
) -> Result<Json<BuilderDetail>, ApiError> {
    let active = state.ctx.config();
    let config = active.config.builders.get(name.as_str()).filter(|b| caller.sees(b.project.as_str()));
    let config = config.ok_or_else(|| unknown(&active.config, &name))?;
    let queued = RequestFilter {
        builder: Some(name.clone()),
        state: Some(rouse_model::buildset::RequestState::Queued),
        ..RequestFilter::default()
    };
    Ok(Json(BuilderDetail {
        builder: view(&state, &name, config).await?,
        plan: serde_json::to_value(&config.plan).unwrap_or_default(),
        properties: serde_json::to_value(&config.properties).unwrap_or_default(),
        matches: matches(&active.config, config),
        waiting: state.ctx.store.requests(&queued, Page { before: None, limit: 500 }).await?.len(),
    }))
}

async fn view(state: &AppState, name: &str, config: &BuilderConfig) -> Result<BuilderView, ApiError> {
    let filter = BuildFilter { builder: Some(name.to_owned()), ..BuildFilter::default() };
    let recent = state.ctx.store.builds(&filter, Page { before: None, limit: RECENT }).await?;
    let active = state.ctx.config();
    let schedulers =
        active.config.schedulers.iter().filter(|(_, s)| s.builders.iter().any(|b| b.as_str() == name));
    Ok(BuilderView {
        name: name.to_owned(),
        project: config.project.to_string(),
        pools: config.pools.iter().map(ToString::to_string).collect(),
        codebases: config.codebases.iter().map(ToString::to_string).collect(),
        schedulers: schedulers.map(|(name, _)| name.to_string()).collect(),
        steps: config.plan.steps.iter().map(|step| step.name.clone()).collect(),
        recent: views(&state.ctx, recent).await?,
    })
}

/// There is no such builder; where its entry has a `matrix`, which there are.
fn unknown(config: &crate::config::Config, name: &str) -> ApiError {
    let error = ApiError::not_found(format_args!("builder `{name}`"));
    match config.of_matrix(name).as_slice() {
        [] => error,
        several => error.help(format!("it has a matrix; name one of: {}", several.join("; "))),
    }
}

/// By the very judgement that matches them.
fn matches(config: &crate::config::Config, builder: &BuilderConfig) -> Vec<MatchView> {
    let named: Vec<String> = builder.pools.iter().map(ToString::to_string).collect();
    let mut all = Vec::new();
    for (pool, offer) in &config.pools {
        for trust in [rouse_model::Trust::Trusted, rouse_model::Trust::Untrusted] {
            let wish = Requirement { pools: &named, project: builder.project.as_str(), trust };
            let why = fits(&wish, &Offer { pool: pool.as_str(), accepts: offer.accepts }).err();
            let why = why.map(|misfit| misfit.sentence().to_owned());
            all.push(MatchView { pool: pool.to_string(), trust: trust.into(), fits: why.is_none(), why });
        }
    }
    all
}
