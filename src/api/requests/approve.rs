//! Approving by hand, and how that is shown.

use super::{RequestView, said, with_cause};
use crate::api::AppState;
use crate::api::auth::Operator;
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::api::moment::Moment;
use crate::api::words::ApprovalOf;
use crate::requests::{self, ApproveError, TRIES};
use axum::Json;
use axum::extract::State;
use rouse_model::approval::{Given, Unapprovable};
use rouse_model::buildset::Request;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The word of a person that a request needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// Which requests of its builder need it.
    pub of: ApprovalOf,
    /// When it is cancelled unless somebody approves it; null where somebody has, or where it ends anyway.
    pub until: Option<Moment>,
    /// Who approved it; null as long as nobody has.
    pub by: Option<String>,
    /// Why, where that was said.
    pub reason: Option<String>,
    pub at: Option<Moment>,
}

impl ApprovalView {
    /// `None` where the request needs nobody's word.
    pub(in crate::api) fn of(request: &Request) -> Option<Self> {
        let approval = request.approval.clone()?;
        let (by, reason, at) = match approval.given {
            Some(Given { by, reason, at }) => (Some(by), reason, Some(at.into())),
            None => (None, None, None),
        };
        let until = request.lapses.filter(|_| request.cancel.is_none()).map(Moment);
        Some(Self { of: approval.of.into(), until, by, reason, at })
    }
}

/// A request that was approved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovedView {
    #[serde(flatten)]
    pub request: RequestView,
    /// Further requests of its buildset that the same word was for.
    pub with: Vec<i64>,
}

/// Why something may be built.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Approve {
    /// For whoever looks at it later.
    reason: Option<String>,
}

/// Let a request be built that waits for a person
///
/// It goes on to where it waits for a worker, as untrusted as before. What waits for the same word in its buildset goes on with it: of a stranger's
/// push, all builders that ask for strangers; where a builder asks for all its requests, each is approved by itself. Approving twice is approving once.
/// Cancelling a request refuses it.
#[utoipa::path(post, path = "/requests/{id}/approve", tag = "requests", params(("id" = i64, Path)), request_body = Approve,
    security(("token" = ["operate"])), responses((status = OK, body = ApprovedView)))]
pub(super) async fn approve(
    Operator(caller): Operator,
    At(id): At<i64>,
    State(state): State<AppState>,
    Sent(approve): Sent<Approve>,
) -> Result<Json<ApprovedView>, ApiError> {
    let what = format!("request {id}");
    let given =
        Given { by: caller.signature(), reason: said(approve.reason.as_deref()), at: state.ctx.now() };
    for _ in 0..TRIES {
        let request = state.ctx.store.request(id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
        caller.must_see(&request.project, &what)?;
        match requests::approve(&state.ctx, request, &given).await {
            Ok(approved) => {
                let with = approved.with.iter().map(|request| request.id.0).collect();
                let request = with_cause(&state, approved.request).await?;
                return Ok(Json(ApprovedView { request, with }));
            }
            Err(ApproveError::Refused(why)) => return Err(refused(id, why)),
            Err(ApproveError::NoRevision) => {
                let message = format!(
                    "request {id} names an untrusted branch and no revision: whoever pushes there next would decide what is built"
                );
                return Err(ApiError::conflict(message)
                    .help("cancel it, and ask for the revision that you have looked at"));
            }
            Err(ApproveError::Commit(rouse_store::CommitError::Conflict { .. })) => {}
            Err(ApproveError::Commit(error)) => return Err(error.into()),
            Err(ApproveError::Read(error)) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict(format!("request {id} changes too fast")).help("try again"))
}

fn refused(id: i64, why: Unapprovable) -> ApiError {
    let (what, help) = match why {
        Unapprovable::NotAsked => (
            "waits for nobody's approval",
            "only requests of builders with `approval:` do; `rouse explain` says what it waits for",
        ),
        Unapprovable::Ended => {
            ("has ended", "see `rouse request show`; where a build has run, `rouse build rebuild` repeats it")
        }
        Unapprovable::Cancelled => ("is being cancelled", "see `rouse request show`"),
    };
    ApiError::conflict(format!("request {id} {what}")).help(help)
}
