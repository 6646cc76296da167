//! Images that are not to be had when an instance is launched: of one account, of all for a while, and of nobody.

use super::stage::{Stage, play};
use crate::explain::ReasonCode;
use rouse_model::BuildResult;
use rouse_model::buildset::RequestState;
use rouse_model::failure::FailureClass;
use rouse_model::worker::Worker;
use rouse_provider_fake::{Fault, on};
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {both: "127.0.0.1:1", single: "127.0.0.1:1"}}}
providers:
  one: {fake: {latency: 200ms}}
  other: {fake: {latency: 200ms}}
pools:
  both: {fake: {on: [one, other], image: "debian:12"}}
  single: {fake: {on: one, image: "debian:12"}, deadlines: {launch: 3m}}
builders:
  on-both: {pool: both, steps: [{run: make}]}
  on-single: {pool: single, steps: [{run: make}]}
"#;

fn class(worker: &Worker) -> Option<FailureClass> {
    worker.cause().and_then(|cause| cause.class)
}

fn without_image(stage: &Stage, launches: usize) {
    stage.cloud.script(|script| (0..launches).for_each(|_| script.plan(on::LAUNCH, Fault::NoImage)));
}

#[test]
fn what_one_account_has_no_image_for_another_one_launches_at_once() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            without_image(stage, 1);
            let request = stage.wish("on-both").await;
            let waited = stage.until("it runs", async || stage.started_within(request).await).await;
            assert!(waited <= Duration::from_secs(8), "{waited:?}");
            let workers = stage.workers("both").await;
            let [refused, ran] = workers.as_slice() else { panic!("{workers:#?}") };
            assert_ne!(refused.provider, ran.provider);
            assert_eq!((class(refused), class(ran)), (Some(FailureClass::Image), None));
            let request = stage.ctx.store.request(request).await.unwrap().unwrap();
            let [failure] = request.provision.failures.as_slice() else { panic!("{request:#?}") };
            assert_eq!((failure.worker, failure.class), (Some(refused.id), FailureClass::Image));
            assert_eq!(failure.message, "the image is not there");
            assert_eq!(request.attempts, 0, "nobody is charged for it");
        },
    );
}

#[test]
fn an_image_that_is_away_for_a_while_is_asked_for_less_and_less_and_by_one_for_all() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            without_image(stage, 4);
            let mut requests = Vec::new();
            for _ in 0..3 {
                requests.push(stage.wish("on-single").await);
            }
            let said = stage.says(requests[0], ReasonCode::ImageBackingOff).await;
            assert!(said.contains("the image is not there"), "{said}");
            for request in requests {
                let waited = stage.until("each runs", async || stage.started_within(request).await).await;
                assert!((10..90).contains(&waited.as_secs()), "{waited:?}");
            }
            let (calls, _) = stage.cloud.calls(on::LAUNCH);
            assert!(calls <= 4 + 3, "{calls} launches");
        },
    );
}

#[test]
fn an_image_that_never_comes_is_waited_for_as_long_as_a_launch() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            without_image(stage, 1_000);
            let request = stage.wish("on-single").await;
            let since = stage.ctx.now();
            let over = async || {
                let row = stage.ctx.store.request(request).await.unwrap().unwrap();
                (row.state == RequestState::Done).then_some(row)
            };
            let row = stage.within(Duration::from_secs(600), "it is given up", over).await;
            let after = stage.ctx.now().since(since).as_secs();
            assert!((175..240).contains(&after), "{after} s");
            assert_eq!(row.result, Some(BuildResult::Exception));
            let build = stage.ctx.store.build(row.build.unwrap()).await.unwrap().unwrap();
            assert_eq!(build.class, Some(FailureClass::Image));
            assert!(build.summary.starts_with("pool `single`: "), "{}", build.summary);
            assert!(build.summary.ends_with("the image is not there"), "{}", build.summary);
            let workers = stage.workers("single").await;
            assert!((5..=10).contains(&workers.len()), "{} launches", workers.len());
        },
    );
}
