//! `pools`: where work can run.

mod cost;
mod hours;
mod park;

pub use cost::{Budget, Warm};
pub use hours::{Bounds, Hours};
pub use park::Park;

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{OneOrMany, Period, ProviderName, seconds};
use super::provider::{check_leaves, only_kind, report};
use super::tree::Path;
use cost::{RawBudget, RawWarm};
use hours::RawHours;
use indexmap::IndexMap;
use park::RawPark;
use rouse_contract::units::Tariff;
use rouse_contract::{Offer, Offering};
use rouse_model::money::Price;
use rouse_model::placement::Room;
use rouse_model::{Timestamp, Trust};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The key within a provider's options that is ours.
pub(crate) const ON: &str = "on";
/// Under which those kinds that have offers have them.
const OFFERS: &str = "offers";

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(rename = "Pool")]
pub(crate) struct RawPool {
    /// Workers that are kept even while nothing waits. Default: 0.
    #[schemars(range(max = 10_000))]
    min: Option<u32>,
    /// Workers at most. Default: 4.
    #[schemars(range(min = 1, max = 10_000))]
    max: Option<u32>,
    /// Workers that are on their way at one time, at most. Default: no limit but `max`.
    #[schemars(range(min = 1, max = 10_000))]
    ramp: Option<u32>,
    /// Idle workers that are kept for what may come: a number, or what it is worth that nobody waits. Default: 0.
    warm: Option<RawWarm>,
    /// Idle workers that are stopped instead of ended, at most, and resumed when work comes for them; for providers that can. Default: none.
    park: Option<RawPark>,
    /// What one worker costs while it is there. Default: nothing is counted.
    price: Option<Tariff>,
    /// What may be spent on its workers: `30 USD/day`, or several. Never more is launched than the rest of it pays for to the end.
    budget: Option<RawBudget>,
    /// Hours in which another `min`, `max` or `warm` holds; the first of them that holds counts.
    #[serde(default)]
    schedule: Vec<RawHours>,
    /// Workers beside `max` whose builds only wait for builds that they have started; more of them count in it. Default: as many as `max`.
    #[schemars(range(max = 10_000))]
    waiting: Option<u32>,
    /// Builds that one worker runs at the same time. Default: 1.
    #[schemars(range(min = 1, max = 1_000))]
    slots: Option<u32>,
    /// `trusted` takes builds of trusted origin only; `any` takes untrusted ones too. Default: `trusted`.
    accepts: Option<RawAccepts>,
    /// How often and how long one worker serves. Default: one build, then it is gone.
    #[serde(default)]
    reuse: RawReuse,
    /// How long a launch may take before it counts as failed.
    #[serde(default)]
    deadlines: RawDeadlines,
    /// The provider is the key of its own options.
    #[serde(flatten)]
    kinds: IndexMap<String, Value>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Accepts")]
pub(crate) enum RawAccepts {
    /// Builds of trusted origin only.
    Trusted,
    /// Untrusted builds too.
    Any,
}

impl RawAccepts {
    /// The least trust that is taken.
    pub(crate) fn least(self) -> Trust {
        match self {
            Self::Any => Trust::Untrusted,
            Self::Trusted => Trust::Trusted,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reuse")]
struct RawReuse {
    /// Builds that one worker serves before it goes. Default: 1.
    #[schemars(range(min = 1, max = 1_000_000))]
    builds: Option<u32>,
    /// How long a worker may wait for its next build; `auto`: as long as nine of ten workers of the pool took to come lately, and two minutes at least.
    /// Default: `auto`.
    idle: Option<RawAutoOr>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "AutoOr")]
enum RawAutoOr {
    Auto(RawAuto),
    After(Period),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Auto")]
enum RawAuto {
    Auto,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Deadlines")]
struct RawDeadlines {
    /// From the call to the provider until it has accepted the instance; pulling an image counts. Default: `10m`.
    launch: Option<Period>,
    /// From then until the agent within has joined; `auto`: two minutes until ten workers of the pool have come, then three times as long as the
    /// slowest of the last thirty, and one minute at least. Default: `auto`.
    attach: Option<RawAutoOr>,
}

/// Workers of one shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolConfig {
    /// `docker`, `local`.
    pub kind: String,
    /// The accounts it may use, in order; never empty.
    pub on: Vec<ProviderName>,
    /// What the provider's own types read, templates as they were written, without `on`.
    pub options: Value,
    /// What one worker takes of its account.
    #[serde(skip)]
    pub takes: Room,
    /// What one worker may be launched as, in order; empty where there is nothing to choose. A part of `options`.
    #[serde(skip)]
    pub offers: Vec<Offer>,
    /// Where none of its hours holds.
    #[serde(flatten)]
    pub bounds: Bounds,
    pub schedule: Vec<Hours>,
    /// On their way at one time, at most.
    pub ramp: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub park: Option<Park>,
    /// Of one worker.
    pub price: Option<Tariff>,
    pub budget: Budget,
    /// Workers beside `max` that only wait for builds that theirs have started; `None`: as many as `max`.
    pub waiting: Option<u32>,
    pub slots: u32,
    /// The least trust that it takes.
    pub accepts: Trust,
    pub reuse: Reuse,
    pub deadlines: Deadlines,
}

impl PoolConfig {
    /// How many workers it has at a moment.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Bounds {
        self.schedule.iter().find(|hours| hours.hold_at(now)).map_or(self.bounds, |hours| hours.bounds)
    }

    /// Whether at some hour workers are there though nothing waits for them.
    #[must_use]
    pub fn keeps_some(&self) -> bool {
        self.schedule.iter().map(|hours| hours.bounds).chain([self.bounds]).any(Bounds::is_kept)
    }

    /// What an hour of one worker costs that is launched as this.
    #[must_use]
    pub fn price_as(&self, offering: Option<&Offering>) -> Price {
        cost::price(offering.and_then(|one| one.price).or(self.price))
    }

    /// All that a worker may be launched as.
    pub fn offerings(&self) -> impl Iterator<Item = &Offering> {
        self.offers.iter().flat_map(|offer| &offer.of)
    }

    /// Whether anything is counted of what its workers cost.
    #[must_use]
    pub fn costs_something(&self) -> bool {
        self.price.is_some() || self.offerings().any(|one| one.price.is_some())
    }

    /// How many workers are parked at most.
    #[must_use]
    pub fn parks(&self) -> usize {
        self.park.map_or(0, |park| park.keep as usize)
    }

    /// How many workers may wait beside `max`.
    #[must_use]
    pub fn beside_max(&self) -> usize {
        self.waiting.unwrap_or(self.bounds.max) as usize
    }

    /// Whether what is launched for one is of no other shape than for the other.
    #[must_use]
    pub fn launches_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.options == other.options
    }
}

/// How often and how long one worker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reuse {
    pub builds: u32,
    pub idle: Idle,
}

impl Reuse {
    /// How long a worker that nothing waits for is kept, where nine of ten take `boot` to come.
    #[must_use]
    pub fn idle_for(&self, boot: Option<Duration>) -> Duration {
        match self.idle {
            // It does not idle: it has this long to be given the build that it was made for, which may have been cancelled.
            _ if self.builds == 1 => Duration::from_secs(10),
            // A worker that is soon wanted again is worth as much as another one takes to come.
            Idle::Auto => boot.unwrap_or_default().max(Duration::from_secs(120)),
            Idle::After(period) => period.0,
        }
    }
}

/// How long a worker waits for its next build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// As long as launches have been seen to take.
    Auto,
    After(Period),
}

/// When a launch counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Deadlines {
    /// From the call to the provider until it has accepted the instance.
    pub launch: Period,
    /// From then until the agent has joined.
    pub attach: Attach,
}

/// How long an agent may take to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// By what the ones before it took.
    Auto,
    Within(Period),
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { launch: seconds(600), attach: Attach::Auto }
    }
}

impl RawPool {
    pub(crate) fn check(self, cx: &mut Context<'_>, path: &Path) -> Option<PoolConfig> {
        let (min, max) = (self.min.unwrap_or(0), self.max.unwrap_or_else(|| self.min.unwrap_or(0).max(4)));
        if min > max {
            let message = format!("`min` {min} is above `max` {max} in {}", cx.place(path));
            let fault = Fault::new(Code::OutOfRange, cx.value(&path.join("min")), message);
            let other = cx.value(&path.join("max"));
            cx.push(fault.related(other, "the maximum"));
        }
        let reuse = self.reuse(cx, path);
        let (budget, warm, wants_price) = cost::check(self.price, self.budget, self.warm, cx, path);
        let bounds = Bounds { min, max, warm };
        let schedule = self.schedule.into_iter().enumerate();
        let at = path.join("schedule");
        let schedule = schedule.map(|(i, hours)| hours.check(bounds, cx, &at.join(i))).collect();
        let accepts = self.accepts.map_or(Trust::Trusted, RawAccepts::least);
        let defaults = Deadlines::default();
        let deadlines = Deadlines {
            launch: self.deadlines.launch.unwrap_or(defaults.launch),
            attach: match self.deadlines.attach {
                Some(RawAutoOr::After(period)) => Attach::Within(period),
                Some(RawAutoOr::Auto(_)) | None => defaults.attach,
            },
        };
        let at = path.join("deadlines");
        cx.at_least(self.deadlines.launch, seconds(1), &at.join("launch"));
        if let Attach::Within(period) = deadlines.attach {
            cx.at_least(Some(period), seconds(1), &at.join("attach"));
        }
        let (kind, mut options) = only_kind(self.kinds, cx, path)?;
        let root = path.join(kind.name());
        let on = options.as_object_mut().and_then(|map| map.shift_remove(ON));
        if cx.is_clean(&root) {
            report(kind.check_pool(&options), cx, &root);
        }
        check_leaves(kind.as_ref(), &options, cx, &root);
        if accepts == Trust::Untrusted && kind.on_master_host() {
            let message =
                format!("{} lets builds of unknown origin run on the master's own host", cx.place(path));
            let fault = Fault::warning(Code::Unsafe, cx.value(&path.join("accepts")), message);
            cx.push(fault.note(format!(
                "a pool of `{}` keeps them apart from the master by their user id at most",
                kind.name()
            )));
        }
        let on = accounts(on, kind.name(), cx, &root)?;
        let park = self.park.map(|park| park.check((&kind, &options), &reuse, self.price, cx, path));
        let takes = kind.takes(&options);
        let offers = if cx.is_clean(&root) { kind.offers(&options) } else { Vec::new() };
        cost::check_offers(self.price, &offers, &wants_price, cx, path, &root.join(OFFERS));
        Some(PoolConfig {
            kind: kind.name().to_owned(),
            on,
            options,
            takes,
            offers,
            bounds,
            schedule,
            ramp: self.ramp,
            park,
            price: self.price,
            budget,
            waiting: self.waiting,
            slots: self.slots.unwrap_or(1),
            accepts,
            reuse,
            deadlines,
        })
    }

    fn reuse(&self, cx: &mut Context<'_>, path: &Path) -> Reuse {
        let builds = self.reuse.builds.unwrap_or(1);
        let idle = match self.reuse.idle {
            Some(RawAutoOr::After(period)) => Idle::After(period),
            Some(RawAutoOr::Auto(_)) | None => Idle::Auto,
        };
        if builds == 1 && self.reuse.idle.is_some() {
            let span = cx.key(&path.join("reuse").join("idle"));
            let message = format!("`idle` has no effect in {}", cx.place(path));
            let note = "a worker that serves one build is gone after it, and never idle; write `builds:` too";
            cx.push(Fault::warning(Code::Useless, span, message).note(note));
        }
        Reuse { builds, idle }
    }
}

/// The accounts that `on` names, or the one that is meant where it is not there.
fn accounts(on: Option<Value>, kind: &str, cx: &mut Context<'_>, root: &Path) -> Option<Vec<ProviderName>> {
    let at = root.join(ON);
    let Some(on) = on else {
        let declared = cx.accounts_of(kind);
        return match declared.as_slice() {
            [] => Some(vec![kind.parse().ok()?]),
            [one] => Some(vec![one.parse().ok()?]),
            several => {
                let message = format!("{} does not say on which account", cx.place(root));
                let fault = Fault::new(Code::MissingKey, cx.key(root), message);
                cx.push(
                    fault
                        .label("`on` is missing")
                        .note(format!("accounts of `{kind}`: {}", several.join(", "))),
                );
                None
            }
        };
    };
    let on: OneOrMany<ProviderName> = serde_json::from_value(on).ok()?;
    let good = cx.refer_all("providers", &Some(on.clone()), &at);
    let on = on.into_vec();
    let declared = cx.accounts_of(kind);
    let others = cx.accounts_of_others(kind);
    for (i, name) in on.iter().enumerate().filter(|(_, name)| others.contains(&name.as_str())) {
        let span = cx.item(&at, i);
        let message = format!("account `{name}` is not of `{kind}`, which {} is", cx.place(root));
        let fault = Fault::new(Code::BadReference, span, message);
        cx.push(fault.note(format!(
            "accounts of `{kind}`: {}",
            if declared.is_empty() { "none".to_owned() } else { declared.join(", ") }
        )));
    }
    good.then_some(on)
}
