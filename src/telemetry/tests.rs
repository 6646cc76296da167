mod answers;
mod told;

use super::*;
use crate::api::tests::world::World;
use crate::telemetry::openmetrics::{Span, metrics};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric};

const SPAN: Span = Span { since: Timestamp(1_000), now: Timestamp(2_000) };

fn one(page: &str) -> Metric {
    let mut all = metrics(page, SPAN);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn labels(of: &[KeyValue]) -> Vec<(&str, &str)> {
    let pair = |pair: &KeyValue| match &pair.value {
        Some(AnyValue { value: Some(Value::StringValue(_)) }) => (),
        other => panic!("{other:?}"),
    };
    of.iter().for_each(pair);
    of.iter()
        .filter_map(|pair| match pair.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some((pair.key.as_str(), text.as_str())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_counter_is_a_sum_that_only_rises_since_the_master_began() {
    let page = "# HELP rouse_idle_seconds Time that slots had none.\n# TYPE rouse_idle_seconds counter\n\
                # UNIT rouse_idle_seconds seconds\nrouse_idle_seconds_total{pool=\"a\\\\b\\\"c\\nd\",x=\"y,z}\"} 1.5\n# EOF\n";
    let metric = one(page);
    assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("rouse_idle_seconds_total", "s"));
    assert_eq!(metric.description, "Time that slots had none");
    let Some(Data::Sum(sum)) = metric.data else { panic!("{metric:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality() == AggregationTemporality::Cumulative);
    let [point] = &sum.data_points[..] else { panic!("{sum:?}") };
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1_000_000, 2_000_000));
    assert_eq!(labels(&point.attributes), [("pool", "a\\b\"c\nd"), ("x", "y,z}")]);
    assert_eq!(
        point.value,
        Some(opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble(1.5))
    );
}

#[test]
fn buckets_are_sent_as_what_is_in_them() {
    let page = "# HELP h How long.\n# TYPE h histogram\nh_sum{pool=\"a\"} 7.25\nh_count{pool=\"a\"} 4\n\
                h_bucket{le=\"1.0\",pool=\"a\"} 1\nh_bucket{le=\"5.0\",pool=\"a\"} 3\nh_bucket{le=\"+Inf\",pool=\"a\"} 4\n\
                h_sum{pool=\"b\"} 0.0\nh_count{pool=\"b\"} 0\nh_bucket{le=\"1.0\",pool=\"b\"} 0\nh_bucket{le=\"5.0\",pool=\"b\"} 0\n\
                h_bucket{le=\"+Inf\",pool=\"b\"} 0\n# EOF\n";
    let Some(Data::Histogram(histogram)) = one(page).data else { panic!("no histogram") };
    let [a, b] = &histogram.data_points[..] else { panic!("{histogram:?}") };
    assert_eq!(
        (a.count, a.sum, &a.bucket_counts[..], &a.explicit_bounds[..]),
        (4, Some(7.25), &[1, 2, 1][..], &[1.0, 5.0][..])
    );
    assert_eq!((b.count, b.sum, &b.bucket_counts[..]), (0, Some(0.0), &[0, 0, 0][..]));
    assert_eq!(labels(&b.attributes), [("pool", "b")]);
}

/// What is not understood would be missing without a word.
#[tokio::test]
async fn nothing_of_the_page_is_left_out() {
    let world = World::seeded().await;
    world.ctx.metrics.matched("here", Duration::from_millis(300));
    let page = world.ctx.metrics.scrape(&world.ctx).await;
    let all = metrics(&page, SPAN);
    let series = page.lines().filter(|line| !line.starts_with('#'));
    let plain = series.clone().filter(|line| !line.contains("_bucket") && !line.contains("_sum")).count();
    let points = |metric: &Metric| match metric.data.as_ref() {
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Histogram(histogram)) => {
            for point in &histogram.data_points {
                assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count, "{}", metric.name);
                assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{}", metric.name);
            }
            histogram.data_points.len()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(all.iter().map(points).sum::<usize>(), plain, "{page}");
    assert!(plain > 30);
}

#[test]
fn pauses_grow_to_a_bound_and_what_the_collector_asks_for_counts() {
    let mut fortune = Fortune::default();
    let mut next = |after, chance| fortune.failed("traces", "away".to_owned(), after, chance);
    assert_eq!(next(None, 1.0), Duration::from_secs(1));
    assert_eq!(next(None, 0.0), Duration::from_secs(1));
    assert_eq!(next(Some(Duration::from_secs(7)), 0.0), Duration::from_secs(7));
    for _ in 0..40 {
        next(None, 1.0);
    }
    assert_eq!(next(Some(Duration::from_secs(86_400)), 1.0), LONGEST);
    fortune.succeeded("traces");
    assert_eq!(fortune.failed("traces", "away".to_owned(), None, 1.0), Duration::from_secs(1));
}
