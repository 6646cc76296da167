//! Traces of builds and the master's metrics, as a collector of OpenTelemetry gets them.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use crate::harness::collector::{int, spans_of, text};
use crate::harness::master::free_port;
use crate::harness::{Bench, Build, Collector, GitRepo, Options, Scratch, wait};

fn config(endpoint: &str, more: &str) -> String {
    format!(
        "server:\n  url: https://ci.example.org\n  telemetry: {{endpoint: '{endpoint}'{more}}}\npools:\n  here: {{local: {{}}}}\n\
         builders:\n  red:\n    steps:\n      - {{name: fine, run: 'echo $TRACEPARENT'}}\n      - {{name: broken, run: 'exit 3'}}\n  \
         good: {{steps: [{{name: fine, run: 'true'}}]}}\n"
    )
}

/// A trace's spans, found by their names.
struct Trace(Vec<Span>);

impl Trace {
    fn named(&self, name: &str) -> &Span {
        let found: Vec<&Span> = self.0.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {:?}", self.0.iter().map(|s| &s.name).collect::<Vec<_>>());
        found[0]
    }

    /// One stands below another, and within its time.
    fn is_within(&self, name: &str, parent: &str) {
        let (span, parent) = (self.named(name), self.named(parent));
        assert_eq!(span.parent_span_id, parent.span_id, "{name}");
        assert!(parent.start_time_unix_nano <= span.start_time_unix_nano, "{name}: {parent:?} {span:?}");
        assert!(span.end_time_unix_nano <= parent.end_time_unix_nano, "{name}: {parent:?} {span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    }

    fn has(&self, name: &str, expected: &[(&str, &str)]) {
        let span = self.named(name);
        for (key, value) in expected {
            assert_eq!(text(&span.attributes, key), Some(*value), "{key} of {span:#?}");
        }
    }
}

fn status(span: &Span) -> (StatusCode, &str) {
    span.status.as_ref().map_or((StatusCode::Unset, ""), |status| (status.code(), &status.message))
}

#[test]
fn a_red_build_is_a_trace_of_what_was_waited_for_and_what_its_steps_did() {
    let collector = Collector::start();
    let scratch = Scratch::new();
    let secret = scratch.path().join("collector");
    std::fs::write(&secret, "Bearer kept-secret\n").expect("it is ours");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let headers = ", metrics: never, headers: {authorization: secret:collector, x-scope: ci}";
    let config =
        format!("secrets: {{collector: {{file: {}}}}}\n{}", secret.display(), config(&collector.endpoint(), headers));
    let bench = Bench::within(scratch, &config, Options::default());
    let request = bench.start("red");
    let build = bench.ended(request);
    build.must_be("failure");
    let trace = Trace(collector.trace_of(request));
    let names: BTreeSet<&str> = trace.0.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["BUILD red", "wait", "boot", "build red", "fine", "broken"].into());
    for (name, parent) in [
        ("wait", "BUILD red"),
        ("boot", "wait"),
        ("build red", "BUILD red"),
        ("fine", "build red"),
        ("broken", "build red"),
    ] {
        trace.is_within(name, parent);
    }
    let (root, wait, ran) = (trace.named("BUILD red"), trace.named("wait"), trace.named("build red"));
    assert!(root.parent_span_id.is_empty() && root.kind() == SpanKind::Server, "{root:#?}");
    assert_eq!(wait.end_time_unix_nano, ran.start_time_unix_nano);
    assert!(trace.named("fine").end_time_unix_nano <= trace.named("broken").start_time_unix_nano);
    has_its_attributes(&trace, &build);
    assert_eq!(status(trace.named("fine")), (StatusCode::Unset, ""));
    assert_eq!(status(trace.named("broken")).0, StatusCode::Error);
    assert_eq!(status(ran), (StatusCode::Error, build.summary()));
    // What runs in a step knows where its own spans belong.
    let fine = trace.named("fine");
    let told = format!("00-{}-{}-01\n", hex::encode(&fine.trace_id), hex::encode(&fine.span_id));
    assert_eq!(build.text("fine"), told);
    let came = collector.came();
    for header in [("authorization", "Bearer kept-secret"), ("x-scope", "ci"), ("content-type", "application/x-protobuf")] {
        assert!(came[0].headers.iter().any(|(n, v)| (n.as_str(), v.as_str()) == header), "{:?}", came[0].headers);
    }
    assert!(!bench.master.log().contains("kept-secret"));
}

fn has_its_attributes(trace: &Trace, build: &Build) {
    let id = build.id().to_string();
    let url = format!("https://ci.example.org/api/v1/builds/{id}");
    let run = [("cicd.pipeline.run.id", id.as_str()), ("cicd.pipeline.run.url.full", url.as_str())];
    for name in ["BUILD red", "wait", "build red"] {
        trace.has(name, &run);
    }
    for name in ["BUILD red", "build red"] {
        trace.has(
            name,
            &[
                ("cicd.pipeline.name", "red"),
                ("cicd.pipeline.result", "failure"),
                ("error.type", "failure"),
                ("rouse.result", "failure"),
                ("rouse.project", "default"),
                ("rouse.trust", "trusted"),
            ],
        );
    }
    let worker = build.detail["worker"].as_i64().expect("it had one").to_string();
    for name in ["boot", "build red"] {
        let expected = [("cicd.worker.id", worker.as_str()), ("rouse.pool", "here"), ("rouse.provider", "local")];
        trace.has(name, &expected);
    }
    trace.has("wait", &[("cicd.pipeline.run.state", "pending")]);
    trace.has("fine", &[("cicd.pipeline.task.name", "fine"), ("cicd.pipeline.task.run.result", "success")]);
    let step = build.step("broken")["id"].as_i64().expect("a number").to_string();
    trace.has("broken", &[("cicd.pipeline.task.run.id", &step), ("cicd.pipeline.task.run.result", "failure")]);
}
