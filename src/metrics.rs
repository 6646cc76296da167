//! What a master counts and measures, for Prometheus: docs/adr/0032.
//!
//! Deeds are counted by whoever does them; levels are what the fleet's last pass saw, or what is looked up when somebody asks. Nothing is read
//! from here by any loop, and nothing is kept: another process begins at zero, which Prometheus expects.

mod book;
mod levels;
mod page;

pub use levels::{FleetLevels, PoolLevels};
pub use page::reference;

use crate::config::Config;
use crate::ctx::Ctx;
use book::{Book, Family};
use levels::Seen;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use rouse_contract::layers::{CallEnd, CallRecord};
use rouse_model::build::Build;
use rouse_model::failure::FailureClass;
use rouse_model::worker::Worker;
use rouse_store::Store;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The outcome of what went well.
const ACCEPTED: &str = "accepted";

/// Counters of whole seconds would lose most of them.
type Seconds = Counter<f64, AtomicU64>;

/// One master's own.
#[derive(Debug)]
pub struct Metrics {
    book: Book,
    launches: Family<Counter, 2>,
    boot: Family<Histogram, 1>,
    attach: Family<Histogram, 1>,
    busy: Family<Seconds, 1>,
    idle: Family<Seconds, 1>,
    reaped: Family<Counter, 1>,
    queue: Family<Histogram, 1>,
    builds: Family<Counter, 2>,
    build_seconds: Family<Histogram, 1>,
    calls: Family<Counter, 3>,
    call_seconds: Family<Histogram, 2>,
    commits: Histogram,
    exports: Family<Counter, 2>,
    seen: Mutex<Seen>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut book = Book::default();
        Self {
            launches: book.enter(
                "rouse_launches_total",
                &["pool", "outcome"],
                "Workers that a provider accepted, or why it did not; `boot` also counts accepted ones whose agent never came",
                Counter::default,
            ),
            boot: book.enter(
                "rouse_boot_seconds",
                &["pool"],
                "From the provider's word that it has launched a worker to its agent; 0 where the agent was quicker",
                of_boots,
            ),
            attach: book.enter("rouse_attach_seconds", &["pool"], "From the wish for a worker to its agent", of_boots),
            busy: book.enter("rouse_busy_seconds_total", &["pool"], "Time that slots of workers had a build", Seconds::default),
            idle: book.enter(
                "rouse_idle_seconds_total",
                &["pool"],
                "Time that slots of workers that were up had none",
                Seconds::default,
            ),
            reaped: book.enter(
                "rouse_reaped_orphans_total",
                &["provider"],
                "Instances without a worker on record that were taken away",
                Counter::default,
            ),
            queue: book.enter(
                "rouse_queue_seconds",
                &["pool"],
                "From when a request could run to the worker that it was given; not while it paused after a failure",
                of_waits,
            ),
            builds: book.enter("rouse_builds_total", &["builder", "result"], "Builds that ended", Counter::default),
            build_seconds: book.enter(
                "rouse_build_seconds",
                &["builder"],
                "From the worker that a build was given to its end",
                of_waits,
            ),
            calls: book.enter(
                "rouse_provider_calls_total",
                &["provider", "call", "outcome"],
                "Calls of a provider that ended: `done`, `dropped` where the master stopped waiting, or the class of the failure",
                Counter::default,
            ),
            call_seconds: book.enter(
                "rouse_provider_call_seconds",
                &["provider", "call"],
                "How long calls of a provider took; `resolve` pulls images",
                of_waits,
            ),
            commits: book.enter("rouse_commit_seconds", &[], "How long writes to the database took", of_commits).of([]),
            exports: book.enter(
                "rouse_telemetry_exports_total",
                &["signal", "outcome"],
                "Requests to the collector of `server.telemetry`, with `traces` or `metrics`: `accepted`, `rejected` where it left something out, \
                 `refused`, `away`, or `unsent` where they could not be made",
                Counter::default,
            ),
            seen: Mutex::default(),
            book,
        }
    }
}

impl Metrics {
    /// Fresh ones, which a store tells of its writes.
    #[must_use]
    pub fn watching(store: &Store) -> Arc<Self> {
        let metrics = Arc::new(Self::default());
        let told = Arc::clone(&metrics);
        store.watch_commits(move |took| told.committed(took));
        metrics
    }

    /// A launch ended: accepted, or failed.
    pub fn launched(&self, pool: &str, failed: Option<FailureClass>) {
        self.launches.of([pool, failed.map_or(ACCEPTED, FailureClass::as_str)]).inc();
    }

    /// An agent came for the first time.
    pub fn attached(&self, worker: &Worker) {
        let Some(attached) = worker.attached else { return };
        self.attach.of([&worker.pool]).observe(attached.since(worker.requested).as_secs_f64());
        let boot = worker.accepted.map_or(Duration::ZERO, |accepted| attached.since(accepted));
        self.boot.of([&worker.pool]).observe(boot.as_secs_f64());
    }

    /// A request was given a worker.
    pub fn matched(&self, pool: &str, waited: Duration) {
        self.queue.of([pool]).observe(waited.as_secs_f64());
    }

    /// A build ended, and that is on record.
    pub fn ended(&self, build: &Build) {
        let (Some(result), Some(finished)) = (build.result, build.finished) else { return };
        self.builds.of([&build.builder, result.as_str()]).inc();
        // One that was given up had no worker.
        if build.worker.is_some() {
            self.build_seconds.of([&build.builder]).observe(finished.since(build.matched).as_secs_f64());
        }
    }

    /// What nobody has on record was taken away.
    pub fn reaped(&self, provider: &str) {
        self.reaped.of([provider]).inc();
    }

    fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// A call of a provider ended.
    pub fn called(&self, provider: &str, call: &CallRecord) {
        let outcome = match &call.end {
            CallEnd::Done | CallEnd::Launched { .. } => "done",
            CallEnd::Dropped => "dropped",
            CallEnd::Failed(class) => class.as_str(),
        };
        self.calls.of([provider, call.kind.as_str(), outcome]).inc();
        self.call_seconds.of([provider, call.kind.as_str()]).observe(call.took.as_secs_f64());
    }

    /// Something was sent to the collector of telemetry, or was not.
    pub fn exported(&self, signal: &str, outcome: &str) {
        self.exports.of([signal, outcome]).inc();
    }

    /// What the fleet's pass has before it; `None` where another master decides. Slots are taken to have been what they were last until now.
    pub fn fleet_saw(&self, levels: Option<FleetLevels>) {
        let mut seen = self.seen.lock().expect("nothing panics while it is held");
        if let (Some((past, before)), true) = (seen.fleet(), levels.is_some()) {
            for (pool, levels) in &before.pools {
                self.busy.of([pool]).inc_by(past.as_secs_f64() * f64::from(levels.busy));
                self.idle.of([pool]).inc_by(past.as_secs_f64() * f64::from(levels.idle));
            }
        }
        seen.set_fleet(levels);
    }

    /// Images that are not asked for now, and what else accounts do not have, by account. Each master has its own.
    pub fn breakers(&self, images: BTreeMap<String, u32>, offerings: BTreeMap<String, u32>) {
        let mut seen = self.seen.lock().expect("nothing panics while it is held");
        (seen.breakers, seen.offerings) = (images, offerings);
    }

    /// All of it as OpenMetrics text. What cannot be looked up now is left out.
    pub async fn scrape(&self, ctx: &Ctx) -> String {
        let active = ctx.config();
        self.begin(&active.config);
        self.book.keep(&|label, value| is_there(&active.config, label, value));
        let seen = self.seen.lock().expect("nothing panics while it is held").clone();
        let levels = levels::look(ctx, &active.config, &seen).await;
        let mut text = String::new();
        encode_registry(&mut text, &self.book.registry)
            .and_then(|()| encode_registry(&mut text, &levels.registry))
            .and_then(|()| encode_eof(&mut text))
            .expect("a string takes everything");
        text
    }

    /// What may happen to what is configured begins at zero, so that its first time is seen as a rise.
    fn begin(&self, config: &Config) {
        for pool in config.pools.keys() {
            let _ = self.launches.of([pool.as_str(), ACCEPTED]);
            let _ = self.launches.of([pool.as_str(), FailureClass::Boot.as_str()]);
            let _ = (self.busy.of([pool.as_str()]), self.idle.of([pool.as_str()]));
        }
        for signal in ["traces", "metrics"] {
            let _ = (self.exports.of([signal, ACCEPTED]), self.exports.of([signal, "away"]));
        }
        for provider in config.providers.keys() {
            let _ = self.reaped.of([provider.as_str()]);
        }
        for builder in config.builders.keys() {
            for result in rouse_model::BuildResult::ALL {
                let _ = self.builds.of([builder.as_str(), result.as_str()]);
            }
        }
    }
}

/// Whether a label's value is one that the configuration or the code knows.
fn is_there(config: &Config, label: &str, value: &str) -> bool {
    match label {
        "pool" => config.pools.contains_key(value),
        "provider" => config.providers.contains_key(value),
        "builder" => config.builders.contains_key(value),
        _ => true,
    }
}

/// From containers to machines.
fn of_boots() -> Histogram {
    Histogram::new([0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0])
}

fn of_waits() -> Histogram {
    Histogram::new([0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 7_200.0])
}

fn of_commits() -> Histogram {
    Histogram::new([0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0])
}

#[cfg(test)]
mod tests;
