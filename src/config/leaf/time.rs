//! Time as it is written: `30s`, `1h30m`, `never`, cron expressions and time zones.

use super::{LeafFault, leaf_serde};
use crate::config::fault::Code;
use rouse_contract::units::{Bytes, Rate, Tariff, UnitError};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time, written with its units: `500ms`, `30s`, `1h 30m`, `90d`.
pub use rouse_contract::units::Span as Period;

/// Whole seconds of a length of time, rounded up so that a short limit never becomes none.
pub(crate) fn seconds_up(period: Period) -> u64 {
    period.0.as_secs() + u64::from(period.0.subsec_nanos() > 0)
}

pub(crate) const fn seconds(seconds: u64) -> Period {
    Period(Duration::from_secs(seconds))
}

impl From<UnitError> for LeafFault {
    fn from(error: UnitError) -> Self {
        let text = error.to_string();
        let (what, help) = text.split_once("; ").unwrap_or((&text, ""));
        let fault = Self::new(Code::BadUnit, what);
        if help.is_empty() { fault } else { fault.help(help) }
    }
}

pub(super) fn check_period(text: &str) -> Result<(), LeafFault> {
    Ok(text.parse::<Period>().map(drop)?)
}

pub(super) fn check_bytes(text: &str) -> Result<(), LeafFault> {
    Ok(text.parse::<Bytes>().map(drop)?)
}

pub(super) fn check_rate(text: &str) -> Result<(), LeafFault> {
    Ok(text.parse::<Rate>().map(drop)?)
}

pub(super) fn check_tariff(text: &str) -> Result<(), LeafFault> {
    Ok(text.parse::<Tariff>().map(drop)?)
}

/// A length of time, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit(pub Option<Period>);

impl FromStr for Limit {
    type Err = LeafFault;
    fn from_str(text: &str) -> Result<Self, LeafFault> {
        if text == "never" {
            return Ok(Self(None));
        }
        text.parse().map(|period| Self(Some(period))).map_err(|error: UnitError| {
            let fault = LeafFault::from(error);
            let help = fault.help.clone().unwrap_or_default();
            fault.help(format!("{help}; or `never`"))
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(period) => period.fmt(f),
            None => f.pad("never"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

leaf_serde!(Limit, "period-or-never", { "pattern": r"^(never|\s*(0|([0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d|w)\s*)+)\s*)$", "examples": ["30s", "never"] });

/// Five fields: minute, hour, day of month, month, day of week; or `@daily` and its like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronExpression {
    text: String,
    /// Parsed: answers the next and the previous moment.
    pub cron: croner::Cron,
}

impl CronExpression {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for CronExpression {
    type Err = LeafFault;
    fn from_str(text: &str) -> Result<Self, LeafFault> {
        let parser = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Disallowed)
            .year(croner::parser::Year::Disallowed)
            .build();
        let fields = text.split_whitespace().count();
        let five = "minute, hour, day of month, month, day of week, as in `0 3 * * mon-fri`";
        let fault = |why: &str| {
            LeafFault::new(Code::BadCron, format!("`{text}` is no cron expression: {why}"))
                .help(format!("five fields: {five}"))
        };
        if fields != 5 && !text.trim().starts_with('@') {
            return Err(fault(&format!(
                "it has {fields} field{}, not 5",
                if fields == 1 { "" } else { "s" }
            )));
        }
        let cron = parser.parse(text).map_err(|error| {
            let why = error.to_string();
            let why = why.trim_end_matches('.');
            fault(&lower_first(why.split_once(": ").map_or(why, |(_, why)| why)))
        })?;
        Ok(Self { text: text.to_owned(), cron })
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl Serialize for CronExpression {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

leaf_serde!(CronExpression, "cron", { "examples": ["0 3 * * mon-fri", "@daily"] });

/// A time zone of the IANA database: `Europe/Paris`, `UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(pub chrono_tz::Tz);

impl Default for Zone {
    fn default() -> Self {
        Self(chrono_tz::Tz::UTC)
    }
}

impl FromStr for Zone {
    type Err = LeafFault;
    fn from_str(text: &str) -> Result<Self, LeafFault> {
        text.parse().map(Self).map_err(|_| {
            let fault = LeafFault::new(Code::BadZone, format!("no time zone is called `{text}`"));
            let zones = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            match crate::config::suggest::nearest(text, zones) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.help("zones are named as in the IANA database: `UTC`, `Europe/Paris`"),
            }
        })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name())
    }
}

impl Serialize for Zone {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

leaf_serde!(Zone, "time-zone", { "examples": ["UTC", "Europe/Paris"] });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_that_editors_see_agrees_with_the_parser() {
        let pattern = |schema: schemars::Schema| {
            let pattern = schema.get("pattern").and_then(|p| p.as_str()).expect("a pattern").to_owned();
            regex::Regex::new(&pattern).expect("a pattern of ours")
        };
        let period = pattern(schemars::SchemaGenerator::default().into_root_schema_for::<Period>());
        let limit = pattern(schemars::SchemaGenerator::default().into_root_schema_for::<Limit>());
        for text in ["30s", "1h30m", "1h 30 m", " 5m ", "30", "", "s", "1.5h", "5M", "5 m s", "0", "never"] {
            assert_eq!(period.is_match(text), text.parse::<Period>().is_ok(), "{text:?}");
            assert_eq!(limit.is_match(text), text.parse::<Limit>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn limits_can_be_never() {
        assert_eq!("never".parse(), Ok(Limit(None)));
        assert_eq!("5m".parse(), Ok(Limit(Some(seconds(300)))));
        assert!("nver".parse::<Limit>().is_err_and(|f| f.help.is_some_and(|h| h.contains("never"))));
    }

    #[test]
    fn cron_has_five_fields() {
        assert!("0 3 * * mon-fri".parse::<CronExpression>().is_ok());
        assert!("@daily".parse::<CronExpression>().is_ok());
        for bad in ["", "* * * *", "0 0 3 * * *", "61 * * * *", "0 3 * * funday", "every day"] {
            let fault = bad.parse::<CronExpression>().expect_err(bad);
            assert_eq!(fault.code, Code::BadCron, "{bad:?}");
        }
    }

    #[test]
    fn zones_are_suggested() {
        assert_eq!("Europe/Paris".parse::<Zone>().map(|z| z.to_string()), Ok("Europe/Paris".to_owned()));
        let fault = "Europe/Pariss".parse::<Zone>().expect_err("no such zone");
        assert_eq!(fault.help.as_deref(), Some("did you mean `Europe/Paris`?"));
    }
}
