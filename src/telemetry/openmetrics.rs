//! The text of `/metrics` as the messages of OTLP: so what is sent is what is read there, and nobody counts anything twice.

use super::{nanoseconds, text};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};
use rouse_model::Timestamp;

/// What its first lines say of a metric.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    help: String,
    unit: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// From when to when something was counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub since: Timestamp,
    pub now: Timestamp,
}

/// All metrics of a page, in its order. A line that is none is left out.
pub(super) fn metrics(page: &str, span: Span) -> Vec<Metric> {
    families(page).into_iter().filter_map(|family| metric(family, span)).collect()
}

fn families(page: &str) -> Vec<Family> {
    let mut all: Vec<Family> = Vec::new();
    for line in page.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            if let (Some(family), Some(sample)) = (all.last_mut(), sample(line)) {
                family.samples.push(sample);
            }
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (Some(what), Some(name), Some(said)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if all.last().is_none_or(|family| family.name != name) {
            all.push(Family { name: name.to_owned(), ..Family::default() });
        }
        let Some(family) = all.last_mut() else { continue };
        match what {
            "HELP" => family.help = said.trim_end_matches('.').to_owned(),
            "TYPE" => family.kind = said.to_owned(),
            "UNIT" => family.unit = said.to_owned(),
            _ => {}
        }
    }
    all
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels_of(labels.strip_suffix('}')?)?),
        None => (series, Vec::new()),
    };
    Some(Sample { name: name.to_owned(), labels, value: number(value)? })
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        _ => text.parse().ok(),
    }
}

fn labels_of(mut rest: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        rest = loop {
            match chars.next()? {
                (at, '"') => break &after[at + 1..],
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

fn metric(family: Family, span: Span) -> Option<Metric> {
    let unit = if family.unit == "seconds" { "s".to_owned() } else { family.unit };
    let cumulative = AggregationTemporality::Cumulative.into();
    let (name, data) = match family.kind.as_str() {
        "counter" => {
            let data_points =
                family.samples.into_iter().map(|sample| point(sample, Some(span.since), span.now));
            let sum = Sum {
                data_points: data_points.collect(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            };
            // As it is read at `/metrics`; whoever makes Prometheus' names of these adds it only where it is missing.
            (format!("{}_total", family.name), Data::Sum(sum))
        }
        "gauge" => {
            let data_points =
                family.samples.into_iter().map(|sample| point(sample, None, span.now)).collect();
            (family.name, Data::Gauge(Gauge { data_points }))
        }
        "histogram" => {
            let data_points = histograms(&family.name, &family.samples, span);
            let histogram = Histogram { data_points, aggregation_temporality: cumulative };
            (family.name, Data::Histogram(histogram))
        }
        _ => return None,
    };
    Some(Metric { name, description: family.help, unit, data: Some(data), ..Metric::default() })
}

fn attributes(labels: Vec<(String, String)>) -> Vec<KeyValue> {
    labels.into_iter().map(|(name, value)| text(&name, value)).collect()
}

fn point(sample: Sample, since: Option<Timestamp>, now: Timestamp) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(sample.labels),
        start_time_unix_nano: since.map(nanoseconds).unwrap_or_default(),
        time_unix_nano: nanoseconds(now),
        value: Some(Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    }
}

/// One point for each combination of labels. Buckets are read as what is below their bound, and sent as what is in them.
fn histograms(name: &str, samples: &[Sample], span: Span) -> Vec<HistogramDataPoint> {
    let mut points: Vec<(Vec<(String, String)>, HistogramDataPoint)> = Vec::new();
    let mut below = 0;
    for sample in samples {
        let mut labels = sample.labels.clone();
        let bound = labels.iter().position(|(label, _)| label == "le").map(|at| labels.remove(at).1);
        if points.last().is_none_or(|(known, _)| *known != labels) {
            let point = HistogramDataPoint {
                attributes: attributes(labels.clone()),
                start_time_unix_nano: nanoseconds(span.since),
                time_unix_nano: nanoseconds(span.now),
                ..HistogramDataPoint::default()
            };
            points.push((labels, point));
            below = 0;
        }
        let Some((_, point)) = points.last_mut() else { continue };
        match (sample.name.strip_prefix(name), bound) {
            (Some("_sum"), _) => point.sum = Some(sample.value),
            (Some("_count"), _) => point.count = whole(sample.value),
            (Some("_bucket"), Some(bound)) => {
                let within = whole(sample.value);
                point.bucket_counts.push(within.saturating_sub(below));
                below = within;
                point.explicit_bounds.extend(number(&bound).filter(|bound| bound.is_finite()));
            }
            _ => {}
        }
    }
    points.into_iter().map(|(_, point)| point).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was counted")]
fn whole(value: f64) -> u64 {
    value as u64
}
