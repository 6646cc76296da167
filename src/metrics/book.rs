//! Metrics by their labels, and the book in which each of them stands with what the reference says of it.
//!
//! A label's values come from the code or from the configuration, never from what a build brings along: so the number of series has a bound.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// One metric, for the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// What can be counted or measured, for each combination of its labels.
pub(super) trait Measure:
    EncodeMetric + TypedMetric + Clone + fmt::Debug + Send + Sync + 'static
{
}

impl<M: EncodeMetric + TypedMetric + Clone + fmt::Debug + Send + Sync + 'static> Measure for M {}

/// One metric; clones are handles. Those that have no labels are made at once, so that they begin at zero.
#[derive(Debug, Clone)]
pub(super) struct Family<M, const N: usize>(Arc<Inner<M, N>>);

#[derive(Debug)]
struct Inner<M, const N: usize> {
    labels: &'static [&'static str; N],
    make: fn() -> M,
    known: Mutex<BTreeMap<[String; N], M>>,
}

impl<M: Measure, const N: usize> Family<M, N> {
    /// The one with these values of its labels, made at its first use.
    pub(super) fn of(&self, values: [&str; N]) -> M {
        let mut known = self.known();
        known.entry(values.map(str::to_owned)).or_insert_with(self.0.make).clone()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<[String; N], M>> {
        self.0.known.lock().expect("nothing panics while it is held")
    }
}

impl<M: Measure, const N: usize> EncodeMetric for Family<M, N> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        for (values, metric) in self.known().iter() {
            if N == 0 {
                return metric.encode(encoder);
            }
            let labels: [(&str, &str); N] =
                std::array::from_fn(|at| (self.0.labels[at], values[at].as_str()));
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.known().is_empty()
    }
}

/// Forgets what is about something that is not there any more.
trait Bounded: fmt::Debug + Send + Sync {
    fn keep(&self, is_there: &dyn Fn(&str, &str) -> bool);
}

impl<M: Measure, const N: usize> Bounded for Family<M, N> {
    fn keep(&self, is_there: &dyn Fn(&str, &str) -> bool) {
        let labels = self.0.labels;
        self.known().retain(|values, _| {
            labels.iter().zip(values.iter()).all(|(label, value)| is_there(label, value))
        });
    }
}

/// All metrics of one kind of life.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub registry: Registry,
    pub described: Vec<Described>,
    families: Vec<Box<dyn Bounded>>,
}

impl Book {
    /// `name` as it is read: with the unit, and for a counter with `_total`. `help` has no full stop.
    pub(super) fn enter<M: Measure, const N: usize>(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str; N],
        help: &'static str,
        make: fn() -> M,
    ) -> Family<M, N> {
        let known = Mutex::default();
        let family = Family(Arc::new(Inner { labels, make, known }));
        if N == 0 {
            let _ = family.of(std::array::from_fn(|_| ""));
        }
        let bare = name.strip_suffix("_total").unwrap_or(name);
        match bare.strip_suffix("_seconds") {
            Some(bare) => self.registry.register_with_unit(bare, help, Unit::Seconds, family.clone()),
            None => self.registry.register(bare, help, family.clone()),
        }
        self.described.push(Described { name, kind: word(M::TYPE), labels, help });
        self.families.push(Box::new(family.clone()));
        family
    }

    /// Forgets all series of which a label's value is not there any more.
    pub(super) fn keep(&self, is_there: &dyn Fn(&str, &str) -> bool) {
        for family in &self.families {
            family.keep(is_there);
        }
    }
}

fn word(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Info => "info",
        MetricType::Unknown => "unknown",
    }
}
