//! Databases come into being, and are found again.

use super::{Subject, event, follow, insert, samples, stored};
use crate::Batch;
use std::collections::HashSet;

/// Four masters start at once on an empty database: all find one installation.
pub async fn many_open_a_fresh_database_at_once(subject: &dyn Subject) {
    let (a, b, c, d) = tokio::join!(subject.open(), subject.open(), subject.open(), subject.open());
    let installations: HashSet<String> =
        [&a, &b, &c, &d].iter().map(|store| store.facts().installation.clone()).collect();
    assert_eq!(installations.len(), 1, "{installations:?}");
    assert_eq!(a.facts().store_epoch, 1);
    assert!(!a.facts().installation.is_empty());
    insert(&a, &samples::buildset(1)).await;
    assert_eq!(stored(&d, &samples::buildset(1)).await, Some(samples::buildset(1)));
}

pub async fn what_was_committed_outlives_every_handle(subject: &dyn Subject) {
    let facts = {
        let store = subject.open().await;
        let mut batch = Batch::new("suite.insert");
        batch.insert(&samples::full_build()).event(event("build/1", serde_json::json!(1)));
        store.commit(batch).await.expect("a new row can be written");
        store.facts().clone()
    };
    let store = subject.open().await;
    assert_eq!(store.facts(), &facts);
    assert_eq!(stored(&store, &samples::full_build()).await, Some(samples::full_build()));
    assert_eq!(follow(&store, 0, 1).await[0].body.subject, "build/1");
}
