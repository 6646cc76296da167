//! Stories that no scene tells: several attempts, launches that failed, a worker that was there before, an end without a build.

use crate::telemetry::nanoseconds;
use crate::telemetry::spans::of_story;
use crate::telemetry::story::{Attempt, Story};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use rouse_model::approval::{Approval, ApprovalOf, Given};
use rouse_model::buildset::LaunchFailure;
use rouse_model::failure::FailureClass;
use rouse_model::trace::{Origin, Part};
use rouse_model::{BuildId, BuildResult, Timestamp};
use rouse_store::testing::samples;
use std::time::Duration;

const HERE: Origin<'static> = Origin { installation: "here", epoch: 1 };

/// Seconds after the wish.
fn at(seconds: u64) -> Timestamp {
    samples::request(1).created + Duration::from_secs(seconds)
}

/// A build from its worker to its end, whose worker was wanted at a moment and came at another.
fn attempt(id: i64, (wanted, came): (u64, u64), (from, to): (u64, u64), result: BuildResult) -> Attempt {
    let mut build = samples::build(id);
    (build.request, build.attempt) = (samples::request(1).id, id);
    (build.matched, build.finished, build.result) = (at(from), Some(at(to)), Some(result));
    let mut worker = samples::worker(id);
    (worker.requested, worker.attached) = (at(wanted), Some(at(came)));
    let mut step = samples::step(id);
    (step.build, step.started, step.finished, step.result) = (build.id, at(from), None, None);
    Attempt { build, worker: Some(worker), steps: vec![step] }
}

fn story(attempts: Vec<Attempt>, result: BuildResult, end: u64) -> Story {
    let mut request = samples::request(1);
    (request.done, request.result) = (Some(at(end)), Some(result));
    Story { request, buildset: samples::buildset(1), source: None, parent: None, attempts }
}

fn spans(story: &Story) -> Vec<Span> {
    of_story(story, HERE, "http://here/")
}

fn of(spans: &[Span], part: Part) -> Option<&Span> {
    let id = HERE.span(part).0;
    spans.iter().find(|span| span.span_id == id)
}

fn times(span: &Span) -> (u64, u64) {
    (span.start_time_unix_nano, span.end_time_unix_nano)
}

fn between(from: u64, to: u64) -> (u64, u64) {
    (nanoseconds(at(from)), nanoseconds(at(to)))
}

#[test]
fn each_attempt_waits_and_runs_in_the_same_trace() {
    let lost = attempt(1, (0, 10), (10, 30), BuildResult::Retry);
    let good = attempt(2, (31, 40), (41, 50), BuildResult::Success);
    let mut story = story(vec![lost, good], BuildResult::Success, 50);
    let failure = |class, seconds| LaunchFailure {
        worker: None,
        pool: "p".into(),
        class,
        message: "no".into(),
        at: at(seconds),
    };
    story.request.provision.failures = vec![failure(FailureClass::Quota, 5), failure(FailureClass::Boot, 35)];
    let given = Given { by: "ann".into(), reason: None, at: at(1) };
    story.request.approval = Some(Approval { of: ApprovalOf::All, given: Some(given) });
    let spans = spans(&story);
    assert_eq!(spans.len(), 9);
    assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id));
    let first = of(&spans, Part::Wait(BuildId(1))).unwrap();
    let second = of(&spans, Part::Wait(BuildId(2))).unwrap();
    assert_eq!((times(first), times(second)), (between(0, 10), between(30, 41)));
    let names = |span: &Span| span.events.iter().map(|event| event.name.clone()).collect::<Vec<_>>();
    for wait in [first, second] {
        assert_eq!(names(wait).iter().filter(|name| *name == "launch failed").count(), 1, "{wait:#?}");
    }
    assert_eq!(names(of(&spans, Part::Request(story.request.id)).unwrap()), ["approved"]);
    let lost = of(&spans, Part::Build(BuildId(1))).unwrap();
    assert_eq!(lost.status.as_ref().unwrap().code(), StatusCode::Error);
    assert!(of(&spans, Part::Build(BuildId(2))).unwrap().status.is_none());
    // A step that was cut off ended with its build.
    let step = of(&spans, Part::Step(story.attempts[0].steps[0].id)).unwrap();
    assert_eq!(times(step), between(10, 30));
}

#[test]
fn a_worker_that_was_there_before_is_no_part_of_the_wait() {
    let story_of =
        |came| story(vec![attempt(1, (0, came), (10, 30), BuildResult::Success)], BuildResult::Success, 30);
    let told = spans(&story_of(9));
    let boot = of(&told, Part::Boot(BuildId(1))).unwrap();
    assert!(boot.attributes.iter().any(|attribute| attribute.key == "rouse.offering"), "{boot:#?}");
    let mut story = story_of(9);
    story.request.created = at(9);
    assert!(of(&spans(&story), Part::Boot(BuildId(1))).is_none(), "it was up when the wish came");
}

#[test]
fn who_never_had_a_build_has_waited_in_vain() {
    let story = story(Vec::new(), BuildResult::Cancelled, 7);
    let spans = spans(&story);
    assert_eq!(spans.len(), 2);
    assert_eq!(times(of(&spans, Part::WaitInVain(story.request.id)).unwrap()), between(0, 7));
    assert!(spans.iter().all(|span| span.status.is_none()), "nothing failed");
}
