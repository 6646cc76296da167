//! Moments as the API writes them: RFC 3339 in UTC, with microseconds.

use chrono::{DateTime, SecondsFormat};
use rouse_model::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::time::Duration;
use utoipa::PartialSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

/// A moment on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Past the calendar's end there is nothing to say but the number.
        match DateTime::from_timestamp_micros(self.0.0) {
            Some(at) => f.pad(&at.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => self.0.0.fmt(f),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let at = DateTime::parse_from_rfc3339(&text).map_err(de::Error::custom)?;
        Ok(Self(Timestamp(at.timestamp_micros())))
    }
}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
        RefOr::T(Schema::Object(text.build()))
    }
}

impl utoipa::ToSchema for Moment {
    fn name() -> Cow<'static, str> {
        "Moment".into()
    }
}

/// Microseconds as seconds.
pub(super) fn secs_of_micros(micros: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "below a hundred years every microsecond has its own number"
    )]
    let micros = micros as f64;
    micros / 1e6
}

/// A span as seconds.
pub(super) fn secs(span: Duration) -> f64 {
    span.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_wire() {
        let moment = Moment(Timestamp(1_764_032_400_123_456));
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(text, "\"2025-11-25T01:00:00.123456Z\"");
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
    }
}
