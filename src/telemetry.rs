//! What happened, told to others by OpenTelemetry's protocol: each request that ended as a trace, and what `/metrics` says (docs/adr/0041).
//!
//! A trace is made of rows alone, after the end: nothing of a build waits for it, and a killed master tells later what ended meanwhile. One
//! master tells traces, from its place in the event log on; each tells its own metrics. Neither knows what a span's parts do.

mod follow;
mod measures;
mod openmetrics;
mod post;
mod spans;
mod story;
#[cfg(test)]
mod tests;

use crate::ctx::Ctx;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use rouse_model::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest pause after failures: so long at most what ended waits for a collector that has come back.
const LONGEST: Duration = Duration::from_secs(30);

/// Runs until told to stop.
pub async fn run(ctx: Arc<Ctx>, stop: CancellationToken) {
    tokio::join!(follow::run(&ctx, stop.clone()), measures::run(&ctx, stop));
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// Who tells.
fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "rouse".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// As the protocol has it.
fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or_default().saturating_mul(1_000)
}

/// How the last sending went, so that the log says it when that changes, and how long to wait after it.
#[derive(Debug, Default)]
struct Fortune {
    failures: u32,
    said: Option<String>,
}

impl Fortune {
    fn succeeded(&mut self, signal: &'static str) {
        if let Some(error) = self.said.take() {
            tracing::info!(signal, error, "the collector takes telemetry again");
        }
        self.failures = 0;
    }

    /// `after` is what the collector itself asks for, `chance` is from 0 to 1: so that masters do not come back all at once.
    fn failed(
        &mut self,
        signal: &'static str,
        error: String,
        after: Option<Duration>,
        chance: f64,
    ) -> Duration {
        if self.said.as_ref() != Some(&error) {
            tracing::warn!(signal, error, "telemetry cannot be sent; it is tried again");
            self.said = Some(error);
        }
        let pause = Duration::from_secs(1 << self.failures.min(5)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        after.unwrap_or_default().min(LONGEST).max(pause.mul_f64(0.5 + chance / 2.0))
    }
}
