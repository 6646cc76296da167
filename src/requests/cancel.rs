//! The wish to end a request: on its row, and on its build's where it has one; who holds them honours it.

use super::request_event;
use crate::ctx::Ctx;
use crate::switchboard::ToDriver;
use rouse_model::Timestamp;
use rouse_model::buildset::{Request, RequestState};
use rouse_model::event::EventKind;
use rouse_store::{Batch, CommitError, ReadError};

/// How often a lost race is run again.
pub const TRIES: usize = 20;

/// The request with the wish on record; it stays as it is where somebody else was first.
///
/// # Errors
/// A conflict where the request, or its build, has changed since it was read; else where the store cannot be reached.
pub async fn cancel(ctx: &Ctx, mut request: Request, wish: &str) -> Result<Request, CommitError> {
    if request.cancel.is_some() {
        return Ok(request);
    }
    let now = ctx.now();
    let mut batch = Batch::new("cancel_request");
    request.cancel = Some(wish.to_owned());
    if request.state == RequestState::Unapproved {
        // Its time is over at once, whatever the clock says: the fleet ends it as it ends those that nobody has approved.
        request.lapses = Some(Timestamp(0));
    }
    batch.update(&mut request);
    batch.event(request_event(EventKind::RequestChanged, &request, now));
    // A build that is not there any more, or has ended, needs no wish.
    let running = match request.build {
        Some(id) if request.state == RequestState::Claimed => ctx.store.build(id).await.ok().flatten(),
        _ => None,
    };
    if let Some(mut build) = running.filter(|b| b.finished.is_none() && b.cancel.is_none()) {
        build.cancel = Some(wish.to_owned());
        batch.update(&mut build);
    }
    ctx.store.commit(batch).await?;
    if let Some(build) = request.build {
        ctx.switchboard.to_driver(build, ToDriver::Look);
    }
    // The fleet ends it where it waits; its build's driver, where it is built.
    ctx.nudges.fleet.notify_one();
    ctx.nudges.builds.notify_one();
    Ok(request)
}

/// Why a request could not be ended for certain.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    #[error("read the request again")]
    Read(#[from] ReadError),
    #[error("record the wish to end it")]
    Commit(#[from] CommitError),
}

/// The same through lost races; what has ended meanwhile is left as it is.
///
/// # Errors
/// Where the store cannot be read or written.
pub async fn cancel_if_open(ctx: &Ctx, request: Request, wish: &str) -> Result<(), CancelError> {
    let id = request.id;
    let mut found = Some(request);
    for left in (0..TRIES).rev() {
        let Some(request) = found.filter(|request| request.state != RequestState::Done) else { break };
        match cancel(ctx, request, wish).await {
            Ok(_) => break,
            Err(error) if error.is_conflict() && left > 0 => {}
            Err(error) => return Err(error.into()),
        }
        found = ctx.store.request(id).await?;
    }
    Ok(())
}
