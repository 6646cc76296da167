//! Workers that lie stopped instead of being ended.

use super::Reuse;
use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{Period, seconds};
use crate::config::tree::Path;
use rouse_contract::ProviderKind;
use rouse_contract::units::Tariff;
use rouse_model::money::Price;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// How long one lies where nobody says.
const FOR: Period = seconds(12 * 3600);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Park")]
pub(super) enum RawPark {
    Keep(#[schemars(range(max = 10_000))] u32),
    Of(RawParkOf),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ParkOf")]
pub(super) struct RawParkOf {
    /// Workers that are parked, at most.
    #[schemars(range(max = 10_000))]
    keep: u32,
    /// What one costs while it is parked. Default: nothing is counted.
    price: Option<Tariff>,
    /// How long one stays parked before it is ended. Default: `12h`.
    #[serde(rename = "for")]
    length: Option<Period>,
}

/// Idle workers that are stopped instead of ended, to be resumed when work comes for them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Park {
    /// At most.
    pub keep: u32,
    /// Of one of them.
    pub price: Option<Tariff>,
    #[serde(rename = "for")]
    pub length: Period,
}

impl Park {
    /// What an hour of one costs that is parked.
    #[must_use]
    pub fn cost(&self) -> Price {
        super::cost::price(self.price)
    }
}

impl RawPark {
    /// `options` are those of the pool, by its kind.
    pub(super) fn check(
        self,
        (kind, options): (&Arc<dyn ProviderKind>, &Value),
        reuse: &Reuse,
        price: Option<Tariff>,
        cx: &mut Context<'_>,
        path: &Path,
    ) -> Park {
        let at = path.join("park");
        let park = match self {
            Self::Keep(keep) => Park { keep, price: None, length: FOR },
            Self::Of(RawParkOf { keep, price, length }) => {
                Park { keep, price, length: length.unwrap_or(FOR) }
            }
        };
        cx.at_least(Some(park.length), seconds(1), &at.join("for"));
        if let Some(parked) = park.price {
            cx.one_currency(parked.currency, &at.join("price"));
            if price.is_some_and(|price| price.price() < parked.price()) {
                let message = format!("a parked worker of {} costs more than one that runs", cx.place(path));
                let fault = Fault::new(Code::OutOfRange, cx.value(&at.join("price")), message);
                cx.push(fault.related(cx.value(&path.join("price")), "the price of one that runs"));
            }
        }
        if let Some(why) = kind.cannot_park(options) {
            let message = format!("workers of {} cannot be parked: {why}", cx.place(path));
            let fault = Fault::new(Code::ProviderOption, cx.key(&at), message);
            let able = cx.kinds.iter().filter(|kind| kind.cannot_park(&Value::Null).is_none());
            let able: Vec<String> = able.map(|kind| format!("`{}`", kind.name())).collect();
            cx.push(
                fault.label("leave it out").note(format!("providers that can park: {}", able.join(", "))),
            );
        } else if reuse.builds == 1 && park.keep > 0 {
            let message = format!("`park` has no effect in {}", cx.place(path));
            let note = "a worker that serves one build is gone after it; write `reuse: {builds: …}` too";
            cx.push(Fault::warning(Code::Useless, cx.key(&at), message).note(note));
        }
        park
    }
}
