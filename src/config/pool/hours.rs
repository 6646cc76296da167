//! Hours in which other limits hold.

use super::cost::{RawWarm, Warm, warm_of};
use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{CronExpression, Period, Zone, seconds};
use crate::config::tree::Path;
use chrono::{DateTime, TimeDelta, Utc};
use rouse_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longer ones would be the rule, not an exception to it.
const LONGEST: Period = seconds(7 * 24 * 3600);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hours")]
pub(super) struct RawHours {
    /// When they begin.
    cron: CronExpression,
    /// How long they are, a week at most.
    #[serde(rename = "for")]
    length: Period,
    /// In which time zone. Default: UTC.
    timezone: Option<Zone>,
    /// Instead of the pool's own.
    #[schemars(range(max = 10_000))]
    min: Option<u32>,
    /// Instead of the pool's own.
    #[schemars(range(min = 1, max = 10_000))]
    max: Option<u32>,
    /// Instead of the pool's own.
    warm: Option<RawWarm>,
}

/// What holds in some hours.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hours {
    pub cron: CronExpression,
    pub length: Period,
    pub zone: Zone,
    pub bounds: Bounds,
}

/// How many workers a pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounds {
    pub min: u32,
    pub max: u32,
    pub warm: Warm,
}

impl Bounds {
    /// Whether some are there though nothing waits for them.
    #[must_use]
    pub fn is_kept(self) -> bool {
        self.min > 0 || self.free() > 0
    }

    /// Idle workers that are kept beside those that are needed.
    #[must_use]
    pub fn free(self) -> u32 {
        match self.warm {
            Warm::Free(count) => count,
            Warm::WaitCosts(_) => 0,
        }
    }
}

impl Hours {
    /// Whether a moment is within them.
    #[must_use]
    pub fn hold_at(&self, now: Timestamp) -> bool {
        let now = DateTime::<Utc>::from_timestamp_micros(now.0).map(|now| now.with_timezone(&self.zone.0));
        let length = TimeDelta::from_std(self.length.0).ok();
        let Some((now, length)) = now.zip(length) else { return false };
        let began = now.checked_sub_signed(length).and_then(|since| {
            // What began just then has just ended.
            self.cron.cron.find_next_occurrence(&since, false).ok()
        });
        began.is_some_and(|began| began <= now)
    }
}

impl RawHours {
    pub(super) fn check(self, usual: Bounds, cx: &mut Context<'_>, path: &Path) -> Hours {
        cx.at_least(Some(self.length), seconds(60), &path.join("for"));
        if self.length > LONGEST {
            let at = path.join("for");
            let message = format!("`{}` is too long in {}", self.length, cx.place(&at));
            let fault = Fault::new(Code::OutOfRange, cx.value(&at), message);
            cx.push(fault.label(format!("at most `{LONGEST}`")));
        }
        if self.min.is_none() && self.max.is_none() && self.warm.is_none() {
            let message = format!("{} changes nothing", cx.place(path));
            let fault = Fault::new(Code::MissingKey, cx.value(path), message);
            cx.push(fault.label("say at least one of `min`, `max` and `warm`"));
        }
        let bounds = Bounds {
            min: self.min.unwrap_or(usual.min),
            max: self.max.unwrap_or(usual.max),
            warm: self.warm.map_or(usual.warm, |warm| warm_of(Some(warm), cx, path)),
        };
        if bounds.min > bounds.max {
            let message = format!("`min` {} is above `max` {} in {}", bounds.min, bounds.max, cx.place(path));
            cx.push(Fault::new(Code::OutOfRange, cx.value(path), message));
        }
        Hours { cron: self.cron, length: self.length, zone: self.timezone.unwrap_or_default(), bounds }
    }
}
