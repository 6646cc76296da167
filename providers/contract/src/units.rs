//! Written units: `4 GiB`, `1h 30m`, `10/s`. Options never hold a bare number whose unit one must know.
//!
//! This is the only parser of units: the configuration's own keys (`timeout`, `poll`, `keep`) use these types as every provider's options
//! do. Each type reads from and writes to a string, and its schema carries the pattern and an example for the editor.

use rouse_model::money::{Money, Price};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// An amount of memory or disk: `512 MiB`, `4 GiB`, `1.5 GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A length of time: `500ms`, `30s`, `5m`, `1h 30m`, `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// How many calls in a second, a minute or an hour: `10/s`, `600/m`. Never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    pub calls: u32,
    pub per: Per,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    Second,
    Minute,
    Hour,
}

impl Per {
    const ALL: [(&'static str, Self); 3] = [("s", Self::Second), ("m", Self::Minute), ("h", Self::Hour)];

    fn seconds(self) -> f64 {
        match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3600.0,
        }
    }
}

impl Rate {
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.calls) / self.per.seconds()
    }
}

/// What something costs, or what may be spent, in a length of time: `0.17 USD/h`, `30 USD/day`. Never nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tariff {
    pub amount: Money,
    pub currency: Currency,
    pub each: Each,
}

/// Three capital letters, as ISO 4217 has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Each {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl Each {
    const ALL: [(&'static str, Self); 5] = [
        ("min", Self::Minute),
        ("h", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, each)| *each == self).map_or("h", |(name, _)| name)
    }

    /// A month is taken for thirty days.
    fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 24 * 60,
            Self::Week => 7 * 24 * 60,
            Self::Month => 30 * 24 * 60,
        }
    }
}

impl Tariff {
    /// The same for each hour.
    #[must_use]
    pub fn price(self) -> Price {
        let micros = i128::from(self.amount.0) * 60 / i128::from(self.each.minutes());
        Price(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{text}` has no unit; write {example}")]
    NoUnit { text: String, example: &'static str },
    #[error("`{unit}` is not a unit here; use {known}")]
    UnknownUnit { unit: String, known: &'static str },
    #[error("`{text}` is not an amount; write {example}")]
    NotAnAmount { text: String, example: &'static str },
    #[error("`{text}` is too large")]
    TooLarge { text: String },
    #[error("`{text}` is none at all; write {example}, or leave it out")]
    None { text: String, example: &'static str },
}

const BYTES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const SPANS: [(&str, u64); 6] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let example = "for example `512 MiB` or `4 GiB`";
        let (number, unit) = split(text.trim(), example)?;
        let scale = BYTES.iter().find(|(name, _)| *name == unit).ok_or_else(|| UnitError::UnknownUnit {
            unit: unit.into(),
            known: "B, KiB, MiB, GiB, TiB, kB, MB, GB or TB",
        })?;
        scaled(number, scale.1).map(Self).ok_or_else(|| UnitError::TooLarge { text: text.into() })
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let example = "for example `30s`, `5m` or `1h 30m`";
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut total: u64 = 0;
        loop {
            let (number, after) = split(rest, example)?;
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, tail) = after.split_at(end);
            let scale = SPANS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(|| UnitError::UnknownUnit { unit: unit.into(), known: "ms, s, m, h, d or w" })?;
            total = scaled(number, scale.1)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| UnitError::TooLarge { text: text.into() })?;
            rest = tail.trim_start();
            if rest.is_empty() {
                return Ok(Self(Duration::from_nanos(total)));
            }
        }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let example = "for example `10/s` or `600/m`";
        let wrong = || UnitError::NotAnAmount { text: text.into(), example };
        let (calls, unit) = match text.split_once('/') {
            Some((calls, unit)) => (calls.trim(), unit.trim()),
            None if text.trim().parse::<u64>().is_ok() => {
                return Err(UnitError::NoUnit { text: text.into(), example });
            }
            None => return Err(wrong()),
        };
        if calls.is_empty() || !calls.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let calls: u32 = calls.parse().map_err(|_| UnitError::TooLarge { text: text.into() })?;
        let known = Per::ALL.iter().find(|(name, _)| *name == unit);
        let (_, per) =
            known.ok_or_else(|| UnitError::UnknownUnit { unit: unit.into(), known: "s, m or h" })?;
        if calls == 0 {
            return Err(UnitError::None { text: text.into(), example });
        }
        Ok(Self { calls, per: *per })
    }
}

impl FromStr for Tariff {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let example = "for example `0.17 USD/h` or `30 USD/day`";
        let (amount, unit) = split(text.trim(), example)?;
        let Some((currency, each)) = unit.split_once('/').map(|(one, other)| (one.trim(), other.trim()))
        else {
            return Err(UnitError::NoUnit { text: text.into(), example });
        };
        let code =
            <[u8; 3]>::try_from(currency.as_bytes()).ok().filter(|c| c.iter().all(u8::is_ascii_uppercase));
        let code = code.ok_or_else(|| UnitError::UnknownUnit {
            unit: currency.into(),
            known: "the three letters of a currency: USD, EUR",
        })?;
        let known = Each::ALL.iter().find(|(name, _)| *name == each);
        let (_, each) = known.ok_or_else(|| UnitError::UnknownUnit {
            unit: each.into(),
            known: "min, h, day, week or month",
        })?;
        let micros = scaled(amount, 1_000_000).and_then(|micros| i64::try_from(micros).ok());
        match micros {
            None => Err(UnitError::TooLarge { text: text.into() }),
            Some(0) => Err(UnitError::None { text: text.into(), example }),
            Some(micros) => Ok(Self { amount: Money(micros), currency: Currency(code), each: *each }),
        }
    }
}

/// The number at the start and what follows it.
fn split<'a>(text: &'a str, example: &'static str) -> Result<(&'a str, &'a str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let valid = number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit())
        && number.matches('.').count() <= 1;
    if !valid {
        return Err(UnitError::NotAnAmount { text: text.into(), example });
    }
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Err(UnitError::NoUnit { text: text.into(), example });
    }
    Ok((number, rest))
}

/// `number × scale` in whole units, without the rounding of floating point for what people write.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let fraction: u128 =
        if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").get(..9)?.parse().ok()? };
    let part = u64::try_from(fraction * u128::from(scale) / 1_000_000_000).ok()?;
    whole.checked_mul(scale)?.checked_add(part)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = BYTES.iter().filter(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale));
        let (unit, scale) = best.max_by_key(|(_, scale)| *scale).unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / scale)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if left < SPANS[0].1 {
            return f.write_str("0s");
        }
        let mut gap = "";
        for (unit, scale) in SPANS.iter().rev().filter(|(unit, _)| *unit != "w") {
            if left >= *scale {
                write!(f, "{gap}{}{unit}", left / scale)?;
                left %= scale;
                gap = " ";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, _) = Per::ALL.iter().find(|(_, per)| *per == self.per).unwrap_or(&Per::ALL[0]);
        write!(f, "{}/{unit}", self.calls)
    }
}

impl fmt::Display for Tariff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.amount, self.currency, self.each.as_str())
    }
}

macro_rules! written {
    ($type:ident, $format:literal, $expecting:literal, $pattern:literal) => {
        impl $type {
            /// The schema's `format`, by which the configuration finds this parser for every provider's options.
            pub const FORMAT: &'static str = $format;
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "format": $format,
                    "pattern": $pattern,
                    "description": $expecting
                })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    };
}

written!(
    Bytes,
    "bytes",
    "An amount of bytes with its unit: `512 MiB`, `4 GiB`.",
    r"^\s*[0-9]+(\.[0-9]+)?\s*([KMGT]iB|[kMGT]?B)\s*$"
);
written!(
    Span,
    "period",
    "A length of time with its unit: `30s`, `5m`, `1h 30m`, `90d`.",
    r"^\s*(0|([0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d|w)\s*)+)\s*$"
);
written!(
    Rate,
    "rate",
    "So many calls in a second, a minute or an hour: `10/s`, `600/m`.",
    r"^\s*0*[1-9][0-9]*\s*/\s*(s|m|h)\s*$"
);
written!(
    Tariff,
    "tariff",
    "An amount of money in a length of time: `0.17 USD/h`, `30 USD/day`.",
    r"^\s*[0-9]+(\.[0-9]+)?\s*[A-Z]{3}\s*/\s*(min|h|day|week|month)\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, written, per_second) in
            [("10/s", "10/s", 10.0), (" 600 / m ", "600/m", 10.0), ("9/h", "9/h", 0.0025)]
        {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.to_string().as_str(), rate.per_second()), (written, per_second));
        }
        let said = |text: &str| text.parse::<Rate>().expect_err(text).to_string();
        assert_eq!(said("10"), "`10` has no unit; write for example `10/s` or `600/m`");
        assert_eq!(said("10/d"), "`d` is not a unit here; use s, m or h");
        assert_eq!(said("0/s"), "`0/s` is none at all; write for example `10/s` or `600/m`, or leave it out");
        assert_eq!(said("99999999999/s"), "`99999999999/s` is too large");
        for wrong in ["", "/s", "-1/s", "1.5/s", "many/s", "10/", "10/s/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn money_is_read_and_written() {
        for (text, written, an_hour) in [
            ("0.17 USD/h", "0.17 USD/h", 170_000),
            (" 30USD / day", "30.00 USD/day", 1_250_000),
            ("0.50 EUR/min", "0.50 EUR/min", 30_000_000),
            ("7.2 EUR/month", "7.20 EUR/month", 10_000),
        ] {
            let tariff: Tariff = text.parse().expect(text);
            assert_eq!((tariff.to_string().as_str(), tariff.price().0), (written, an_hour));
        }
        let said = |text: &str| text.parse::<Tariff>().expect_err(text).to_string();
        assert_eq!(said("3 USD"), "`3 USD` has no unit; write for example `0.17 USD/h` or `30 USD/day`");
        assert_eq!(said("3 USD/year"), "`year` is not a unit here; use min, h, day, week or month");
        assert_eq!(said("3 $/h"), "`$` is not a unit here; use the three letters of a currency: USD, EUR");
        assert_eq!(
            said("0 USD/h"),
            "`0 USD/h` is none at all; write for example `0.17 USD/h` or `30 USD/day`, or leave it out"
        );
        assert_eq!(said("99999999999999 USD/h"), "`99999999999999 USD/h` is too large");
        assert!("-1 USD/h".parse::<Tariff>().is_err() && "USD/h".parse::<Tariff>().is_err());
    }

    #[test]
    fn amounts_are_read_exactly() {
        for (text, bytes) in [
            ("4 GiB", 4 << 30),
            ("512MiB", 512 << 20),
            ("1.5 GB", 1_500_000_000),
            ("0.1 kB", 100),
            ("7 B", 7),
            (" 64 KiB ", 65_536),
        ] {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(bytes)), "{text}");
        }
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("90d", 90 * 86_400_000),
            ("0", 0),
        ] {
            assert_eq!(text.parse::<Span>(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_amount_says_what_to_write() {
        let said = |text: &str| text.parse::<Bytes>().expect_err(text).to_string();
        assert_eq!(said("4"), "`4` has no unit; write for example `512 MiB` or `4 GiB`");
        assert_eq!(said("4 gigs"), "`gigs` is not a unit here; use B, KiB, MiB, GiB, TiB, kB, MB, GB or TB");
        assert_eq!(said("much"), "`much` is not an amount; write for example `512 MiB` or `4 GiB`");
        assert_eq!(said("99999999999 TiB"), "`99999999999 TiB` is too large");
        for wrong in ["", "-5s", "5", "5 parsecs", "1..5s", ".5s", "5.s", "5s 3", "s"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 999, 1000, 1024, 1 << 20, 1_500_000_000, (4 << 30) + 1, u64::MAX] {
            let text = Bytes(bytes).to_string();
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(bytes)), "{text}");
        }
        for millis in [0, 1, 999, 1000, 61_000, 5_400_000, 86_400_000 * 8 + 1] {
            let text = Span(Duration::from_millis(millis)).to_string();
            assert_eq!(text.parse::<Span>(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        assert_eq!(Bytes(4 << 30).to_string(), "4 GiB");
        assert_eq!(Span(Duration::from_secs(5_400)).to_string(), "1h 30m");
    }
}
