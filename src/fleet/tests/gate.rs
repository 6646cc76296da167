//! Who is given locks, and what of them is given back.

use super::lone::Lone;
use crate::config::PoolConfig;
use crate::fleet::locking::{Gate, Says};
use rouse_model::Trust;
use rouse_model::build::Lease;
use rouse_model::buildset::Request;
use rouse_model::locks::{Hold, Share};
use rouse_model::worker::Worker;
use rouse_store::Batch;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {p: "127.0.0.1:1", open: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}}
pools:
  p: {fake: {on: cloud, image: "debian:12"}, max: 2, slots: 2}
  open: {fake: {on: cloud, image: "debian:12"}, max: 2, accepts: any}
locks:
  key: {count: 1, accepts: any}
  rig: {count: 2, per: worker, accepts: any}
  sealed: 1
builders:
  free: {pool: p, steps: [{run: make}]}
  signed: {pool: p, locks: {key: exclusive}, steps: [{run: make}]}
  rigged: {pool: p, locks: {rig: 1}, steps: [{run: make}]}
  sealed: {pool: open, locks: {sealed: 1}, steps: [{run: make}]}
"#;

fn hold(lock: &str) -> Hold {
    Hold { lock: lock.into(), share: Share::Exclusive, worker: None, branch: None }
}

/// A request that has locks on record.
async fn with_locks(lone: &Lone, builder: &str, trust: Trust, locks: Vec<Hold>) -> Request {
    let mut request = lone.request_of(builder, trust).await;
    request.locks = Some(locks);
    let mut batch = Batch::new("test.request");
    batch.update(&mut request);
    lone.ctx().store.commit(batch).await.unwrap();
    request
}

/// What the gate says to a request, and what it has on record then.
async fn says(
    lone: &Lone,
    request: &Request,
    (workers, leases): (&[Worker], &[Lease]),
    wished: usize,
) -> (Says, Option<Vec<Hold>>) {
    let active = lone.active();
    let role = lone.ctx().roles.hold("fleet", "").await.unwrap().expect("nobody else has it");
    let builder = active.config.builders.get(request.builder.as_str()).unwrap();
    let candidates: Vec<(&str, &PoolConfig)> = crate::specs::candidates(&active.config, builder, request);
    let one_that_needs_some = lone.request("signed").await;
    let waiting = [request.clone(), one_that_needs_some];
    let mut gate =
        Gate::of(lone.ctx(), &role, &active.config, &waiting, workers, leases).await.unwrap().unwrap();
    let said = gate.lets(&active, builder, &mut request.clone(), &candidates, |_| wished).await.unwrap();
    (said, lone.row(request.id).await.locks)
}

const NOBODY: (&[Worker], &[Lease]) = (&[], &[]);

/// Three of four places are taken: by a build, and by all of a worker that is about to go.
fn nearly_full(lone: &Lone) -> (Vec<Worker>, Vec<Lease>) {
    let cause = rouse_model::worker::Cause::new(rouse_model::worker::CauseCode::Idle, None, "it was idle");
    let worker = |id| Worker { slots: 2, ..lone.worker(id, "p", "cloud") };
    let leaves = Worker { wanted: rouse_model::worker::Wanted::Drain { cause }, ..worker(2) };
    let lease = Lease { worker: worker(1).id, slot: 0, build: 10.into(), since: lone.now() };
    (vec![worker(1), leaves], vec![lease])
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_taken_where_there_is_a_place_to_use_it() {
    let lone = Lone::of(CONFIG).await;
    let (workers, leases) = nearly_full(&lone);
    let request = lone.request("signed").await;
    assert_eq!(says(&lone, &request, (&workers, &leases), 1).await, (Says::Wait, None));
    let took = (Says::Go, Some(vec![hold("key")]));
    assert_eq!(says(&lone, &request, (&workers, &leases), 0).await, took);
    // It is asked again in each pass, and nothing is written for that.
    let before = lone.row(request.id).await;
    assert_eq!(says(&lone, &before, NOBODY, 0).await, took);
    assert_eq!(lone.row(request.id).await.generation, before.generation);
}

#[tokio::test(start_paused = true)]
async fn what_the_configuration_does_not_ask_for_any_more_is_given_back() {
    let lone = Lone::of(CONFIG).await;
    let (workers, leases) = nearly_full(&lone);
    // There is no place now: that is no reason to keep it.
    let free = with_locks(&lone, "free", Trust::Trusted, vec![hold("key")]).await;
    assert_eq!(says(&lone, &free, (&workers, &leases), 1).await, (Says::Go, None));
    // No pool takes it any more.
    for held in ["key", "other"] {
        let stranger = with_locks(&lone, "signed", Trust::Untrusted, vec![hold(held)]).await;
        assert_eq!(says(&lone, &stranger, NOBODY, 0).await.1, None, "{held}");
    }
    let refused = with_locks(&lone, "sealed", Trust::Untrusted, vec![hold("sealed")]).await;
    assert_eq!(says(&lone, &refused, NOBODY, 0).await, (Says::Never, None));
}

#[tokio::test(start_paused = true)]
async fn who_needs_no_lock_is_let_by_and_who_has_no_pool_waits_without() {
    let lone = Lone::of(CONFIG).await;
    let free = lone.request_of("free", Trust::Untrusted).await;
    assert_eq!(
        says(&lone, &free, NOBODY, 0).await,
        (Says::Go, None),
        "whoever asks for it says why it waits"
    );
    let signed = lone.request_of("signed", Trust::Untrusted).await;
    assert_eq!(says(&lone, &signed, NOBODY, 0).await, (Says::Wait, None));
}

#[tokio::test(start_paused = true)]
async fn builds_with_a_lock_that_is_counted_on_workers_are_counted_there() {
    let lone = Lone::of(CONFIG).await;
    let worker = lone.worker(5, "p", "cloud").id;
    let rig = || Hold { worker: Some(worker), share: Share::Count(1), ..hold("rig") };
    for _ in 0..2 {
        with_locks(&lone, "rigged", Trust::Trusted, vec![rig()]).await;
    }
    with_locks(&lone, "signed", Trust::Trusted, vec![hold("key")]).await;
    let active = lone.active();
    let role = lone.ctx().roles.hold("fleet", "").await.unwrap().expect("nobody else has it");
    let waiting = [lone.request("rigged").await];
    let gate = Gate::of(lone.ctx(), &role, &active.config, &waiting, &[], &[]).await.unwrap().unwrap();
    assert_eq!(gate.locked(), [(worker, 2)].into());
    let free = [lone.request("free").await];
    assert!(Gate::of(lone.ctx(), &role, &active.config, &free, &[], &[]).await.unwrap().is_none());
}
