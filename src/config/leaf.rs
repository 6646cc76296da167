//! The leaves of a configuration: names, units, patterns, templates, references. Each is one type that parses itself from text and
//! says in the schema, by its `format`, which type it is; the checker of structure calls the same parser with the text's place at hand.

mod many;
mod names;
mod patterns;
mod time;
mod values;

pub use many::OneOrMany;
pub(crate) use names::family;
pub use names::*;
pub use patterns::{MessagePattern, MessagePatterns, Pattern, Patterns};
pub use time::{CronExpression, Limit, Period, Zone};
pub(crate) use time::{seconds, seconds_up};
pub use values::*;

use super::fault::Code;
use std::ops::Range;

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafFault {
    pub code: Code,
    /// Lower case; follows "`KEY`: ".
    pub message: String,
    pub help: Option<String>,
    /// The part of the text that is wrong, in bytes; all of it where `None`.
    pub at: Option<Range<usize>>,
}

impl LeafFault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, at: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn at(mut self, at: Range<usize>) -> Self {
        self.at = Some(at);
        self
    }
}

impl std::fmt::Display for LeafFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LeafFault {}

/// A text that is checked when it is read, kept as it was written.
macro_rules! text_leaf {
    ($(#[$doc:meta])* $name:ident, $format:literal, $check:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text as it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::config::leaf::LeafFault;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let check: fn(&str) -> Result<(), $crate::config::leaf::LeafFault> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl From<$name> for String {
            fn from(leaf: $name) -> Self {
                leaf.0
            }
        }

        $crate::config::leaf::leaf_serde!($name, $format, $schema);
    };
}

/// `Deserialize` by the type's own parser, and a schema that names its format.
macro_rules! leaf_serde {
    ($name:ident, $format:literal, $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl $name {
            /// The schema's `format`.
            pub const FORMAT: &'static str = $format;
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut schema = schemars::json_schema!($schema);
                if schema.get("type").is_none() {
                    schema.insert("type".to_owned(), "string".into());
                }
                schema.insert("format".to_owned(), $format.into());
                schema
            }
        }
    };
}

pub(crate) use leaf_serde;
pub(crate) use text_leaf;

type LeafCheck = fn(&str) -> Result<(), LeafFault>;

fn parses<T: std::str::FromStr<Err = LeafFault>>(text: &str) -> Result<(), LeafFault> {
    text.parse::<T>().map(drop)
}

/// Format → its parser; what a provider's options may use too.
const FORMATS: &[(&str, LeafCheck)] = &[
    (BuilderName::FORMAT, parses::<BuilderName>),
    (PropertyName::FORMAT, parses::<PropertyName>),
    (EnvName::FORMAT, parses::<EnvName>),
    (Period::FORMAT, time::check_period),
    (rouse_contract::units::Bytes::FORMAT, time::check_bytes),
    (rouse_contract::units::Rate::FORMAT, time::check_rate),
    (rouse_contract::units::Tariff::FORMAT, time::check_tariff),
    (Limit::FORMAT, parses::<Limit>),
    (CronExpression::FORMAT, parses::<CronExpression>),
    (Zone::FORMAT, parses::<Zone>),
    (Pattern::FORMAT, parses::<Pattern>),
    (MessagePattern::FORMAT, parses::<MessagePattern>),
    (RegexText::FORMAT, parses::<RegexText>),
    (Template::FORMAT, parses::<Template>),
    (Script::FORMAT, parses::<Script>),
    (Condition::FORMAT, parses::<Condition>),
    (EnvValue::FORMAT, parses::<EnvValue>),
    (HeaderValue::FORMAT, parses::<HeaderValue>),
    (SecretRef::FORMAT, parses::<SecretRef>),
    (RelativePath::FORMAT, parses::<RelativePath>),
    (CachePath::FORMAT, parses::<CachePath>),
    (WebUrl::FORMAT, parses::<WebUrl>),
    (BucketUrl::FORMAT, parses::<BucketUrl>),
    (HostPort::FORMAT, parses::<HostPort>),
    (HostName::FORMAT, parses::<HostName>),
    (GitUrl::FORMAT, parses::<GitUrl>),
    (StepName::FORMAT, parses::<StepName>),
];

/// Checks a text against a schema's `format`; formats that are not ours are not checked.
pub(crate) fn check_format(format: &str, text: &str) -> Result<(), LeafFault> {
    FORMATS.iter().find(|(name, _)| *name == format).map_or(Ok(()), |(_, check)| check(text))
}

/// Whether the format is one of units, whose usual mistake is a bare number.
pub(crate) fn wants_unit(format: &str) -> bool {
    [Period::FORMAT, Limit::FORMAT, rouse_contract::units::Bytes::FORMAT].contains(&format)
}

/// Checks a key of a map, known by the pattern that the schema gives for it.
pub(crate) fn check_key(pattern: &str, key: &str) -> Result<(), LeafFault> {
    match pattern {
        names::NAME => parses::<BuilderName>(key),
        names::PROPERTY => parses::<PropertyName>(key),
        names::ENV => parses::<EnvName>(key),
        names::HEADER => parses::<HeaderName>(key),
        names::EXIT_CODE => parses::<ExitCode>(key),
        _ => Ok(()),
    }
}
