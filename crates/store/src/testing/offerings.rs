//! What accounts have refused is known to all masters, and the last word holds.

use super::{Subject, samples};
use crate::Batch;
use rouse_model::Timestamp;
use rouse_model::offering::{OfferingHealth, Scarce, Wants};

pub async fn what_was_refused_is_known_to_all_masters(subject: &dyn Subject) {
    let (one, other) = (subject.open().await, subject.open().await);
    assert_eq!(other.offering_health().await.expect("they can be read"), []);
    let spot = samples::offering_health("aws", Scarce::Offering("spot".into()));
    let quota = samples::offering_health("aws", Scarce::Quota("spot".into()));
    let elsewhere = samples::offering_health("b1", Scarce::Offering("spot".into()));
    let mut batch = Batch::new("suite.refused");
    batch.upsert(&spot).upsert(&elsewhere).upsert(&quota);
    one.commit(batch).await.expect("written");
    let known = other.offering_health().await.expect("they can be read");
    assert_eq!(known, [spot.clone(), quota, elsewhere.clone()], "by account and what it is");
    let mut later = OfferingHealth { refused_since: None, until: Timestamp(i64::MAX), ..spot.clone() };
    later.wanted_by.insert(Wants::OfPool("gpu".into()));
    let mut batch = Batch::new("suite.refused");
    batch.upsert(&later).delete(&elsewhere);
    other.commit(batch).await.expect("written");
    let known = one.offering_health().await.expect("they can be read");
    assert_eq!((known.len(), &known[0]), (2, &later));
}
