//! What a pool's workers cost, what may be spent on them, and what waiting is worth.

use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{OneOrMany, Period, seconds};
use crate::config::tree::Path;
use rouse_contract::Offer;
use rouse_contract::units::{Each, Tariff};
use rouse_model::money::Price;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Budget")]
pub(super) enum RawBudget {
    Limits(OneOrMany<Tariff>),
    Of(RawBudgetOf),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BudgetOf")]
pub(super) struct RawBudgetOf {
    /// What may be spent in each hour, day, week (from Monday) or month of UTC: `30 USD/day`, or several.
    limits: OneOrMany<Tariff>,
    /// What a build is counted with before it has ended; one that takes longer is not ended for that. Default: as long as the longest of the latest hundred builds of
    /// each builder that uses the pool, and half an hour at least.
    build: Option<Period>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Warm")]
pub(super) enum RawWarm {
    /// So many idle workers more than are needed.
    Free(#[schemars(range(max = 10_000))] u32),
    By(RawWaitCosts),
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WaitCosts")]
pub(super) struct RawWaitCosts {
    /// What it is worth that one build does not wait: `0.50 USD/min`. As many are kept in reserve as that pays for, by how uncertain it is what comes.
    wait_costs: Tariff,
}

/// How many workers are kept for what may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Warm {
    /// So many idle ones more than are needed.
    Free(u32),
    /// As many as it pays for, where a build's waiting costs so much.
    WaitCosts(Tariff),
}

/// What may be spent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Each in each of its hours, days, weeks or months.
    pub limits: Vec<Tariff>,
    /// What a build is counted with; `None`: as others took.
    pub build: Option<Period>,
}

impl RawBudget {
    fn check(self, cx: &mut Context<'_>, path: &Path) -> Budget {
        let (limits, build, at) = match self {
            Self::Limits(limits) => (limits, None, path.clone()),
            Self::Of(RawBudgetOf { limits, build }) => {
                cx.at_least(build, seconds(1), &path.join("build"));
                (limits, build, path.join("limits"))
            }
        };
        let limits = limits.into_vec();
        for (i, limit) in limits.iter().enumerate() {
            if limit.each == Each::Minute {
                let message = format!("`{limit}` is no budget in {}", cx.place(path));
                let fault = Fault::new(Code::OutOfRange, cx.item(&at, i), message);
                cx.push(fault.label("in an `h`, a `day`, a `week` or a `month`"));
            }
            cx.one_currency(limit.currency, &at);
        }
        Budget { limits, build }
    }
}

/// The keys of a pool that are about money, and those of them that ask for a price.
pub(super) fn check(
    price: Option<Tariff>,
    budget: Option<RawBudget>,
    warm: Option<RawWarm>,
    cx: &mut Context<'_>,
    path: &Path,
) -> (Budget, Warm, Vec<&'static str>) {
    if let Some(price) = price {
        cx.one_currency(price.currency, &path.join("price"));
    }
    let mut wants_price = Vec::new();
    if budget.is_some() {
        wants_price.push("budget");
    }
    let budget = budget.map(|budget| budget.check(cx, &path.join("budget"))).unwrap_or_default();
    let warm = warm_of(warm, cx, path);
    if let Warm::WaitCosts(_) = warm {
        wants_price.push("warm");
    }
    (budget, warm, wants_price)
}

/// What a pool's workers may be launched as has a price, where the keys of `wants_price` are there.
pub(super) fn check_offers(
    price: Option<Tariff>,
    offers: &[Offer],
    wants_price: &[&'static str],
    cx: &mut Context<'_>,
    path: &Path,
    at: &Path,
) {
    let all = || offers.iter().flat_map(|offer| &offer.of);
    all().filter_map(|one| one.price).for_each(|price| cx.one_currency(price.currency, at));
    if price.is_some() {
        return;
    }
    let without = all().find(|one| one.price.is_none()).map(|one| &one.name);
    if !offers.is_empty() && without.is_none() {
        return;
    }
    for key in wants_price {
        let message = match without {
            Some(name) => {
                format!(
                    "`{key}` of {} is counted in money, and its offer `{name}` has no `price`",
                    cx.place(path)
                )
            }
            None => format!("`{key}` of {} is counted in money, and it has no `price`", cx.place(path)),
        };
        let fault = Fault::new(Code::MissingKey, cx.key(&path.join(key)), message);
        cx.push(fault.label("say what one worker costs: `price: 0.17 USD/h`"));
    }
}

pub(super) fn warm_of(warm: Option<RawWarm>, cx: &mut Context<'_>, path: &Path) -> Warm {
    match warm {
        None => Warm::Free(0),
        Some(RawWarm::Free(count)) => Warm::Free(count),
        Some(RawWarm::By(RawWaitCosts { wait_costs })) => {
            cx.one_currency(wait_costs.currency, &path.join("warm").join("wait_costs"));
            Warm::WaitCosts(wait_costs)
        }
    }
}

/// What an hour of one worker costs.
pub(super) fn price(tariff: Option<Tariff>) -> Price {
    tariff.map_or(Price::NONE, Tariff::price)
}
