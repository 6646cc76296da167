//! `/buildsets`: requests that were made together, and what they build.

use super::AppState;
use super::auth::Reader;
use super::builds::{PropertyView, properties};
use super::error::ApiError;
use super::extract::{Asked, At};
use super::listing::{Listing, page};
use super::moment::Moment;
use super::requests::RequestView;
use super::words::{BuildResult, Trust};
use axum::Json;
use axum::extract::State;
use rouse_model::BuildsetId;
use rouse_model::buildset::Buildset;
use rouse_model::source::SourceStamp;
use rouse_store::{ReadError, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// What is built of one codebase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    pub codebase: String,
    pub branch: Option<String>,
    /// Null for what the branch is when the build prepares.
    pub revision: Option<String>,
    pub change_set: Option<i64>,
    pub trust: Trust,
}

impl From<&SourceStamp> for SourceView {
    fn from(stamp: &SourceStamp) -> Self {
        Self {
            codebase: stamp.codebase.clone(),
            branch: stamp.branch.clone(),
            revision: stamp.revision.clone(),
            change_set: stamp.change_set.map(|id| id.0),
            trust: stamp.trust.into(),
        }
    }
}

/// Requests that were made together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildsetView {
    pub id: i64,
    /// Unique: whoever repeats a cause finds its buildset made.
    pub origin: String,
    pub project: String,
    /// Null for one that was asked for directly.
    pub scheduler: Option<String>,
    /// For a person: `2 commits on main by alice`.
    pub reason: String,
    pub owner: Option<String>,
    pub trust: Trust,
    /// The build that triggered it.
    pub parent: Option<i64>,
    pub created: Moment,
    pub done: Option<Moment>,
    pub result: Option<BuildResult>,
    pub sources: Vec<SourceView>,
}

/// A buildset with its properties and requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildsetDetail {
    #[serde(flatten)]
    pub buildset: BuildsetView,
    pub properties: Vec<PropertyView>,
    pub requests: Vec<RequestView>,
}

/// What was made, or was there already under the same key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MadeView {
    pub buildset: i64,
    pub requests: Vec<MadeRequestView>,
    /// False where an earlier call with the same idempotency key has made it.
    pub fresh: bool,
}

/// A request of a buildset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MadeRequestView {
    pub id: i64,
    pub builder: String,
}

/// What of its buildset is shown with each request and build.
#[derive(Debug, Clone, Default)]
pub(super) struct Cause {
    pub reason: String,
    pub owner: Option<String>,
    pub scheduler: Option<String>,
    pub sources: Vec<SourceView>,
}

/// The causes of some buildsets, in two reads however many they are.
pub(super) async fn causes(
    store: &Store,
    ids: impl IntoIterator<Item = BuildsetId>,
) -> Result<BTreeMap<BuildsetId, Cause>, ReadError> {
    let mut ids: Vec<BuildsetId> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut causes: BTreeMap<BuildsetId, Cause> = BTreeMap::new();
    for buildset in store.buildsets_by_id(&ids).await? {
        let Buildset { id, reason, owner, scheduler, .. } = buildset;
        causes.insert(id, Cause { reason, owner, scheduler, sources: Vec::new() });
    }
    for stamp in store.stamps_by_buildset(&ids).await? {
        causes.entry(stamp.buildset).or_default().sources.push(SourceView::from(&stamp));
    }
    Ok(causes)
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Made by this scheduler.
    scheduler: Option<String>,
    /// At most so many, 1 to 500; 50 where it is not given.
    limit: Option<i64>,
    /// Only what is older than this id.
    before: Option<i64>,
}

/// Buildsets, newest first
#[utoipa::path(get, path = "/buildsets", tag = "buildsets", params(Query), responses((status = OK, body = Listing<BuildsetView>)))]
async fn list(
    Reader(caller): Reader,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<Listing<BuildsetView>>, ApiError> {
    let page = page(query.limit, query.before)?;
    let rows = state.ctx.store.buildsets(query.scheduler.as_deref(), page).await?;
    let mut causes = causes(&state.ctx.store, rows.iter().map(|b| b.id)).await?;
    Ok(Json(Listing::of(
        rows,
        page,
        |b| b.id.0,
        |b| {
            let sources = causes.remove(&b.id).unwrap_or_default().sources;
            caller.sees(&b.project).then(|| view(b, sources))
        },
    )))
}

/// A buildset with its properties and requests
#[utoipa::path(get, path = "/buildsets/{id}", tag = "buildsets", params(("id" = i64, Path)), responses((status = OK, body = BuildsetDetail)))]
async fn show(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<BuildsetDetail>, ApiError> {
    let store = &state.ctx.store;
    let what = format!("buildset {id}");
    let buildset = store.buildset(id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&buildset.project, &what)?;
    let stamps = store.stamps(buildset.id).await?;
    let sources: Vec<SourceView> = stamps.iter().map(SourceView::from).collect();
    let cause = Cause {
        reason: buildset.reason.clone(),
        owner: buildset.owner.clone(),
        scheduler: buildset.scheduler.clone(),
        sources: sources.clone(),
    };
    let requests = store.requests_of(buildset.id).await?;
    Ok(Json(BuildsetDetail {
        properties: properties(&buildset.properties),
        requests: requests.into_iter().map(|request| RequestView::of(request, cause.clone())).collect(),
        buildset: view(buildset, sources),
    }))
}

fn view(buildset: Buildset, sources: Vec<SourceView>) -> BuildsetView {
    BuildsetView {
        id: buildset.id.0,
        origin: buildset.origin,
        project: buildset.project,
        scheduler: buildset.scheduler,
        reason: buildset.reason,
        owner: buildset.owner,
        trust: buildset.trust.into(),
        parent: buildset.parent.map(|id| id.0),
        created: buildset.created.into(),
        done: buildset.done.map(Moment),
        result: buildset.result.map(BuildResult::from),
        sources,
    }
}
