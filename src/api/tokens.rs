//! `/tokens`: who may call. A token is shown once, when it is made.

use super::AppState;
use super::auth::{Admin, fingerprint, fresh_token};
use super::error::ApiError;
use super::extract::{At, Sent};
use super::listing::Listing;
use super::moment::Moment;
use super::words::Role;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rouse_model::config_revision::ApiToken;
use rouse_model::{TokenId, ids::check_name};
use rouse_store::Batch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, make)).routes(routes!(remove))
}

/// A token, without the token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    pub id: i64,
    pub name: String,
    /// Null for a role that this version does not know.
    pub role: Option<Role>,
    /// The one project that it may see; null: all.
    pub project: Option<String>,
    pub created: Moment,
}

impl From<&ApiToken> for TokenView {
    fn from(token: &ApiToken) -> Self {
        Self {
            id: token.id.0,
            name: token.name.clone(),
            role: token.role.parse().ok(),
            project: Some(token.project.clone()).filter(|project| !project.is_empty()),
            created: token.created.into(),
        }
    }
}

/// What a token is to allow.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// For whom or what; unique.
    name: String,
    role: Role,
    /// The one project that it may see; absent: all.
    #[serde(default)]
    project: Option<String>,
}

/// A fresh token: the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MadeTokenView {
    #[serde(flatten)]
    pub view: TokenView,
    /// What to send as `Authorization: Bearer …`.
    pub token: String,
}

/// Tokens, oldest first
#[utoipa::path(get, path = "/tokens", tag = "tokens", security(("token" = ["admin"])), responses((status = OK, body = Listing<TokenView>)))]
async fn list(
    Admin(caller): Admin,
    State(state): State<AppState>,
) -> Result<Json<Listing<TokenView>>, ApiError> {
    caller.must_see_all()?;
    let tokens = state.ctx.store.api_tokens().await?;
    Ok(Json(Listing::whole(tokens.iter().map(TokenView::from).collect())))
}

/// Make a token
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = Wanted, security(("token" = ["admin"])),
    responses((status = CREATED, body = MadeTokenView)))]
async fn make(
    Admin(caller): Admin,
    State(state): State<AppState>,
    Sent(wanted): Sent<Wanted>,
) -> Result<(StatusCode, Json<MadeTokenView>), ApiError> {
    caller.must_see_all()?;
    check_name(&wanted.name)
        .map_err(|why| ApiError::invalid(format!("the name `{}` is refused: {why}", wanted.name)))?;
    if let Some(project) = &wanted.project
        && !state.ctx.config().config.projects.contains_key(project.as_str())
    {
        return Err(ApiError::invalid(format!("there is no project `{project}`")));
    }
    let token = fresh_token();
    let record = ApiToken {
        id: state.ctx.store.next_id::<TokenId>().await?,
        name: wanted.name,
        sha256: fingerprint(&token),
        role: wanted.role.as_str().to_owned(),
        project: wanted.project.unwrap_or_default(),
        created: state.ctx.now(),
    };
    let mut batch = Batch::new("make_token");
    batch.insert(&record);
    match state.ctx.store.commit(batch).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(MadeTokenView { view: TokenView::from(&record), token }))),
        Err(error) if error.is_duplicate() => {
            Err(ApiError::conflict(format!("there is a token `{}` already", record.name)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Remove a token; whoever holds it is let in no more
#[utoipa::path(delete, path = "/tokens/{name}", tag = "tokens", params(("name" = String, Path)), security(("token" = ["admin"])),
    responses((status = NO_CONTENT, description = "It is gone")))]
async fn remove(
    Admin(caller): Admin,
    At(name): At<String>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    caller.must_see_all()?;
    let tokens = state.ctx.store.api_tokens().await?;
    let token = tokens.iter().find(|token| token.name == name);
    let token = token.ok_or_else(|| ApiError::not_found(format_args!("token `{name}`")))?;
    let admins = tokens.iter().filter(|t| t.role == Role::Admin.as_str() && t.project.is_empty()).count();
    if admins == 1 && token.role == Role::Admin.as_str() && token.project.is_empty() {
        return Err(
            ApiError::conflict("this is the last token of an administrator").help("make another one first")
        );
    }
    let mut batch = Batch::new("remove_token");
    batch.delete(token);
    match state.ctx.store.commit(batch).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) if error.is_conflict() => Err(ApiError::not_found(format_args!("token `{name}`"))),
        Err(error) => Err(error.into()),
    }
}
