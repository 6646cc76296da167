//! What a launch that failed means for the requests that wait for it.

use super::lone::Lone;
use crate::fleet::failures;
use rouse_contract::ProviderError;
use rouse_model::buildset::{HeldBack, LONGEST_PAUSE, Request, RequestState};
use rouse_model::failure::FailureClass;
use rouse_model::{BuildResult, Trust};
use rouse_store::Batch;
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {p: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}}
pools: {p: {fake: {on: cloud, image: "debian:12"}, accepts: any}}
projects: {default: {}, shop: {}}
builders:
  unit: {pool: p, retries: 2, steps: [{run: make}]}
  shop: {pool: p, project: shop, steps: [{run: make}]}
"#;

fn refusal(class: FailureClass) -> ProviderError {
    ProviderError::new(class, "launch", "it is not to be had")
}

/// A launch for a request fails; the request as it is then.
async fn fails(lone: &Lone, request: &Request, error: &ProviderError) -> Request {
    let active = lone.active();
    let builder = active.config.builders.get(request.builder.as_str()).unwrap();
    let mut row = lone.row(request.id).await;
    failures::refused(&lone.fleet, builder, &mut row, "p", None, error).await.unwrap();
    lone.row(request.id).await
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_very_class_hears_of_it_and_nobody_else() {
    let lone = Lone::of(CONFIG).await;
    let mut all = Vec::new();
    for (builder, trust, digest) in [
        ("unit", Trust::Trusted, "d"),
        ("unit", Trust::Untrusted, "d"),
        ("shop", Trust::Trusted, "d"),
        ("unit", Trust::Trusted, "another"),
    ] {
        let mut request = lone.request_of(builder, trust).await;
        request.provision.digests.insert("p".into(), digest.into());
        let mut batch = Batch::new("test.request");
        batch.update(&mut request);
        lone.ctx().store.commit(batch).await.unwrap();
        all.push(request);
    }
    let worker = lone.worker(1, "p", "cloud");
    let (class, said) = (FailureClass::Boot, "it did not come");
    failures::of_worker(&lone.fleet, &worker, class, said, None).await.unwrap();
    let mut heard = Vec::new();
    for request in &all {
        heard.push(lone.row(request.id).await.provision.failures.len());
    }
    assert_eq!(heard, [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn each_failure_in_turn_is_waited_out_longer_and_the_latest_are_kept() {
    let lone = Lone::of(CONFIG).await;
    let request = lone.request("unit").await;
    for failed in 0..12_u32 {
        let row = fails(&lone, &request, &refusal(FailureClass::Offering)).await;
        let pause = Duration::from_secs(1 << failed.min(6)).min(LONGEST_PAUSE);
        assert_eq!(row.not_before, Some(lone.now() + pause), "after {failed}");
        assert_eq!(row.provision.failures.len(), 10.min(failed as usize + 1));
        assert_eq!((row.state, row.attempts), (RequestState::Queued, 0), "nobody is charged for it");
        // Told apart by when they were.
        assert_eq!(row.provision.failures.last().unwrap().at, lone.now());
        tokio::time::advance(Duration::from_secs(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn boots_that_fail_are_tried_again_as_often_as_the_builder_says() {
    let lone = Lone::of(CONFIG).await;
    let request = lone.request("unit").await;
    for attempts in [1, 2] {
        let row = fails(&lone, &request, &refusal(FailureClass::Boot)).await;
        assert_eq!((row.state, row.attempts), (RequestState::Queued, attempts));
    }
    let row = fails(&lone, &request, &refusal(FailureClass::Boot)).await;
    assert_eq!((row.state, row.result), (RequestState::Done, Some(BuildResult::Exception)));
}

#[tokio::test(start_paused = true)]
async fn why_it_is_held_back_is_noted_once_for_its_pause() {
    let lone = Lone::of(CONFIG).await;
    let mut request = lone.request("unit").await;
    let now = lone.now();
    let minute = Duration::from_secs(60);
    let error = refusal(FailureClass::Offering).retry_after(minute);
    let mut notes = |pool: &str, now| failures::holds_back(&mut request, pool, &error, now);
    assert!(notes("p", now));
    assert!(!notes("p", now) && !notes("p", now + Duration::from_secs(59)), "that is known");
    assert!(notes("q", now + Duration::from_secs(59)), "of another pool it was not");
    assert!(!notes("q", now + Duration::from_secs(60)));
    assert!(notes("q", now + Duration::from_secs(119)), "its pause is over");
    let held = HeldBack {
        pool: "q".into(),
        why: "launch: it is not to be had".into(),
        until: now + Duration::from_secs(179),
    };
    assert_eq!(request.provision.held, Some(held));
    let lasting = refusal(FailureClass::Offering);
    assert!(!failures::holds_back(&mut request, "r", &lasting, now), "nobody knows for how long");
}
