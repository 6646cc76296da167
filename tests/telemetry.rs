//! Traces of builds and the master's metrics, as a collector of OpenTelemetry gets them.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use crate::harness::collector::{int, spans_of, text};
use crate::harness::master::free_port;
use crate::harness::{Bench, Build, Collector, Database, GitRepo, Master, Options, Scratch, builds, wait};

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
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("it is ours");
    let headers = ", metrics: never, headers: {authorization: secret:collector, x-scope: ci}";
    let config = format!(
        "secrets: {{collector: {{file: {}}}}}\n{}",
        secret.display(),
        config(&collector.endpoint(), headers)
    );
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
    for header in [
        ("authorization", "Bearer kept-secret"),
        ("x-scope", "ci"),
        ("content-type", "application/x-protobuf"),
    ] {
        assert!(
            came[0].headers.iter().any(|(n, v)| (n.as_str(), v.as_str()) == header),
            "{:?}",
            came[0].headers
        );
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
                ("error.type", "user"),
                ("rouse.result", "failure"),
                ("rouse.project", "default"),
                ("rouse.trust", "trusted"),
            ],
        );
    }
    let worker = build.detail["worker"]["id"].as_i64().expect("it had one").to_string();
    for name in ["boot", "build red"] {
        let expected =
            [("cicd.worker.id", worker.as_str()), ("rouse.pool", "here"), ("rouse.provider", "local")];
        trace.has(name, &expected);
    }
    trace.has("wait", &[("cicd.pipeline.run.state", "pending")]);
    trace.has("fine", &[("cicd.pipeline.task.name", "fine"), ("cicd.pipeline.task.run.result", "success")]);
    let step = build.step("broken")["id"].as_i64().expect("a number").to_string();
    trace
        .has("broken", &[("cicd.pipeline.task.run.id", &step), ("cicd.pipeline.task.run.result", "failure")]);
}

/// Those that were taken, each as often as it came, by their ids.
fn by_id(collector: &Collector) -> BTreeMap<Vec<u8>, Vec<Span>> {
    let mut all: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
    for span in collector.spans() {
        all.entry(span.span_id.clone()).or_default().push(span);
    }
    all
}

#[test]
fn what_ended_while_the_collector_or_the_master_was_away_is_told_afterwards() {
    let port = free_port();
    let config = config(&format!("http://127.0.0.1:{port}"), ", metrics: never");
    let mut bench = Bench::new(&config);
    // Nobody is there: the builds go on all the same.
    let early = bench.start("red");
    bench.ended(early).must_be("failure");
    wait::until_true("the trouble to be told", wait::SOON, || {
        bench.master.log().contains("telemetry cannot be sent")
    });
    let late = bench.start("good");
    bench.ended(late).must_be("success");
    bench.master.kill9();
    let collector = Collector::at(port);
    // Killed again, with the traces sent and not noted as such.
    bench.master.set_environment(vec![("ROUSE_FAILPOINT".to_owned(), "telemetry.told:before".to_owned())]);
    bench.master.spawn();
    bench.master.wait_for_end(wait::A_BUILD);
    assert!(!collector.spans().is_empty());
    bench.master.set_environment(Vec::new());
    bench.master.run();
    for (request, spans) in [(early, 6), (late, 5)] {
        assert_eq!(
            collector.trace_of(request).iter().map(|s| &s.span_id).collect::<BTreeSet<_>>().len(),
            spans
        );
    }
    let after = bench.start("good");
    bench.ended(after).must_be("success");
    collector.trace_of(after);
    // What came twice is the same.
    let all = by_id(&collector);
    assert!(all.values().any(|times| times.len() > 1), "it was killed between the two");
    for times in all.values() {
        assert!(times.iter().all(|span| *span == times[0]), "{times:#?}");
    }
}

#[test]
fn of_two_masters_one_tells_and_the_other_tells_the_same_where_it_was_killed() {
    let Some(database) = Database::fresh_postgres() else { return };
    let collector = Collector::start();
    let scratch = Scratch::new();
    let config = format!("version: 1\n{}", config(&collector.endpoint(), ", metrics: never"));
    let options = |name: &str| Options {
        name: name.into(),
        database: database.clone(),
        flags: vec!["--objects".into(), scratch.path().join("objects").display().to_string()],
        ..Options::default()
    };
    // Killed with its first traces sent and not noted as such.
    let mut one = Master::start(
        scratch.path(),
        &config,
        Options {
            environment: vec![("ROUSE_FAILPOINT".to_owned(), "telemetry.told:before".to_owned())],
            ..options("one")
        },
    );
    one.api().until("the first to tell", "/master", wait::SOON, |master| {
        let roles = &master["masters"].as_array()?.first()?["roles"];
        roles.as_array()?.contains(&json!("traces")).then_some(())
    });
    let mut two = Master::prepare(scratch.path(), &config, options("two"));
    two.join(&one);
    two.run();
    let api = two.api();
    let red = builds::start(&api, "red", json!({}));
    one.wait_for_end(wait::A_BUILD);
    assert_eq!(api.until_built(red)["result"], "failure");
    assert!(!collector.spans().is_empty());
    let good = builds::start(&api, "good", json!({}));
    assert_eq!(api.until_built(good)["result"], "success");
    collector.trace_of(good);
    for (request, spans) in [(red, 6), (good, 5)] {
        let ids = collector.trace_of(request).into_iter().map(|span| span.span_id);
        assert_eq!(ids.collect::<BTreeSet<_>>().len(), spans);
    }
    let of_red = |span: &Span| int(&span.attributes, "rouse.request.id") == Some(red);
    let all = by_id(&collector);
    assert!(all.values().any(|times| times.len() == 2 && of_red(&times[0])), "both have told it");
    for times in all.values() {
        assert!(times.iter().all(|span| *span == times[0]), "{times:#?}");
    }
}

#[test]
fn a_trace_that_is_refused_holds_up_no_other() {
    let collector = Collector::start();
    collector.judge(|_, _| 503);
    let bench = Bench::new(&config(&collector.endpoint(), ", metrics: never"));
    let requests = [bench.start("good"), bench.start("good"), bench.start("good")];
    for request in requests {
        bench.ended(request).must_be("success");
    }
    wait::until_true("a sending in vain", wait::SOON, || !collector.came().is_empty());
    let refused = requests[1];
    collector.judge(move |_, body| {
        let spans = spans_of(body);
        if spans.iter().any(|span| int(&span.attributes, "rouse.request.id") == Some(refused)) {
            400
        } else {
            200
        }
    });
    collector.trace_of(requests[0]);
    collector.trace_of(requests[2]);
    let of_refused = |span: &Span| int(&span.attributes, "rouse.request.id") == Some(refused);
    assert!(!collector.spans().iter().any(of_refused));
    let log = bench.master.log();
    assert!(log.contains("the collector refuses a trace, which is left out"), "{log}");
    assert!(log.contains("answered 503"), "{log}");
    // Nothing is tried for ever.
    let last = bench.start("good");
    bench.ended(last).must_be("success");
    collector.trace_of(last);
    let page = String::from_utf8(bench.api.bytes("/metrics")).expect("text");
    let counted = "rouse_telemetry_exports_total{signal=\"traces\",outcome=\"refused\"}";
    assert!(page.lines().any(|line| line.starts_with(counted)), "{page}");
}

#[test]
fn a_triggered_build_is_linked_to_what_started_it_and_a_commit_is_named() {
    let collector = Collector::start();
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    let config = format!(
        "server: {{telemetry: {{endpoint: '{}', metrics: never}}}}\ncodebases: {{app: {{git: '{}', branches: main}}}}\n\
         pools: {{here: {{local: {{}}, max: 2}}}}\nbuilders:\n  parent: {{steps: [{{checkout: app}}, {{trigger: child}}]}}\n  \
         child: {{steps: [{{run: 'true'}}]}}\n",
        collector.endpoint(),
        repo.url(),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    bench.api.until_looked(&["app"]);
    let request = bench.start_with("parent", &json!({"sources": [{"codebase": "app", "branch": "main"}]}));
    let parent = bench.ended(request);
    parent.must_be("success");
    let trace = Trace(collector.trace_of(request));
    trace.has(
        "BUILD parent",
        &[
            ("vcs.repository.name", "app"),
            ("vcs.repository.url.full", &repo.url()),
            ("vcs.ref.head.name", "main"),
            ("vcs.ref.head.revision", repo.head().trim()),
        ],
    );
    let child = bench.api.list("/requests?builder=child")[0]["id"].as_i64().expect("a number");
    let child = Trace(collector.trace_of(child));
    let link = &child.named("BUILD child").links[0];
    let started_by = trace.named("build parent");
    assert_eq!((&link.trace_id, &link.span_id), (&started_by.trace_id, &started_by.span_id));
    assert_ne!(link.trace_id, child.named("BUILD child").trace_id);
}

#[test]
fn the_metrics_that_are_sent_are_those_that_are_read() {
    let collector = Collector::start();
    let bench = Bench::new(&config(&collector.endpoint(), ", metrics: 1s, traces: false"));
    bench.run("good").must_be("success");
    bench.run("red").must_be("failure");
    // What is true of both pages for good, once all is counted.
    let lasting = |name: &str| {
        [
            "rouse_builds_total",
            "rouse_build_seconds",
            "rouse_queue_seconds",
            "rouse_boot_seconds",
            "rouse_launches_total",
            "rouse_pool_max",
        ]
        .iter()
        .any(|of| name.starts_with(of))
    };
    let sent = || collector.metrics().pop().map(|all| all.iter().flat_map(lines_of).collect::<BTreeSet<_>>());
    let read = || {
        let page = String::from_utf8(bench.api.bytes("/metrics")).expect("text");
        page.lines().filter(|line| !line.starts_with('#')).map(sorted).collect::<BTreeSet<_>>()
    };
    wait::until_true("what is sent to be what is read", wait::SOON, || {
        let (Some(sent), read) = (sent(), read()) else { return false };
        let only =
            |of: &BTreeSet<String>| of.iter().filter(|line| lasting(line)).cloned().collect::<BTreeSet<_>>();
        only(&sent).len() > 40 && only(&sent) == only(&read)
    });
    let names = |of: &BTreeSet<String>| {
        of.iter()
            .map(|line| line.split([' ', '{']).next().unwrap_or_default().to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&sent().expect("some came")), names(&read()));
    assert!(collector.spans().is_empty(), "they are not wanted");
    let page = String::from_utf8(bench.api.bytes("/metrics")).expect("text");
    assert!(
        !page.contains("rouse_telemetry_exports_total{signal=\"metrics\",outcome=\"accepted\"} 0"),
        "{page}"
    );
}

/// `name{a="x",b="y"} 1` with its labels in order and its value as a number.
fn sorted(line: &str) -> String {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value: f64 = value.parse().expect("a number");
    let Some((name, labels)) = series.split_once('{') else { return format!("{series} {value}") };
    let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}} {value}", labels.join(","))
}

/// A metric as it would be read.
fn lines_of(metric: &Metric) -> Vec<String> {
    let line = |end: &str, of: &[KeyValue], more: &[(&str, String)], value: f64| {
        let of = of.iter().map(|pair| (pair.key.as_str(), text(of, &pair.key).expect("a text").to_owned()));
        let labels = of.chain(more.iter().cloned()).map(|(name, value)| format!("{name}=\"{value}\""));
        let labels: Vec<String> = labels.collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        sorted(&format!("{}{end}{labels} {value}", metric.name))
    };
    let number = |point: &NumberDataPoint| match point.value {
        Some(Number::AsDouble(value)) => line("", &point.attributes, &[], value),
        ref other => panic!("{other:?}"),
    };
    match metric.data.as_ref().expect("it has points") {
        Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.data_points.iter().all(|point| point.start_time_unix_nano > 0));
            sum.data_points.iter().map(number).collect()
        }
        Data::Gauge(gauge) => gauge.data_points.iter().map(number).collect(),
        Data::Histogram(histogram) => {
            let mut lines = Vec::new();
            for point in &histogram.data_points {
                let of = &point.attributes;
                lines.push(line("_sum", of, &[], point.sum.expect("a sum")));
                lines.push(line("_count", of, &[], point.count as f64));
                let bounds = point.explicit_bounds.iter().map(|bound| format!("{bound:?}"));
                let mut below = 0;
                for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&point.bucket_counts) {
                    below += count;
                    lines.push(line("_bucket", of, &[("le", bound)], below as f64));
                }
            }
            lines
        }
        other => panic!("{other:?}"),
    }
}
