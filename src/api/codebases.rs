//! `/codebases`: what can change, and how its poller gets on.

use super::AppState;
use super::auth::{Operator, Reader};
use super::error::ApiError;
use super::extract::At;
use super::listing::Listing;
use super::moment::Moment;
use crate::config::CodebaseConfig;
use crate::ctx::Hint;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::source::CodebaseState;
use rouse_store::Batch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(poll))
}

/// A repository that builds check out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CodebaseView {
    pub name: String,
    pub project: String,
    /// Without a password, where one stands in it.
    pub git: String,
    /// Seconds between two looks; null where only hooks tell of changes.
    pub poll: Option<f64>,
    /// When a look last succeeded.
    pub looked: Option<Moment>,
    /// Why looks fail now.
    pub error: Option<String>,
    pub failing_since: Option<Moment>,
}

/// A codebase with its branches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CodebaseDetail {
    #[serde(flatten)]
    pub codebase: CodebaseView,
    pub heads: Vec<HeadView>,
}

/// Where a branch or tag was last seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HeadView {
    /// A tag stands as `refs/tags/NAME`.
    pub branch: String,
    /// Null once it was deleted.
    pub revision: Option<String>,
    pub seen: Moment,
}

/// Codebases with their pollers' state
#[utoipa::path(get, path = "/codebases", tag = "codebases", responses((status = OK, body = Listing<CodebaseView>)))]
async fn list(
    Reader(caller): Reader,
    State(state): State<AppState>,
) -> Result<Json<Listing<CodebaseView>>, ApiError> {
    let states = state.ctx.store.codebase_states().await?;
    let active = state.ctx.config();
    let items = active.config.codebases.iter().filter(|(_, c)| caller.sees(c.project.as_str())).map(
        |(name, config)| view(name.as_str(), config, states.iter().find(|s| s.codebase == name.as_str())),
    );
    Ok(Json(Listing::whole(items.collect())))
}

/// A codebase with its branches and tags
#[utoipa::path(get, path = "/codebases/{name}", tag = "codebases", params(("name" = String, Path)), responses((status = OK, body = CodebaseDetail)))]
async fn show(
    Reader(caller): Reader,
    At(name): At<String>,
    State(state): State<AppState>,
) -> Result<Json<CodebaseDetail>, ApiError> {
    let active = state.ctx.config();
    let config = active.config.codebases.get(name.as_str()).filter(|c| caller.sees(c.project.as_str()));
    let config = config.ok_or_else(|| ApiError::not_found(format_args!("codebase `{name}`")))?;
    let poller = state.ctx.store.codebase_state(&name).await?;
    let heads = state.ctx.store.heads(&name).await?;
    Ok(Json(CodebaseDetail {
        codebase: view(&name, config, poller.as_ref()),
        heads: heads
            .into_iter()
            .map(|head| HeadView { branch: head.branch, revision: head.revision, seen: head.seen_at.into() })
            .collect(),
    }))
}

/// Look at a codebase now, rather than at its next turn
#[utoipa::path(post, path = "/codebases/{name}/poll", tag = "codebases", params(("name" = String, Path)), security(("token" = ["operate"])),
    responses((status = ACCEPTED, description = "It will be looked at")))]
async fn poll(
    Operator(caller): Operator,
    At(name): At<String>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    let active = state.ctx.config();
    let config = active.config.codebases.get(name.as_str()).filter(|c| caller.sees(c.project.as_str()));
    if config.is_none() {
        return Err(ApiError::not_found(format_args!("codebase `{name}`")));
    }
    let project = config.map_or("", |c| c.project.as_str());
    let hint = Hint { by: caller.signature(), branch: None, revision: None };
    hurry(&state, &name, project, hint).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Passes a hint on to the codebase's poller, on whichever master that is.
pub(super) async fn hurry(
    state: &AppState,
    codebase: &str,
    project: &str,
    hint: Hint,
) -> Result<(), ApiError> {
    if state.ctx.roles.has_company() {
        let mut batch = Batch::new("codebase.hint");
        batch.event(NewEvent {
            kind: EventKind::CodebaseHint,
            version: 1,
            subject: format!("codebase/{codebase}"),
            project: project.to_owned(),
            at: state.ctx.now(),
            payload: serde_json::json!({
                "by": hint.by, "branch": hint.branch, "revision": hint.revision, "master": state.ctx.me,
            }),
        });
        state.ctx.store.commit(batch).await?;
    }
    state.ctx.hurry.say(codebase, hint);
    state.ctx.nudges.changes.notify_one();
    Ok(())
}

fn view(name: &str, config: &CodebaseConfig, state: Option<&CodebaseState>) -> CodebaseView {
    CodebaseView {
        name: name.to_owned(),
        project: config.project.to_string(),
        git: without_password(config.git.as_str()),
        poll: config.poll.map(|period| period.0.as_secs_f64()),
        looked: state.and_then(|s| s.looked).map(Moment),
        error: state.and_then(|s| s.error.clone()),
        failing_since: state.and_then(|s| s.failing_since).map(Moment),
    }
}

/// `https://alice:secret@host/x` → `https://alice@host/x`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(name, _)| name);
            format!("{scheme}://{user}@{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn passwords_do_not_leave() {
        assert_eq!(without_password("https://a:s%40@h.example:8443/x.git"), "https://a@h.example:8443/x.git");
        assert_eq!(without_password("https://h.example/a@b"), "https://h.example/a@b");
        assert_eq!(without_password("git@host:x.git"), "git@host:x.git");
        assert_eq!(without_password("/srv/x.git"), "/srv/x.git");
    }
}
