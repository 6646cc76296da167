//! The end of a request, and with the last one the end of its buildset.

use rouse_model::buildset::{Buildset, Request, RequestState};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::{BuildResult, Timestamp};
use rouse_store::{Batch, ReadError, Store};

/// Adds to the batch that a request ended so. Reads the buildset and its requests; each end moves the buildset's generation, so of two
/// that end at once one is sent back and looks again.
///
/// # Errors
/// Where the store cannot be read.
pub async fn finish(
    store: &Store,
    batch: &mut Batch,
    request: &mut Request,
    result: BuildResult,
    now: Timestamp,
) -> Result<(), ReadError> {
    request.state = RequestState::Done;
    request.result = Some(result);
    request.done = Some(now);
    request.claimed_by = None;
    batch.update(request);
    batch.event(request_event(EventKind::RequestDone, request, now));
    let Some(mut buildset) = store.buildset(request.buildset).await? else { return Ok(()) };
    let others = store.requests_of(request.buildset).await?;
    let ends: Option<Vec<BuildResult>> = others
        .iter()
        .map(|r| {
            if r.id == request.id { Some(result) } else { r.result.filter(|_| r.state == RequestState::Done) }
        })
        .collect();
    if let Some(ends) = ends {
        let worst = ends.into_iter().reduce(BuildResult::worse).unwrap_or(BuildResult::Success);
        buildset.result = Some(worst);
        buildset.done = Some(now);
        batch.event(buildset_event(&buildset, worst, now));
    }
    batch.update(&mut buildset);
    Ok(())
}

/// An event about a request.
#[must_use]
pub fn request_event(kind: EventKind, request: &Request, now: Timestamp) -> NewEvent {
    let payload = serde_json::json!({
        "builder": request.builder, "buildset": request.buildset, "state": request.state, "result": request.result,
        "build": request.build, "cancel": request.cancel,
    });
    NewEvent {
        kind,
        version: 1,
        subject: format!("request/{}", request.id),
        project: request.project.clone(),
        at: now,
        payload,
    }
}

fn buildset_event(buildset: &Buildset, result: BuildResult, now: Timestamp) -> NewEvent {
    NewEvent {
        kind: EventKind::BuildsetDone,
        version: 1,
        subject: format!("buildset/{}", buildset.id),
        project: buildset.project.clone(),
        at: now,
        payload: serde_json::json!({"scheduler": buildset.scheduler, "result": result}),
    }
}
