//! A request's rows as the spans of a trace, by the conventions for CI/CD: docs/telemetry.md.

use super::story::{Attempt, Story};
use super::{attribute, nanoseconds, text};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use opentelemetry_semantic_conventions::attribute as of;
use rouse_model::build::Step;
use rouse_model::failure::FailureClass;
use rouse_model::trace::{Origin, Part, TraceId};
use rouse_model::worker::Worker;
use rouse_model::{BuildResult, Timestamp};

/// A summary may quote what a build has printed.
const MAX_SUMMARY: usize = 1_000;
/// Sampled, as the W3C has it: what is told is told whole.
const SAMPLED: u32 = 1;

/// All spans of a story that is at its end.
pub(super) fn of_story(story: &Story, origin: Origin<'_>, url: &str) -> Vec<Span> {
    Telling { story, origin, url, trace: origin.trace(story.request.id) }.all()
}

struct Telling<'a> {
    story: &'a Story,
    origin: Origin<'a>,
    url: &'a str,
    trace: TraceId,
}

impl Telling<'_> {
    fn all(&self) -> Vec<Span> {
        let mut spans = vec![self.root()];
        let mut free = self.story.request.created;
        for attempt in &self.story.attempts {
            spans.push(self.wait(attempt, free));
            spans.extend(attempt.worker.as_ref().and_then(|worker| self.boot(attempt, worker, free)));
            spans.push(self.build(attempt));
            let end = attempt.build.finished.unwrap_or(free);
            spans.extend(attempt.steps.iter().map(|step| self.step(attempt, step, end)));
            free = end;
        }
        if self.story.attempts.is_empty() {
            let id = self.story.request.id;
            let (from, to) = (self.story.request.created, self.end());
            let mut span = self.span(Part::WaitInVain(id), Some(Part::Request(id)), "wait", (from, to));
            span.attributes.push(text(of::CICD_PIPELINE_RUN_STATE, "pending"));
            span.events = self.failures(from, to);
            spans.push(span);
        }
        spans
    }

    fn end(&self) -> Timestamp {
        let request = &self.story.request;
        request.done.unwrap_or(request.created)
    }

    fn span(&self, part: Part, parent: Option<Part>, name: &str, (from, to): (Timestamp, Timestamp)) -> Span {
        Span {
            trace_id: self.trace.0.to_vec(),
            span_id: self.origin.span(part).0.to_vec(),
            parent_span_id: parent.map(|parent| self.origin.span(parent).0.to_vec()).unwrap_or_default(),
            flags: SAMPLED,
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: nanoseconds(from),
            end_time_unix_nano: nanoseconds(to.max(from)),
            ..Span::default()
        }
    }

    /// From the wish to its end.
    fn root(&self) -> Span {
        let Story { request, buildset, source, parent, attempts } = self.story;
        let name = format!("BUILD {}", request.builder);
        let mut span = self.span(Part::Request(request.id), None, &name, (request.created, self.end()));
        span.kind = SpanKind::Server.into();
        let last = attempts.last().map(|attempt| &attempt.build);
        let result = request.result.unwrap_or(BuildResult::Exception);
        ended(&mut span, of::CICD_PIPELINE_RESULT, result, last.and_then(|build| build.class));
        if let Some(last) = last {
            told(&mut span, result, &last.summary);
            span.attributes.extend(self.run(last.id.0));
        }
        span.attributes.extend([
            text(of::CICD_PIPELINE_ACTION_NAME, "BUILD"),
            text(of::CICD_PIPELINE_NAME, &*request.builder),
            number("rouse.request.id", request.id.0),
            number("rouse.buildset.id", buildset.id.0),
            number("rouse.attempts", i64::try_from(attempts.len()).unwrap_or(i64::MAX)),
            text("rouse.project", &*request.project),
            text("rouse.trust", request.trust.as_str()),
            text("rouse.reason", &*buildset.reason),
        ]);
        span.attributes.extend(buildset.scheduler.as_deref().map(|name| text("rouse.scheduler", name)));
        if let Some((stamp, url)) = source {
            let parts = [
                (of::VCS_REPOSITORY_NAME, Some(stamp.codebase.as_str())),
                (of::VCS_REPOSITORY_URL_FULL, url.as_deref()),
                (of::VCS_REF_HEAD_NAME, stamp.branch.as_deref()),
                (of::VCS_REF_HEAD_REVISION, stamp.revision.as_deref()),
            ];
            span.attributes.extend(parts.into_iter().filter_map(|(key, part)| Some(text(key, part?))));
        }
        if let Some(given) = request.approval.as_ref().and_then(|approval| approval.given.as_ref()) {
            span.events.push(event(given.at, "approved", vec![text("rouse.approved_by", &*given.by)]));
        }
        span.links.extend(parent.map(|(request, build)| Link {
            trace_id: self.origin.trace(request).0.to_vec(),
            span_id: self.origin.span(Part::Build(build)).0.to_vec(),
            attributes: vec![text("rouse.link", "started by")],
            flags: SAMPLED,
            ..Link::default()
        }));
        span
    }

    /// By what a person finds the build again.
    fn run(&self, build: i64) -> [KeyValue; 2] {
        [
            text(of::CICD_PIPELINE_RUN_ID, build.to_string()),
            text(of::CICD_PIPELINE_RUN_URL_FULL, self.address("builds", build)),
        ]
    }

    fn address(&self, what: &str, id: i64) -> String {
        format!("{}/api/v1/{what}/{id}", self.url.trim_end_matches('/'))
    }

    /// From when nothing of it ran to when it was given a worker.
    fn wait(&self, attempt: &Attempt, from: Timestamp) -> Span {
        let build = &attempt.build;
        let parent = Some(Part::Request(build.request));
        let mut span = self.span(Part::Wait(build.id), parent, "wait", (from, build.matched));
        span.attributes.extend(self.run(build.id.0));
        span.attributes.push(text(of::CICD_PIPELINE_RUN_STATE, "pending"));
        if from < build.provisioned_from && build.provisioned_from < build.matched {
            span.events.push(event(build.provisioned_from, "provisioning", Vec::new()));
        }
        span.events.extend(self.failures(from, build.matched));
        span
    }

    /// Launches that failed meanwhile.
    fn failures(&self, from: Timestamp, to: Timestamp) -> Vec<Event> {
        let failures = self.story.request.provision.failures.iter();
        let told = failures.filter(|failure| (from..=to).contains(&failure.at)).map(|failure| {
            let about = vec![
                text("rouse.pool", &*failure.pool),
                text(of::ERROR_TYPE, failure.class.as_str()),
                text("rouse.message", shortened(&failure.message)),
            ];
            event(failure.at, "launch failed", about)
        });
        told.collect()
    }

    /// How its worker came, where that is a part of what was waited for.
    fn boot(&self, attempt: &Attempt, worker: &Worker, from: Timestamp) -> Option<Span> {
        let build = &attempt.build;
        let attached = worker.attached.filter(|attached| *attached > from && *attached <= build.matched)?;
        let parent = Some(Part::Wait(build.id));
        let mut span = self.span(Part::Boot(build.id), parent, "boot", (worker.requested, attached));
        span.attributes.extend(self.of_worker(worker));
        span.events.extend(worker.accepted.map(|accepted| event(accepted, "accepted", Vec::new())));
        Some(span)
    }

    fn of_worker(&self, worker: &Worker) -> impl Iterator<Item = KeyValue> {
        let offering = worker.offering.as_deref().map(|name| text("rouse.offering", name));
        let known = [
            text(of::CICD_WORKER_ID, worker.id.to_string()),
            text(of::CICD_WORKER_NAME, &*worker.name),
            text(of::CICD_WORKER_URL_FULL, self.address("workers", worker.id.0)),
            text("rouse.pool", &*worker.pool),
            text("rouse.provider", &*worker.provider),
        ];
        known.into_iter().chain(offering)
    }

    /// From its worker to its end.
    fn build(&self, attempt: &Attempt) -> Span {
        let build = &attempt.build;
        let (name, end) = (format!("build {}", build.builder), build.finished.unwrap_or(build.matched));
        let parent = Some(Part::Request(build.request));
        let mut span = self.span(Part::Build(build.id), parent, &name, (build.matched, end));
        let result = build.result.unwrap_or(BuildResult::Exception);
        ended(&mut span, of::CICD_PIPELINE_RESULT, result, build.class);
        told(&mut span, result, &build.summary);
        span.attributes.extend(self.run(build.id.0));
        span.attributes.extend([
            text(of::CICD_PIPELINE_NAME, &*build.builder),
            text(of::CICD_PIPELINE_RUN_STATE, "executing"),
            number("rouse.attempt", build.attempt),
            number("rouse.config.revision", build.config.0),
            text("rouse.project", &*build.project),
            text("rouse.trust", build.trust.as_str()),
        ]);
        if let Some(worker) = &attempt.worker {
            span.attributes.extend(self.of_worker(worker));
            span.attributes.push(text(of::CICD_WORKER_STATE, "busy"));
        }
        let moments = [("running", build.running_from), ("finishing", build.finishing_from)];
        span.events =
            moments.into_iter().filter_map(|(name, at)| Some(event(at?, name, Vec::new()))).collect();
        span
    }

    /// One that has no end of its own ended with its build.
    fn step(&self, attempt: &Attempt, step: &Step, end: Timestamp) -> Span {
        let times = (step.started, step.finished.unwrap_or(end));
        let mut span = self.span(Part::Step(step.id), Some(Part::Build(step.build)), &step.name, times);
        let result = step.result.or(attempt.build.result).unwrap_or(BuildResult::Exception);
        ended(&mut span, of::CICD_PIPELINE_TASK_RUN_RESULT, result, step.class);
        told(&mut span, result, &step.summary);
        span.attributes.extend([
            text(of::CICD_PIPELINE_TASK_NAME, &*step.name),
            text(of::CICD_PIPELINE_TASK_RUN_ID, step.id.to_string()),
            text(of::CICD_PIPELINE_TASK_RUN_URL_FULL, self.address("steps", step.id.0)),
        ]);
        span
    }
}

/// The result in the conventions' words and in our own, and what kind of error it was.
fn ended(span: &mut Span, key: &str, result: BuildResult, class: Option<FailureClass>) {
    let word = match result {
        BuildResult::Success | BuildResult::Warnings => "success",
        BuildResult::Failure => "failure",
        BuildResult::Skipped => "skip",
        BuildResult::Exception | BuildResult::Retry => "error",
        BuildResult::Cancelled => "cancellation",
    };
    span.attributes.extend([text(key, word), text("rouse.result", result.as_str())]);
    if is_error(result) {
        let kind = class.map_or(result.as_str(), FailureClass::as_str);
        span.attributes.push(text(of::ERROR_TYPE, kind));
        span.status = Some(Status { code: StatusCode::Error.into(), message: String::new() });
    }
}

/// What is said of it: with an error it is the span's status.
fn told(span: &mut Span, result: BuildResult, summary: &str) {
    let summary = shortened(summary);
    match &mut span.status {
        Some(status) if is_error(result) => status.message = summary,
        _ if summary.is_empty() => {}
        _ => span.attributes.push(text("rouse.summary", summary)),
    }
}

fn is_error(result: BuildResult) -> bool {
    matches!(result, BuildResult::Failure | BuildResult::Exception | BuildResult::Retry)
}

fn shortened(said: &str) -> String {
    said.chars().take(MAX_SUMMARY).collect()
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn event(at: Timestamp, name: &str, attributes: Vec<KeyValue>) -> Event {
    Event { time_unix_nano: nanoseconds(at), name: name.to_owned(), attributes, ..Event::default() }
}
