//! What is to be written while somebody else is faster, or the database is away: the first is looked at again, the second cuts short what was begun.

use super::lone::Lone;
use crate::fleet::breakers::{Asks, May};
use crate::fleet::failures;
use crate::fleet::locking::{Gate, Says};
use rouse_contract::ProviderError;
use rouse_model::buildset::RequestState;
use rouse_model::failure::FailureClass;
use rouse_model::offering::{OfferingHealth, Scarce};
use rouse_model::worker::{Cause, CauseCode, Wanted};
use rouse_model::{BuildResult, Timestamp};
use rouse_store::Batch;
use rouse_store::testing::Refusal;
use std::fmt::Debug;
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {p: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}}
pools: {p: {fake: {on: cloud, image: "debian:12"}, max: 4}}
locks: {key: 1}
builders:
  unit: {pool: p, steps: [{run: make}]}
  signed: {pool: p, locks: {key: exclusive}, steps: [{run: make}]}
  asked: {pool: p, approval: {of: all}, steps: [{run: make}]}
"#;

/// Does it while the database is away, which is told, and while somebody is faster, whose answer this is.
async fn refused<T, E: Debug>(
    lone: &Lone,
    batch: &'static str,
    mut deed: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    lone.memory.refuse(batch, Refusal::Away);
    assert!(deed().await.is_err(), "{batch}: the database was away");
    lone.memory.refuse(batch, Refusal::Conflict);
    deed().await.unwrap_or_else(|error| panic!("{batch}: {error:?}"))
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_with_a_request_waits_where_somebody_has_changed_it() {
    let lone = Lone::of(CONFIG).await;
    let (fleet, active) = (&lone.fleet, lone.active());
    let builder = active.config.builders.get("unit").unwrap();
    let request = lone.request("unit").await;
    refused(&lone, "request.held-back", async || failures::hold_back(fleet, vec![request.clone()]).await)
        .await;
    for (batch, class) in
        [("request.launch-failed", FailureClass::Offering), ("request.give-up", FailureClass::User)]
    {
        let error = ProviderError::new(class, "launch", "it is not to be had");
        refused(&lone, batch, async || {
            failures::refused(fleet, builder, &mut request.clone(), "p", None, &error).await
        })
        .await;
    }
    assert_eq!(lone.row(request.id).await, request, "nothing of it was written");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_not_on_record_is_waited_for() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let builder = active.config.builders.get("signed").unwrap();
    let role = lone.ctx().roles.hold("fleet", "").await.unwrap().expect("nobody else has it");
    let request = lone.request("signed").await;
    let candidates = crate::specs::candidates(&active.config, builder, &request);
    let mut says = async || {
        let waiting = std::slice::from_ref(&request);
        let mut gate =
            Gate::of(lone.ctx(), &role, &active.config, waiting, &[], &[]).await?.expect("it needs one");
        gate.lets(&active, builder, &mut request.clone(), &candidates, |_| 0).await
    };
    assert_eq!(refused(&lone, "request.lock", &mut says).await, Says::Wait);
    assert_eq!(lone.row(request.id).await.locks, None);
    assert_eq!(says().await.unwrap(), Says::Go);
    assert!(lone.row(request.id).await.locks.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_class_is_known_once_it_is_on_record() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let builder = active.config.builders.get("unit").unwrap();
    let pool = &active.config.pools["p"];
    let request = lone.request("unit").await;
    let class = async || lone.fleet.class_of(&active, builder, &mut request.clone(), "p", pool).await;
    assert_eq!(class().await.unwrap(), None, "its image is asked for");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(refused(&lone, "request.resolve", class).await, None);
    assert!(class().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_of_a_worker_holds_for_the_row_that_was_judged() {
    let lone = Lone::of(CONFIG).await;
    let (idle, busy) = (lone.worker(1, "p", "cloud"), lone.worker(2, "p", "cloud"));
    lone.insert(&[&idle, &busy]).await;
    let cause = || Cause::new(CauseCode::Idle, None, "nothing waits for it");
    refused(&lone, "worker.end", async || lone.fleet.retire(&idle, 0, cause()).await).await;
    assert_eq!(lone.worker_row(idle.id).await.wanted, Wanted::Run);
    lone.fleet.retire(&idle, 0, cause()).await.unwrap();
    lone.fleet.retire(&busy, 1, cause()).await.unwrap();
    assert_eq!(lone.worker_row(idle.id).await.wanted, Wanted::End { cause: cause() });
    assert_eq!(lone.worker_row(busy.id).await.wanted, Wanted::Drain { cause: cause() });
}

fn spot() -> Scarce {
    Scarce::Offering("spot".into())
}

const ASKS: Asks<'static> = Asks { pool: "p", offering: Some("spot") };

/// What is on record of offerings.
async fn known(lone: &Lone) -> Vec<OfferingHealth> {
    lone.ctx().store.offering_health().await.unwrap()
}

/// Another master has been refused something, just now or so long ago.
async fn refused_to_another(lone: &Lone, before: Duration) -> OfferingHealth {
    let now: Timestamp = lone.now() - before;
    let wanted_by = [rouse_model::offering::Wants::Named("spot".into())].into();
    let row = OfferingHealth {
        account: "cloud".into(),
        what: spot(),
        wanted_by,
        refused_since: Some(now),
        failures: 1,
        until: now + Duration::from_secs(60),
        changed: now,
    };
    let mut batch = Batch::new("test.offering");
    batch.upsert(&row);
    lone.ctx().store.commit(batch).await.unwrap();
    row
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_could_not_be_written_is_written_with_the_next_one() {
    let lone = Lone::of(CONFIG).await;
    let error = ProviderError::new(FailureClass::Offering, "launch", "there is none");
    lone.fleet.offerings.refused("cloud", ASKS, spot(), &error);
    lone.memory.refuse("offering.health", Refusal::Away);
    lone.fleet.write_offerings().await;
    assert_eq!(known(&lone).await, []);
    lone.fleet.write_offerings().await;
    assert_eq!(known(&lone).await.len(), 1);
    // What another one was faster with is right as it stands.
    let other = || Scarce::Offering("other".into());
    lone.fleet.offerings.refused("cloud", ASKS, other(), &error);
    lone.memory.refuse("offering.health", Refusal::Conflict);
    lone.fleet.write_offerings().await;
    lone.fleet.write_offerings().await;
    assert_eq!(known(&lone).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_needs_any_more_is_forgotten_by_one_of_all_masters() {
    let lone = Lone::of(CONFIG).await;
    let row = refused_to_another(&lone, Duration::from_secs(7_200)).await;
    refused(&lone, "offering.forgotten", async || {
        lone.fleet.offerings.read_anew();
        lone.fleet.read_offerings().await
    })
    .await;
    assert_eq!(known(&lone).await, [row]);
    lone.fleet.offerings.read_anew();
    lone.fleet.read_offerings().await.unwrap();
    assert_eq!(known(&lone).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_others_were_refused_is_read_every_few_seconds_and_by_a_new_master_at_once() {
    let lone = Lone::of(CONFIG).await;
    let read = async || {
        lone.fleet.read_offerings().await.unwrap();
        matches!(lone.fleet.offerings.may("cloud", ASKS), May::Not(_))
    };
    assert!(!read().await);
    refused_to_another(&lone, Duration::ZERO).await;
    tokio::time::advance(Duration::from_millis(4_999)).await;
    assert!(!read().await, "it was read a moment ago");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(read().await);
    // A row that goes is seen by whoever has just taken over.
    let mut batch = Batch::new("test.offering");
    batch.delete(&known(&lone).await[0]);
    lone.ctx().store.commit(batch).await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(!read().await);
    refused_to_another(&lone, Duration::ZERO).await;
    assert!(!read().await);
    lone.fleet.offerings.read_anew();
    assert!(read().await);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_builder_is_gone_ends_and_says_so() {
    let lone = Lone::of(CONFIG).await;
    let request = lone.request("unit").await;
    failures::without_builder(&lone.fleet, request.clone()).await.unwrap();
    let row = lone.row(request.id).await;
    assert_eq!(row.state, RequestState::Done);
    let build = lone.ctx().store.build(row.build.unwrap()).await.unwrap().unwrap();
    assert_eq!(build.summary, "builder `unit` is not configured any more");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_ends_without_a_build() {
    let lone = Lone::of(CONFIG).await;
    let mut request = lone.request("unit").await;
    request.cancel = Some("anna does not want it".into());
    let mut batch = Batch::new("test.request");
    batch.update(&mut request);
    lone.ctx().store.commit(batch).await.unwrap();
    let queue = [request.clone()];
    refused(&lone, "request.cancel", async || lone.fleet.end_cancelled(&queue, lone.now()).await).await;
    assert_eq!(lone.row(request.id).await, request);
    lone.fleet.end_cancelled(&queue, lone.now()).await.unwrap();
    let row = lone.row(request.id).await;
    assert_eq!((row.state, row.result), (RequestState::Done, Some(BuildResult::Cancelled)));

    let asked = lone.request("asked").await;
    let lapses = asked.lapses.expect("it is not waited for for ever");
    lone.fleet.end_unapproved(lone.now()).await.unwrap();
    assert_ne!(lone.row(asked.id).await.state, RequestState::Done);
    lone.fleet.end_unapproved(lapses + Duration::from_secs(1)).await.unwrap();
    let row = lone.row(asked.id).await;
    assert_eq!((row.state, row.result), (RequestState::Done, Some(BuildResult::Cancelled)));
    assert!(row.cancel.is_some_and(|why| why.starts_with("nobody approved it within ")));
}
