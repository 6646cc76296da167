//! The word of a person that requests may be built: on their rows, with who and why. From there they wait for a worker as all others do.

use super::request_event;
use crate::ctx::Ctx;
use rouse_model::Trust;
use rouse_model::approval::{Approving, Given, Unapprovable};
use rouse_model::buildset::Request;
use rouse_model::event::EventKind;
use rouse_store::{Batch, CommitError, ReadError};

/// What came of an approval.
#[derive(Debug)]
pub struct Approved {
    /// As it is now.
    pub request: Request,
    /// Those of its buildset that the same word was for.
    pub with: Vec<Request>,
}

/// Why a request was not approved.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    #[error("it cannot be approved: {0:?}")]
    Refused(Unapprovable),
    /// Whoever pushes there next would decide what is built.
    #[error("it has a branch of untrusted origin and no revision")]
    NoRevision,
    #[error("read its buildset")]
    Read(#[from] ReadError),
    #[error("record the approval")]
    Commit(#[from] CommitError),
}

/// Approves a request, and those of its buildset, which are of its project, that wait for the same word. All in one commit; one that was approved
/// before stays as it is.
///
/// # Errors
/// Where it needs no word, has ended, or does not say just what is to be built; a conflict where one of them has changed since it was read; else where the store cannot be reached.
pub async fn approve(ctx: &Ctx, mut request: Request, given: &Given) -> Result<Approved, ApproveError> {
    match request.approve(given.clone()) {
        Approving::AlreadySatisfied => return Ok(Approved { request, with: Vec::new() }),
        Approving::Conflict(why) => return Err(ApproveError::Refused(why)),
        Approving::Applied => {}
    }
    let stamps = ctx.store.stamps(request.buildset).await?;
    if stamps.iter().any(|stamp| stamp.trust == Trust::Untrusted && stamp.revision.is_none()) {
        return Err(ApproveError::NoRevision);
    }
    let mut with: Vec<Request> = ctx.store.requests_of(request.buildset).await?;
    with.retain_mut(|other| {
        other.id != request.id
            && request.is_approved_with(other)
            && other.approve(given.clone()) == Approving::Applied
    });
    let mut batch = Batch::new("request.approve");
    for approved in std::iter::once(&mut request).chain(&mut with) {
        batch.update(approved);
        batch.event(request_event(EventKind::RequestChanged, approved, given.at));
    }
    ctx.store.commit(batch).await?;
    ctx.nudges.fleet.notify_one();
    ctx.nudges.matching.notify_one();
    Ok(Approved { request, with })
}
