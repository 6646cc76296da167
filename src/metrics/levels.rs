//! How things stand when somebody asks: by what the fleet's last pass saw, by one look at the queue, and by what this master knows anyway.

use super::book::{Book, Family};
use crate::config::Config;
use crate::ctx::Ctx;
use prometheus_client::metrics::gauge::Gauge;
use rouse_model::Timestamp;
use rouse_model::money::{Money, Price};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::Instant;

/// What a pass saw longer ago tells nothing: the fleet passes at least once a second.
const FRESH: Duration = Duration::from_secs(30);
/// How long the database may take to count the queue; what else there is does not wait for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// One pool, as a pass of the fleet has it before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolLevels {
    pub demand: u32,
    pub supply: u32,
    /// Slots with a build.
    pub busy: u32,
    /// Slots without one, of workers that are up.
    pub idle: u32,
    pub phases: BTreeMap<&'static str, u32>,
    /// Of all that are there.
    pub price: Price,
    /// What neither is spent nor promised; `None` where there is no budget.
    pub left: Option<Money>,
}

/// All pools; those that are not configured any more are among them as long as they have workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetLevels {
    pub pools: BTreeMap<String, PoolLevels>,
}

/// What loops have told of levels that nobody else knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    fleet: Option<(Instant, FleetLevels)>,
    pub breakers: BTreeMap<String, u32>,
    pub offerings: BTreeMap<String, u32>,
}

impl Seen {
    /// As it was seen last, and how long ago that was.
    pub(super) fn fleet(&self) -> Option<(Duration, &FleetLevels)> {
        let (at, levels) = self.fleet.as_ref()?;
        Some((at.elapsed(), levels)).filter(|(past, _)| *past < FRESH)
    }

    pub(super) fn set_fleet(&mut self, levels: Option<FleetLevels>) {
        self.fleet = levels.map(|levels| (Instant::now(), levels));
    }
}

/// The gauges, filled anew at each look.
#[derive(Debug)]
struct Gauges {
    info: Family<Gauge, 1>,
    fleet_role: Family<Gauge, 0>,
    instances: Family<Gauge, 2>,
    demand: Family<Gauge, 1>,
    supply: Family<Gauge, 1>,
    most: Family<Gauge, 1>,
    cost: Family<Gauge<f64, AtomicU64>, 1>,
    left: Family<Gauge<f64, AtomicU64>, 1>,
    waiting: Family<Gauge, 1>,
    breakers: Family<Gauge, 1>,
    offerings: Family<Gauge, 1>,
    masters: Family<Gauge, 1>,
    trouble: Family<Gauge, 1>,
}

impl Gauges {
    fn in_book(book: &mut Book) -> Self {
        let gauge = Gauge::default;
        Self {
            info: book.enter("rouse_master_info", &["version"], "Always 1", gauge),
            fleet_role: book.enter(
                "rouse_fleet_role",
                &[],
                "Whether this master decides for the fleet: of all masters one does, and it alone tells the fleet's levels",
                gauge,
            ),
            instances: book.enter("rouse_instances", &["pool", "phase"], "Workers that are not gone", gauge),
            demand: book.enter(
                "rouse_demand",
                &["pool"],
                "Builds that wait for a worker of the pool; not those that wait for a lock or a person",
                gauge,
            ),
            supply: book.enter(
                "rouse_supply",
                &["pool"],
                "Free slots of workers that are there or on their way",
                gauge,
            ),
            most: book.enter("rouse_pool_max", &["pool"], "Most workers that the pool may have", gauge),
            cost: book.enter(
                "rouse_cost_per_hour",
                &["pool"],
                "What the pool's workers cost now in an hour, in the configuration's currency",
                Gauge::default,
            ),
            left: book.enter(
                "rouse_budget_left",
                &["pool"],
                "What of the pool's budget is neither spent nor promised to workers that are there, in the configuration's currency",
                Gauge::default,
            ),
            waiting: book.enter("rouse_requests_waiting", &["builder"], "Requests in the queue", gauge),
            breakers: book.enter(
                "rouse_breakers_open",
                &["provider"],
                "Images that could not be had and are not asked for now, as far as this master has met them",
                gauge,
            ),
            offerings: book.enter(
                "rouse_offerings_held",
                &["provider"],
                "Quotas that are used up and kinds of machines that there are none of, which are not launched on now, as far as this master has met them",
                gauge,
            ),
            masters: book.enter(
                "rouse_masters",
                &["state"],
                "Masters of the installation, as this one sees them: `up`, or `away` without having stopped",
                gauge,
            ),
            trouble: book.enter(
                "rouse_trouble",
                &["part"],
                "1 where the `database` or the `log_store` keeps this master from working",
                gauge,
            ),
        }
    }

    fn show_fleet(&self, config: &Config, levels: &FleetLevels, now: Timestamp) {
        for (name, pool) in &config.pools {
            let seen = levels.pools.get(name.as_str()).cloned().unwrap_or_default();
            self.demand.of([name.as_str()]).set(seen.demand.into());
            self.supply.of([name.as_str()]).set(seen.supply.into());
            self.most.of([name.as_str()]).set(pool.at(now).max.into());
            if pool.costs_something() {
                self.cost.of([name.as_str()]).set(Money(seen.price.0).as_f64());
            }
            if let Some(left) = seen.left {
                self.left.of([name.as_str()]).set(left.as_f64());
            }
            for phase in ["requested", "launching", "booting", "up", "terminating"] {
                let count = seen.phases.get(phase).copied().unwrap_or_default();
                self.instances.of([name.as_str(), phase]).set(count.into());
            }
        }
    }

    fn show_queue(&self, config: &Config, waiting: &BTreeMap<String, i64>) {
        for builder in config.builders.keys() {
            let count = waiting.get(builder.as_str()).copied().unwrap_or_default();
            self.waiting.of([builder.as_str()]).set(count);
        }
    }
}

/// The book of all levels, as they are now.
pub(super) async fn look(ctx: &Ctx, config: &Config, seen: &Seen) -> Book {
    let mut book = Book::default();
    let gauges = Gauges::in_book(&mut book);
    gauges.info.of([env!("CARGO_PKG_VERSION")]).set(1);
    let fleet = seen.fleet().map(|(_, levels)| levels);
    gauges.fleet_role.of([]).set(i64::from(fleet.is_some()));
    if let Some(levels) = fleet {
        gauges.show_fleet(config, levels, ctx.now());
        if let Ok(Ok(waiting)) = tokio::time::timeout(PATIENCE, ctx.store.queue_by_builder()).await {
            gauges.show_queue(config, &waiting);
        }
    }
    for provider in config.providers.keys() {
        let open = seen.breakers.get(provider.as_str()).copied().unwrap_or_default();
        gauges.breakers.of([provider.as_str()]).set(open.into());
        let held = seen.offerings.get(provider.as_str()).copied().unwrap_or_default();
        gauges.offerings.of([provider.as_str()]).set(held.into());
    }
    let peers = ctx.roles.peers();
    let up = 1 + peers.iter().filter(|peer| !peer.is_dead && !peer.master.stopped).count();
    let away = peers.iter().filter(|peer| peer.is_dead && !peer.master.stopped).count();
    gauges.masters.of(["up"]).set(i64::try_from(up).unwrap_or(i64::MAX));
    gauges.masters.of(["away"]).set(i64::try_from(away).unwrap_or(i64::MAX));
    let troubles = ctx.troubles();
    for (part, label) in [("database", "database"), ("log store", "log_store")] {
        gauges.trouble.of([label]).set(i64::from(troubles.iter().any(|trouble| trouble.part == part)));
    }
    book
}

/// The same without values, for the reference.
pub(super) fn described() -> Vec<super::book::Described> {
    let mut book = Book::default();
    let _ = Gauges::in_book(&mut book);
    book.described
}
