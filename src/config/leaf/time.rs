//! Time as it is written: `30s`, `1h30m`, `never`, cron expressions and time zones.

use super::{LeafFault, leaf_serde};
use crate::config::fault::Code;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Unit, its length in milliseconds; longest first, as `Display` wants them.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A length of time, written with its units: `500ms`, `30s`, `5m`, `1h30m`, `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(pub Duration);

impl Period {
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Whole seconds, rounded up so that a short limit never becomes none.
    #[must_use]
    pub fn as_secs_up(self) -> u64 {
        self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0)
    }
}

fn bad_period(text: &str) -> LeafFault {
    let fault = LeafFault::new(Code::BadUnit, format!("`{text}` is no length of time"));
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return fault.help(format!("write the unit: `{text}s`, `{text}m`, `{text}h`"));
    }
    fault.help("a length of time is a number and its unit: `500ms`, `30s`, `5m`, `1h30m`, `7d`, `2w`")
}

impl FromStr for Period {
    type Err = LeafFault;

    fn from_str(text: &str) -> Result<Self, LeafFault> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad_period(text));
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let after = after.trim_start();
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, next) = after.split_at(letters);
            let length = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, length)| *length);
            let part = number.parse::<u64>().ok().zip(length).and_then(|(n, l)| n.checked_mul(l));
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| bad_period(text))?;
            rest = next.trim_start();
        }
        // Microseconds in an i64 are what the store has; half of that leaves room for sums.
        if total > 100 * 365 * 86_400_000 {
            return Err(LeafFault::new(Code::OutOfRange, format!("`{text}` is more than a hundred years")));
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        for (unit, length) in UNITS {
            if rest >= length {
                text.push_str(&format!("{}{unit}", rest / length));
                rest %= length;
            }
        }
        f.pad(&text)
    }
}

impl Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

leaf_serde!(Period, "period", { "pattern": r"^\s*([0-9]+\s*(ms|s|m|h|d|w)\s*)+$", "examples": ["30s", "5m", "1h30m"] });

/// A length of time, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit(pub Option<Period>);

impl FromStr for Limit {
    type Err = LeafFault;
    fn from_str(text: &str) -> Result<Self, LeafFault> {
        if text == "never" {
            return Ok(Self(None));
        }
        match text.parse() {
            Ok(period) => Ok(Self(Some(period))),
            Err(fault) if fault.code == Code::BadUnit => {
                let help = fault.help.clone().unwrap_or_default();
                Err(fault.help(format!("{help}; or `never`")))
            }
            Err(fault) => Err(fault),
        }
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

leaf_serde!(Limit, "period-or-never", { "pattern": r"^(never|\s*([0-9]+\s*(ms|s|m|h|d|w)\s*)+)$", "examples": ["30s", "never"] });

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
        let cron = parser.parse(text).map_err(|error| {
            let why = error.to_string();
            let why = why.trim_end_matches('.');
            let (_, why) = why.split_once(": ").unwrap_or(("", why));
            LeafFault::new(Code::BadCron, format!("`{text}` is no cron expression: {}", lower_first(why)))
                .help("five fields: minute, hour, day of month, month, day of week, as in `0 3 * * mon-fri`")
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

    fn period(text: &str) -> Result<u128, Code> {
        text.parse::<Period>().map(|p| p.0.as_millis()).map_err(|f| f.code)
    }

    #[test]
    fn periods_have_units() {
        assert_eq!(period("30s"), Ok(30_000));
        assert_eq!(period("1h30m"), Ok(5_400_000));
        assert_eq!(period("1h 30 m"), Ok(5_400_000));
        assert_eq!(period("500ms"), Ok(500));
        assert_eq!(period("2w"), Ok(14 * 86_400_000));
        for bad in ["", " ", "30", "s", "30 parsecs", "-5s", "1.5h", "5M", "s30", "99999999999999999999s"] {
            assert_eq!(period(bad), Err(Code::BadUnit), "{bad:?}");
        }
        assert_eq!(period("101000d"), Err(Code::OutOfRange));
    }

    #[test]
    fn a_period_reads_back_what_it_writes() {
        for text in ["0s", "1ms", "59s", "1m1s", "1h30m", "3d12h", "2w1d"] {
            let period: Period = text.parse().expect("a period");
            assert_eq!(period.to_string(), text);
        }
    }

    #[test]
    fn the_pattern_that_editors_see_agrees_with_the_parser() {
        let schema = schemars::SchemaGenerator::default().into_root_schema_for::<Period>();
        let pattern = schema.get("pattern").and_then(|p| p.as_str()).expect("a pattern").to_owned();
        let pattern = regex::Regex::new(&pattern).expect("a pattern of ours");
        for text in ["30s", "1h30m", "1h 30 m", " 5m ", "30", "", "s", "1.5h", "5M", "5 m s", "never"] {
            assert_eq!(pattern.is_match(text), text.parse::<Period>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn limits_can_be_never() {
        assert_eq!("never".parse(), Ok(Limit(None)));
        assert_eq!("5m".parse(), Ok(Limit(Some(Period::from_secs(300)))));
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
