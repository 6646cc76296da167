//! `/changes`: commits seen, and word from outside that there may be more.

use super::AppState;
use super::auth::{Operator, Reader};
use super::error::ApiError;
use super::extract::{Asked, At, Sent};
use super::listing::{Listing, page};
use super::moment::Moment;
use super::words::Trust;
use crate::ctx::Hint;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rouse_model::source::Change;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, post)).routes(routes!(show))
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    pub id: i64,
    pub change_set: i64,
    pub codebase: String,
    pub branch: String,
    pub revision: String,
    pub author: String,
    /// The first line of the message.
    pub subject: String,
    /// The whole message.
    pub message: String,
    /// Paths touched, at most a few hundred.
    pub files: Vec<String>,
    /// The author's time, which proves nothing.
    pub authored: Moment,
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        Self {
            id: change.id.0,
            change_set: change.change_set.0,
            codebase: change.codebase,
            branch: change.branch,
            revision: change.revision,
            author: change.author,
            subject: change.message.lines().next().unwrap_or_default().to_owned(),
            message: change.message,
            files: change.files,
            authored: change.authored_at.into(),
        }
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Of this codebase alone.
    codebase: Option<String>,
    /// At most so many, 1 to 500; 50 where it is not given.
    limit: Option<i64>,
    /// Only what is older than this id.
    before: Option<i64>,
}

/// Commits, newest first
#[utoipa::path(get, path = "/changes", tag = "changes", params(Query), responses((status = OK, body = Listing<ChangeView>)))]
async fn list(
    Reader(caller): Reader,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<Listing<ChangeView>>, ApiError> {
    let page = page(query.limit, query.before)?;
    let rows = state.ctx.store.changes(query.codebase.as_deref(), page).await?;
    let active = state.ctx.config();
    let project = |codebase: &str| active.config.codebases.get(codebase).map_or("", |c| c.project.as_str());
    Ok(Json(Listing::of(rows, page, |c| c.id.0, |c| caller.sees(project(&c.codebase)).then(|| c.into()))))
}

/// One commit
#[utoipa::path(get, path = "/changes/{id}", tag = "changes", params(("id" = i64, Path)), responses((status = OK, body = ChangeView)))]
async fn show(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<ChangeView>, ApiError> {
    let absent = || ApiError::not_found(format_args!("change {id}"));
    let change = state.ctx.store.change(id.into()).await?.ok_or_else(absent)?;
    let set = state.ctx.store.change_set(change.change_set).await?.ok_or_else(absent)?;
    caller.must_see(&set.project, format_args!("change {id}"))?;
    Ok(Json(change.into()))
}

/// What a hook knows: it is believed in nothing but that a look is due.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Posted {
    codebase: String,
    /// Where something was pushed; a tag as `refs/tags/NAME`. All watched branches are looked at in any case; one that is not watched is looked
    /// at this once, and what is found there is untrusted.
    #[serde(default)]
    branch: Option<String>,
    /// The revision that was pushed, a full object id. Where it is not there yet, the repository is looked at again for about half a minute.
    #[serde(default)]
    revision: Option<String>,
}

/// What a posted change leads to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PostedView {
    pub codebase: String,
    /// The revision is the known head of the branch already: nothing new will be seen.
    pub known: bool,
    /// What is found on a branch that the codebase does not watch is untrusted.
    pub trust: Trust,
}

/// Say that a codebase has changed
///
/// The repository is looked at at once; changes are what is found there, never what is posted here.
#[utoipa::path(post, path = "/changes", tag = "changes", request_body = Posted, security(("token" = ["operate"])),
    responses((status = ACCEPTED, body = PostedView)))]
async fn post(
    Operator(caller): Operator,
    State(state): State<AppState>,
    Sent(posted): Sent<Posted>,
) -> Result<(StatusCode, Json<PostedView>), ApiError> {
    let active = state.ctx.config();
    let config =
        active.config.codebases.get(posted.codebase.as_str()).filter(|c| caller.sees(c.project.as_str()));
    let Some(config) = config else {
        let known: Vec<&str> = active.config.codebases.keys().map(|name| name.as_str()).collect();
        return Err(ApiError::invalid(format!("there is no codebase `{}`", posted.codebase))
            .help(format!("codebases: {}", known.join(", "))));
    };
    let trusted = posted.branch.as_deref().is_none_or(|branch| config.watches(branch));
    if let Some(branch) = &posted.branch {
        crate::sources::check_ref_name(branch)
            .map_err(|_| ApiError::invalid(format!("{branch:?} is no name of a branch")))?;
    }
    if let Some(revision) = &posted.revision {
        crate::sources::check_revision(revision).map_err(|_| {
            ApiError::invalid(format!("{revision:?} is no full object id")).help("git rev-parse prints it")
        })?;
    }
    let head = match &posted.branch {
        Some(branch) => state.ctx.store.head(&posted.codebase, branch).await?,
        None => None,
    };
    let known = posted.revision.is_some() && head.is_some_and(|head| head.revision == posted.revision);
    if !known {
        let (branch, revision) = (posted.branch, posted.revision);
        let hint = Hint { by: caller.signature(), branch, revision };
        crate::api::codebases::hurry(&state, &posted.codebase, config.project.as_str(), hint).await?;
    }
    let trust = if trusted { Trust::Trusted } else { Trust::Untrusted };
    Ok((StatusCode::ACCEPTED, Json(PostedView { codebase: posted.codebase, known, trust })))
}
