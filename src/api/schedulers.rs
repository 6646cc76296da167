//! `/schedulers`: what makes buildsets, and the one way to make one by hand with parameters.

mod force;

use super::AppState;
use super::auth::Reader;
use super::error::ApiError;
use super::extract::At;
use super::listing::Listing;
use super::words::TriggerKind;
use crate::config::{ParameterConfig, ParameterKind, SchedulerConfig, Trigger};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(force::force))
}

/// What makes buildsets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SchedulerView {
    pub name: String,
    pub project: String,
    pub kind: TriggerKind,
    pub builders: Vec<String>,
    pub priority: i64,
    /// What is asked of whoever forces it; empty for others.
    pub parameters: Vec<ParameterView>,
    /// What sets it off, as it was configured.
    #[schema(value_type = Object)]
    pub trigger: Value,
}

/// One question to the person who starts a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ParameterView {
    /// The property that the answer becomes.
    pub name: String,
    /// `string`, `text`, `int`, `bool`, `choice`.
    #[serde(rename = "type")]
    pub kind: String,
    pub label: Option<String>,
    pub help: Option<String>,
    pub required: bool,
    /// The answer of whoever gives none; null where one is required.
    pub default: Option<Value>,
    /// All of the answer must match, for texts.
    pub pattern: Option<String>,
    pub min: Option<i64>,
    pub max: Option<i64>,
    /// What there is to choose from; empty for other types.
    pub choices: Vec<String>,
}

/// Schedulers of the configuration in force
#[utoipa::path(get, path = "/schedulers", tag = "schedulers", responses((status = OK, body = Listing<SchedulerView>)))]
async fn list(
    Reader(caller): Reader,
    State(state): State<AppState>,
) -> Result<Json<Listing<SchedulerView>>, ApiError> {
    let active = state.ctx.config();
    let mine = active.config.schedulers.iter().filter(|(_, s)| caller.sees(s.project.as_str()));
    Ok(Json(Listing::whole(mine.map(|(name, config)| view(name.as_str(), config)).collect())))
}

/// One scheduler
#[utoipa::path(get, path = "/schedulers/{name}", tag = "schedulers", params(("name" = String, Path)), responses((status = OK, body = SchedulerView)))]
async fn show(
    Reader(caller): Reader,
    At(name): At<String>,
    State(state): State<AppState>,
) -> Result<Json<SchedulerView>, ApiError> {
    let active = state.ctx.config();
    let config = active.config.schedulers.get(name.as_str()).filter(|s| caller.sees(s.project.as_str()));
    let config = config.ok_or_else(|| ApiError::not_found(format_args!("scheduler `{name}`")))?;
    Ok(Json(view(&name, config)))
}

fn view(name: &str, config: &SchedulerConfig) -> SchedulerView {
    let kind = match &config.trigger {
        Trigger::Changes(_) => TriggerKind::Changes,
        Trigger::Every(_) => TriggerKind::Every,
        Trigger::Cron(_) => TriggerKind::Cron,
        Trigger::After(_) => TriggerKind::After,
        Trigger::Force(_) => TriggerKind::Force,
    };
    let parameters = match &config.trigger {
        Trigger::Force(force) => {
            force.parameters.iter().map(|(name, config)| parameter(name.as_str(), config)).collect()
        }
        _ => Vec::new(),
    };
    SchedulerView {
        name: name.to_owned(),
        project: config.project.to_string(),
        kind,
        builders: config.builders.iter().map(ToString::to_string).collect(),
        priority: config.priority,
        parameters,
        trigger: serde_json::to_value(&config.trigger).unwrap_or_default(),
    }
}

fn parameter(name: &str, config: &ParameterConfig) -> ParameterView {
    let mut view = ParameterView {
        name: name.to_owned(),
        kind: String::new(),
        label: config.label.clone(),
        help: config.help.clone(),
        required: config.required,
        default: config.default.clone(),
        pattern: None,
        min: None,
        max: None,
        choices: Vec::new(),
    };
    view.kind = match &config.kind {
        ParameterKind::String { pattern } => {
            view.pattern = pattern.as_ref().map(ToString::to_string);
            "string"
        }
        ParameterKind::Text { pattern } => {
            view.pattern = pattern.as_ref().map(ToString::to_string);
            "text"
        }
        ParameterKind::Int { min, max } => {
            (view.min, view.max) = (*min, *max);
            "int"
        }
        ParameterKind::Bool => "bool",
        ParameterKind::Choice { of } => {
            view.choices.clone_from(of);
            "choice"
        }
    }
    .to_owned();
    view
}
