//! The builds that a build's `trigger` steps have started.

use crate::api::words::{BuildResult, RequestState};
use rouse_model::BuildId;
use rouse_store::{ReadError, Store};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a step of a build has asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TriggeredView {
    /// The step's place in the plan, from 0.
    pub step: i64,
    pub buildset: i64,
    pub request: i64,
    pub builder: String,
    pub state: RequestState,
    /// Its last build; null where none has begun yet.
    pub build: Option<i64>,
    /// Null while it is not done.
    pub result: Option<BuildResult>,
}

/// All of one build, in the order in which they were asked for.
pub(super) async fn by(store: &Store, build: BuildId) -> Result<Vec<TriggeredView>, ReadError> {
    let mut views = Vec::new();
    for buildset in store.buildsets_of(build).await? {
        let step = buildset.origin.strip_prefix(&format!("trigger/{build}/"));
        let Some(step) = step.and_then(|rest| rest.split('/').next()?.parse().ok()) else { continue };
        for request in store.requests_of(buildset.id).await? {
            views.push(TriggeredView {
                step,
                buildset: buildset.id.0,
                request: request.id.0,
                builder: request.builder,
                state: request.state.into(),
                build: request.build.map(|build| build.0),
                result: request.result.map(BuildResult::from),
            });
        }
    }
    Ok(views)
}
