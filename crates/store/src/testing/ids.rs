//! Ids come from blocks that each handle reserves.

use super::Subject;
use rouse_model::{BuildId, MasterId, StepId};
use std::collections::HashSet;

/// Three masters with four askers each; then all of them are gone, their blocks half used, and others come.
pub async fn ids_are_given_once_whoever_asks(subject: &dyn Subject) {
    let mut given: HashSet<(&str, i64)> = HashSet::new();
    for _ in 0..2 {
        let stores = [subject.open().await, subject.open().await, subject.open().await];
        let tasks: Vec<_> = (0..12)
            .map(|n| {
                let store = stores[n % 3].clone();
                tokio::spawn(async move {
                    let mut own = Vec::new();
                    for _ in 0..100 {
                        let step: StepId = store.next_id().await.expect("an id can be had");
                        let build: BuildId = store.next_id().await.expect("an id can be had");
                        own.extend([("step", step.0), ("build", build.0)]);
                    }
                    let master: MasterId = store.next_id().await.expect("an id can be had");
                    own.push(("master", master.0));
                    own
                })
            })
            .collect();
        for task in tasks {
            for id in task.await.expect("it does not panic") {
                assert!(id.1 > 0, "{id:?}");
                assert!(given.insert(id), "{id:?} was given before");
            }
        }
    }
    assert_eq!(given.len(), 2 * 12 * 201);
    let fresh = subject.open().await;
    let next: StepId = fresh.next_id().await.expect("an id can be had");
    let highest = given.iter().filter(|(kind, _)| *kind == "step").map(|(_, id)| *id).max();
    assert!(Some(next.0) > highest, "{next} after {highest:?}");
}
