//! The end of a request, and with the last one the end of its buildset.

use crate::ctx::Ctx;
use crate::switchboard::ToDriver;
use rouse_model::buildset::{Buildset, Request, RequestState};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::{BuildId, BuildResult, BuildsetId, RequestId, Timestamp};
use rouse_store::{Batch, ReadError, Store};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::OwnedMutexGuard;

/// Lets the ends of one buildset's requests pass one after the other within this master. Without it those that end at once send each other back,
/// each to read its whole build again. Who passes hands on how the buildset stands with its own end, so that the next need not wait for the disk;
/// between masters the buildset's generation decides, as ever.
#[derive(Debug, Default)]
pub struct Turnstile {
    passing: Mutex<HashMap<BuildsetId, Weak<Gate>>>,
}

type Gate = tokio::sync::Mutex<Option<Tally>>;

/// How a buildset stands once all that have passed have ended.
#[derive(Debug)]
struct Tally {
    buildset: Buildset,
    open: HashSet<RequestId>,
    worst: Option<BuildResult>,
}

impl Turnstile {
    /// The right to end a request of a buildset, for one at a time.
    ///
    /// # Panics
    /// Never: nothing panics while the map is held.
    pub async fn pass(&self, buildset: BuildsetId) -> Passing {
        let gate = {
            let mut passing = self.passing.lock().expect("nothing panics while it is held");
            passing.retain(|_, gate| gate.strong_count() > 0);
            let gate = passing.get(&buildset).and_then(Weak::upgrade).unwrap_or_default();
            passing.insert(buildset, Arc::downgrade(&gate));
            gate
        };
        Passing(gate.lock_owned().await)
    }
}

/// Held from before the buildset is looked at until the end has its place among the batches.
#[derive(Debug)]
pub struct Passing(OwnedMutexGuard<Option<Tally>>);

/// Held until the end is on record: as long as somebody is on the way, the next go on from there.
#[derive(Debug)]
pub struct Passed(Arc<Gate>);

impl Passing {
    /// The next one may pass.
    #[must_use]
    pub fn on(self) -> Passed {
        Passed(Arc::clone(OwnedMutexGuard::mutex(&self.0)))
    }
}

impl Passed {
    /// The end was refused. Those who came after it will be, too; whoever comes now reads again.
    pub async fn back(self) {
        *self.0.lock().await = None;
    }
}

impl Tally {
    async fn read(store: &Store, id: BuildsetId) -> Result<Option<Self>, ReadError> {
        let Some(buildset) = store.buildset(id).await? else { return Ok(None) };
        let open = store.open_requests_of(id).await?.into_iter().collect();
        let worst = store.ends_of(id).await?.into_iter().reduce(BuildResult::worse);
        Ok(Some(Self { buildset, open, worst }))
    }
}

/// Adds to the batch that a request ended so. Reads the buildset and how its requests stand, unless one that has just passed has left that; each
/// end moves the buildset's generation, so of two that end at once on two masters one is sent back and looks again. Answers with the buildset's end, where
/// it is the last of them: to be [told](Closed::tell) once the batch is true.
///
/// # Errors
/// Where the store cannot be read.
pub async fn finish(
    store: &Store,
    passing: Option<&mut Passing>,
    batch: &mut Batch,
    request: &mut Request,
    result: BuildResult,
    now: Timestamp,
) -> Result<Option<Closed>, ReadError> {
    request.state = RequestState::Done;
    request.result = Some(result);
    request.done = Some(now);
    request.claimed_by = None;
    request.locks = None;
    request.lapses = None;
    batch.update(request);
    batch.event(request_event(EventKind::RequestDone, request, now));
    let mut alone = None;
    let tally = passing.map_or(&mut alone, |passing| &mut *passing.0);
    if tally.is_none() {
        *tally = Tally::read(store, request.buildset).await?;
    }
    let Some(Tally { buildset, open, worst }) = tally else { return Ok(None) };
    open.remove(&request.id);
    let all = worst.map_or(result, |worst| worst.worse(result));
    *worst = Some(all);
    if open.is_empty() {
        buildset.result = Some(all);
        buildset.done = Some(now);
        batch.event(buildset_event(buildset, all, now));
    }
    batch.update(buildset);
    Ok(open.is_empty().then_some(Closed { parent: buildset.parent }))
}

/// The end of a buildset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// The build that made it, where one did.
    pub parent: Option<BuildId>,
}

impl Closed {
    /// Wakes who may wait for it.
    pub fn tell(self, ctx: &Ctx) {
        ctx.nudges.schedulers.notify_one();
        if let Some(parent) = self.parent {
            ctx.switchboard.to_driver(parent, ToDriver::Look);
        }
    }
}

/// An event about a request.
#[must_use]
pub fn request_event(kind: EventKind, request: &Request, now: Timestamp) -> NewEvent {
    let payload = serde_json::json!({
        "builder": request.builder, "buildset": request.buildset, "state": request.state, "result": request.result,
        "build": request.build, "cancel": request.cancel, "approval": request.approval,
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
        payload: serde_json::json!({"scheduler": buildset.scheduler, "parent": buildset.parent, "result": result}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::buildset::Provision;
    use rouse_model::property::Properties;
    use rouse_model::{ConfigRevisionId, Trust};
    use rouse_store::{Location, Submitted};

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

    fn row(state: RequestState, result: Option<BuildResult>, id: i64) -> Request {
        Request {
            id: RequestId(id),
            buildset: BuildsetId(1),
            builder: "unit".into(),
            project: "default".into(),
            branch: None,
            state,
            priority: 0,
            created: Timestamp(1),
            not_before: None,
            attempts: 0,
            trust: Trust::Trusted,
            cancel: None,
            build: None,
            claimed_by: None,
            result,
            done: None,
            config: ConfigRevisionId(1),
            provision: Provision::default(),
            locks: None,
            approval: None,
            lapses: None,
            generation: 0,
        }
    }

    async fn with_requests(folder: &std::path::Path, rows: &[Request]) -> Store {
        let store = Store::open(&Location::Sqlite(folder.join("db"))).await.unwrap();
        let buildset = Buildset {
            id: BuildsetId(1),
            origin: "test".into(),
            project: "default".into(),
            scheduler: None,
            reason: String::new(),
            owner: None,
            properties: Properties::default(),
            trust: Trust::Trusted,
            parent: None,
            created: Timestamp(1),
            done: None,
            result: None,
            generation: 0,
        };
        let mut batch = Batch::new("test.make");
        batch.insert(&buildset);
        for request in rows {
            batch.insert(request);
        }
        store.commit(batch).await.unwrap();
        store
    }

    async fn end(
        store: &Store,
        passing: &mut Passing,
        mut request: Request,
        result: BuildResult,
    ) -> (Submitted, bool) {
        let mut batch = Batch::new("test.end");
        let closed =
            finish(store, Some(passing), &mut batch, &mut request, result, Timestamp(2)).await.unwrap();
        (store.submit(batch).await.unwrap(), closed.is_some())
    }

    #[tokio::test]
    async fn an_end_goes_on_from_those_that_are_not_on_record_yet() {
        let folder = tempfile::tempdir().unwrap();
        let claimed = |id| row(RequestState::Claimed, None, id);
        let warned = row(RequestState::Done, Some(BuildResult::Warnings), 4);
        let store = with_requests(folder.path(), &[claimed(1), claimed(2), claimed(3), warned]).await;
        let turnstile = Turnstile::default();
        let (mut answers, mut passed) = (Vec::new(), Vec::new());
        for id in 1..=3 {
            let mut passing = turnstile.pass(BuildsetId(1)).await;
            let (answer, last) = end(&store, &mut passing, claimed(id), BuildResult::Success).await;
            assert_eq!(last, id == 3);
            answers.push(answer);
            passed.push(passing.on());
        }
        for answer in answers {
            answer.committed().await.unwrap();
        }
        let buildset = store.buildset(BuildsetId(1)).await.unwrap().unwrap();
        assert_eq!((buildset.result, buildset.generation), (Some(BuildResult::Warnings), 3));
    }

    #[tokio::test]
    async fn an_end_that_was_refused_leaves_nothing_to_go_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let claimed = |id| row(RequestState::Claimed, None, id);
        let store = with_requests(folder.path(), &[claimed(1), claimed(2)]).await;
        let turnstile = Turnstile::default();
        let mut passing = turnstile.pass(BuildsetId(1)).await;
        let stale = Request { generation: 7, ..claimed(1) };
        let (answer, _) = end(&store, &mut passing, stale, BuildResult::Failure).await;
        let passed = passing.on();
        assert!(answer.committed().await.unwrap_err().is_conflict());
        passed.back().await;
        let mut passing = turnstile.pass(BuildsetId(1)).await;
        let (answer, last) = end(&store, &mut passing, claimed(2), BuildResult::Success).await;
        answer.committed().await.unwrap();
        assert!(!last, "the first is still open");
    }
}
