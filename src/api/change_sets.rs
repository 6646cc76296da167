//! `/change-sets`: all commits of one look at one branch, which schedulers count as one.

use super::AppState;
use super::auth::Reader;
use super::changes::ChangeView;
use super::error::ApiError;
use super::extract::{Asked, At};
use super::listing::{Listing, page};
use super::moment::Moment;
use super::words::Trust;
use axum::Json;
use axum::extract::State;
use rouse_model::source::ChangeSet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// All commits of one look at one branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeSetView {
    pub id: i64,
    pub project: String,
    pub codebase: String,
    pub branch: String,
    /// The newest revision.
    pub revision: String,
    /// The head before it; null for a branch seen for the first time.
    pub base: Option<String>,
    pub trust: Trust,
    /// How many; may exceed the changes that are kept.
    pub commits: i64,
    pub seen: Moment,
    /// `poller app`, `api (token ci)`.
    pub noticed_by: String,
}

impl From<ChangeSet> for ChangeSetView {
    fn from(set: ChangeSet) -> Self {
        Self {
            id: set.id.0,
            project: set.project,
            codebase: set.codebase,
            branch: set.branch,
            revision: set.revision,
            base: set.base,
            trust: set.trust.into(),
            commits: set.commits,
            seen: set.seen_at.into(),
            noticed_by: set.noticed_by,
        }
    }
}

/// A change set with its commits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeSetDetail {
    #[serde(flatten)]
    pub change_set: ChangeSetView,
    /// Oldest first.
    pub changes: Vec<ChangeView>,
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

/// Change sets, newest first
#[utoipa::path(get, path = "/change-sets", tag = "changes", params(Query), responses((status = OK, body = Listing<ChangeSetView>)))]
async fn list(
    Reader(caller): Reader,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<Listing<ChangeSetView>>, ApiError> {
    let page = page(query.limit, query.before)?;
    let rows = state.ctx.store.change_sets(query.codebase.as_deref(), page).await?;
    Ok(Json(Listing::of(rows, page, |s| s.id.0, |s| caller.sees(&s.project).then(|| s.into()))))
}

/// A change set with its commits
#[utoipa::path(get, path = "/change-sets/{id}", tag = "changes", params(("id" = i64, Path)), responses((status = OK, body = ChangeSetDetail)))]
async fn show(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<ChangeSetDetail>, ApiError> {
    let what = format_args!("change set {id}").to_string();
    let set = state.ctx.store.change_set(id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&set.project, &what)?;
    let changes = state.ctx.store.changes_of(set.id).await?;
    Ok(Json(ChangeSetDetail {
        change_set: set.into(),
        changes: changes.into_iter().map(ChangeView::from).collect(),
    }))
}
