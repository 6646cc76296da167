//! The end of a request, and with the last one the end of its buildset.

use rouse_model::buildset::{Buildset, Request, RequestState};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::{BuildResult, BuildsetId, Timestamp};
use rouse_store::{Batch, ReadError, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::OwnedMutexGuard;

/// Lets the ends of one buildset's requests pass one after the other within this master. Without it those that end at once send each other back,
/// each to read its whole build again; between masters the buildset's generation decides, as ever.
#[derive(Debug, Default)]
pub struct Turnstile {
    passing: Mutex<HashMap<BuildsetId, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turnstile {
    /// Held from before the buildset is read until the end is committed.
    ///
    /// # Panics
    /// Never: nothing panics while the map is held.
    pub async fn pass(&self, buildset: BuildsetId) -> OwnedMutexGuard<()> {
        let gate = {
            let mut passing = self.passing.lock().expect("nothing panics while it is held");
            passing.retain(|_, gate| gate.strong_count() > 0);
            let gate = passing.get(&buildset).and_then(Weak::upgrade).unwrap_or_default();
            passing.insert(buildset, Arc::downgrade(&gate));
            gate
        };
        gate.lock_owned().await
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_of_one_buildset_pass_in_turn_and_those_of_others_beside_them() {
        let turnstile = Turnstile::default();
        let first = turnstile.pass(BuildsetId(1)).await;
        let other = turnstile.pass(BuildsetId(2)).await;
        let second = turnstile.pass(BuildsetId(1));
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        drop((second, other));
        let last = turnstile.pass(BuildsetId(3)).await;
        assert_eq!(turnstile.passing.lock().unwrap().len(), 1, "who has passed is forgotten");
        drop(last);
    }
}
