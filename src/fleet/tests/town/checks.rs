//! What must hold in the end, whatever went wrong.

use super::{ALL, BUDGET, START, Story};
use rouse_model::budget;
use rouse_model::buildset::{Request, RequestState};
use rouse_model::failure::FailureClass;
use rouse_model::money::Money;
use rouse_model::worker::{CauseCode, LaunchToken, Phase, Worker};
use rouse_model::{BuildResult, Timestamp};
use rouse_provider_fake::Cloud;
use rouse_store::Store;
use rouse_store::reads::BuildFilter;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Of a seed in which all wishes are over.
pub(super) async fn all(store: &Store, cloud: &Cloud, wishes: &[(Timestamp, &'static str)]) -> Story {
    let mut story = Story::default();
    let requests = store.requests(&Default::default(), ALL).await.unwrap();
    assert_eq!(requests.len(), wishes.len(), "each wish was made once");
    for request in requests {
        check_request(store, &request, &mut story).await;
    }
    assert_eq!(store.leases().await.unwrap(), vec![]);
    assert_eq!(store.open_builds().await.unwrap().len(), 0);
    let launched = cloud.launched();
    let workers = store.workers(&Default::default(), ALL).await.unwrap();
    check_spend(&workers);
    check_builds(store, &workers).await;
    for worker in &workers {
        check_worker(store, worker, &launched, &mut story);
    }
    let known: HashSet<LaunchToken> =
        workers.iter().map(|w| crate::keys::tag(store.facts(), w).token).collect();
    for (token, times) in launched {
        assert_eq!(
            times, 1,
            "{token:?} was launched {times} times, though it was still there or had been ended"
        );
        assert!(known.contains(&token), "{token:?} was launched without a record");
    }
    story
}

/// It ended: with one good build, or with one that says why there is none.
async fn check_request(store: &Store, request: &Request, story: &mut Story) {
    assert_eq!(request.state, RequestState::Done, "{request:#?}");
    let build = store.build(request.build.expect("its build")).await.unwrap().expect("on record");
    assert_eq!(build.result, request.result);
    match build.result.expect("it ended") {
        BuildResult::Success => {
            story.succeeded += 1;
            story.healed += usize::from(lacked_its_image(request));
            assert_ne!(request.builder, "broken");
        }
        BuildResult::Exception => {
            story.gave_up += 1;
            assert!(build.class.is_some() && build.summary.len() > 10, "{build:#?}");
            assert!(request.builder != "broken" || build.summary.contains("debian:0"), "{build:#?}");
            // An image that was there and is not any more is called so.
            let gone = build.class == Some(FailureClass::Image) && request.builder != "broken";
            assert!(!gone || build.summary.ends_with("the image is not there"), "{build:#?}");
        }
        other => panic!("an infrastructure failure is never {other:?}: {build:#?}"),
    }
}

/// Whether a worker was launched for it whose image was not there.
fn lacked_its_image(request: &Request) -> bool {
    request
        .provision
        .failures
        .iter()
        .any(|failure| failure.worker.is_some() && failure.class == FailureClass::Image)
}

/// It is gone for a reason that is on record, and was launched or says why it was not.
fn check_worker(store: &Store, worker: &Worker, launched: &HashMap<LaunchToken, usize>, story: &mut Story) {
    let Phase::Gone { cause } = &worker.phase else { panic!("still there: {worker:#?}") };
    assert!(cause.message.len() > 5, "{worker:#?}");
    story.workers += 1;
    story.spared += usize::from(worker.pool == "spare");
    story.resumed += usize::from(worker.resume_took.is_some());
    story.fell_back += usize::from(worker.offering.as_deref() == Some("sure"));
    let token = crate::keys::tag(store.facts(), worker).token;
    if worker.accepted.is_some() {
        assert!(launched.contains_key(&token), "accepted, and never there: {worker:#?}");
    } else {
        story.failed_launches += 1;
        story.without_image += usize::from(cause.class == Some(FailureClass::Image));
        let known = cause.class.is_some() || !matches!(cause.code, CauseCode::LaunchRefused);
        assert!(known, "{worker:#?}");
    }
}

/// A worker was given just the builds that it counted, so that nobody has overwritten what another one wrote of it; and none that had something to do was ended
/// because it seemed to have nothing.
async fn check_builds(store: &Store, workers: &[Worker]) {
    use CauseCode::{Budget, Displaced, Idle, Used};
    let for_nothing = |worker: &Worker| {
        worker.cause().is_some_and(|cause| matches!(cause.code, Budget | Displaced | Idle | Used))
    };
    let builds = store.builds(&BuildFilter::default(), ALL).await.unwrap();
    for worker in workers {
        let given: Vec<_> = builds.iter().filter(|build| build.worker == Some(worker.id)).collect();
        assert_eq!(i64::try_from(given.len()), Ok(worker.builds_done), "{given:#?} were on {worker:#?}");
        let lost = given.iter().find(|build| build.result != Some(BuildResult::Success));
        assert!(lost.is_none() || !for_nothing(worker), "{lost:#?} was on {worker:#?}");
    }
}

/// In no hour did the pool with a budget cost more than that, as far as each of its workers did what it was counted with: to boot in time, one build,
/// and to be gone a minute later.
fn check_spend(workers: &[Worker]) {
    let counted = Duration::from_secs(90 + 120) + budget::TEARDOWN;
    let hour = Duration::from_secs(3600);
    for from in (-1..3).map(|number| Timestamp(START.0 + 3_600_000_000 * number)) {
        let cost = workers.iter().filter(|worker| worker.pool == "big").map(|worker| {
            let Some(began) = worker.accepted else { return Money::default() };
            let ended = worker.gone.expect("it is gone").min(began + counted);
            worker.price.over(ended.min(from + hour).since(began.max(from)))
        });
        let spent: Money = cost.sum();
        assert!(spent <= BUDGET, "{spent} were spent in an hour");
    }
}
