//! The store in memory: the suite, and how a master dies on it.

use async_trait::async_trait;
use rouse_store::testing::{Death, Memory, Subject};
use rouse_store::{Batch, Store};
use std::time::Duration;

rouse_store::conformance!(fresh);

struct InMemory(Memory);

#[async_trait]
impl Subject for InMemory {
    async fn open(&self) -> Store {
        self.0.open().await.unwrap()
    }
}

async fn fresh() -> Option<InMemory> {
    Some(InMemory(Memory::new().unwrap()))
}

fn event(subject: &str) -> Batch {
    let mut batch = Batch::new("test.event");
    batch.event(rouse_model::event::NewEvent {
        kind: rouse_model::event::EventKind::BuildPhase,
        version: 1,
        subject: subject.into(),
        project: "default".into(),
        at: rouse_model::Timestamp(1),
        payload: serde_json::json!({}),
    });
    batch
}

#[tokio::test(start_paused = true)]
async fn a_master_dies_before_or_after_its_commit_and_is_answered_in_neither_case() {
    for (death, expected) in
        [(Death::Before(1), vec!["first", "later"]), (Death::After(1), vec!["first", "last", "later"])]
    {
        let memory = Memory::new().unwrap();
        let (store, mut dead) = memory.open_for(death).await.unwrap();
        store.commit(event("first")).await.unwrap();
        assert!(!*dead.borrow());
        let last = tokio::time::timeout(Duration::from_secs(1), store.commit(event("last"))).await;
        assert!(last.is_err() && *dead.borrow_and_update(), "{death:?}");
        let never = tokio::time::timeout(Duration::from_secs(1), store.commit(event("never"))).await;
        assert!(never.is_err(), "the dead write nothing");
        let next = memory.open().await.unwrap();
        next.commit(event("later")).await.unwrap();
        let seen: Vec<String> =
            next.events_after(0, 10).await.unwrap().into_iter().map(|event| event.body.subject).collect();
        assert_eq!(seen, expected, "{death:?}");
    }
}
