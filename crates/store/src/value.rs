//! Values as both databases carry them, and how the model's types become them.

use rouse_model::approval::Approval;
use rouse_model::build::CommandState;
use rouse_model::buildset::{Provision, RequestState};
use rouse_model::decision::{DecisionCode, Reckoning};
use rouse_model::failure::FailureClass;
use rouse_model::locks::Hold;
use rouse_model::money::{Money, Price};
use rouse_model::offering::{Scarce, Wants};
use rouse_model::property::{Properties, Property};
use rouse_model::test_report::TestOutcome;
use rouse_model::worker::{Link, Phase, Wanted};
use rouse_model::{BuildResult, Timestamp, Trust};
use serde::Serialize;
use serde::de::{DeserializeOwned, IntoDeserializer};
use std::collections::BTreeSet;
use std::time::Duration;

/// A column's type; `NULL` must name it, since PostgreSQL wants every parameter typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    I64,
    Text,
    Bytes,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null(Type),
    I64(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::I64(v)
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(without_nul(v))
    }
}

/// PostgreSQL's text holds no NUL, and what a dying instance prints may: it is kept as the sign for what cannot be shown.
fn without_nul(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

/// A cell that does not hold what its column must: a damaged or foreign database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of {table} holds {found}")]
pub struct Malformed {
    pub table: &'static str,
    pub column: &'static str,
    pub found: String,
}

/// A type that stands in a column.
pub trait Field: Sized {
    const TYPE: Type;
    fn put(&self) -> Value;
    /// Gives the cell back where it holds something else.
    fn take(value: Value) -> Result<Self, Value>;
}

impl Field for i64 {
    const TYPE: Type = Type::I64;
    fn put(&self) -> Value {
        Value::I64(*self)
    }
    fn take(value: Value) -> Result<Self, Value> {
        if let Value::I64(v) = value { Ok(v) } else { Err(value) }
    }
}

impl Field for bool {
    const TYPE: Type = Type::I64;
    fn put(&self) -> Value {
        Value::I64(i64::from(*self))
    }
    fn take(value: Value) -> Result<Self, Value> {
        i64::take(value).map(|v| v != 0)
    }
}

impl Field for String {
    const TYPE: Type = Type::Text;
    fn put(&self) -> Value {
        Value::Text(without_nul(self))
    }
    fn take(value: Value) -> Result<Self, Value> {
        if let Value::Text(v) = value { Ok(v) } else { Err(value) }
    }
}

impl Field for Vec<u8> {
    const TYPE: Type = Type::Bytes;
    fn put(&self) -> Value {
        Value::Bytes(self.clone())
    }
    fn take(value: Value) -> Result<Self, Value> {
        if let Value::Bytes(v) = value { Ok(v) } else { Err(value) }
    }
}

impl<T: Field> Field for Option<T> {
    const TYPE: Type = T::TYPE;
    fn put(&self) -> Value {
        self.as_ref().map_or(Value::Null(T::TYPE), Field::put)
    }
    fn take(value: Value) -> Result<Self, Value> {
        if matches!(value, Value::Null(_)) { Ok(None) } else { T::take(value).map(Some) }
    }
}

impl Field for Money {
    const TYPE: Type = Type::I64;
    fn put(&self) -> Value {
        Value::I64(self.0)
    }
    fn take(value: Value) -> Result<Self, Value> {
        i64::take(value).map(Self)
    }
}

impl Field for Price {
    const TYPE: Type = Type::I64;
    fn put(&self) -> Value {
        Value::I64(self.0)
    }
    fn take(value: Value) -> Result<Self, Value> {
        i64::take(value).map(Self)
    }
}

impl Field for Timestamp {
    const TYPE: Type = Type::I64;
    fn put(&self) -> Value {
        Value::I64(self.0)
    }
    fn take(value: Value) -> Result<Self, Value> {
        i64::take(value).map(Self)
    }
}

/// In microseconds.
impl Field for Duration {
    const TYPE: Type = Type::I64;
    fn put(&self) -> Value {
        Value::I64(i64::try_from(self.as_micros()).unwrap_or(i64::MAX))
    }
    fn take(value: Value) -> Result<Self, Value> {
        let micros = i64::take(value)?;
        u64::try_from(micros).map(Self::from_micros).map_err(|_| Value::I64(micros))
    }
}

impl Field for BuildResult {
    const TYPE: Type = Type::I64;
    fn put(&self) -> Value {
        Value::I64(*self as i64)
    }
    fn take(value: Value) -> Result<Self, Value> {
        let number = i64::take(value)?;
        Self::from_number(number).ok_or(Value::I64(number))
    }
}

macro_rules! id_fields {
    ($($name:ident)*) => {$(
        impl Field for rouse_model::$name {
            const TYPE: Type = Type::I64;
            fn put(&self) -> Value { Value::I64(self.0) }
            fn take(value: Value) -> Result<Self, Value> { i64::take(value).map(Self) }
        }
    )*};
}
id_fields!(MasterId ChangeId ChangeSetId BuildsetId RequestId BuildId StepId CommandId LogId ArtifactId CacheId DecisionId BudgetGrantId WorkerId ConfigRevisionId TokenId);

/// A plain enum's one word, without the quotes that JSON would put round it.
fn word<T: Serialize>(value: &T) -> Value {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Value::Text(word),
        _ => unreachable!("a unit variant serializes to a string"),
    }
}

fn from_word<T: DeserializeOwned>(value: Value) -> Result<T, Value> {
    let word = String::take(value)?;
    let read: Result<T, serde::de::value::Error> = T::deserialize(word.as_str().into_deserializer());
    read.map_err(|_| Value::Text(word))
}

macro_rules! word_fields {
    ($($name:ty)*) => {$(
        impl Field for $name {
            const TYPE: Type = Type::Text;
            fn put(&self) -> Value { word(self) }
            fn take(value: Value) -> Result<Self, Value> { from_word(value) }
        }
    )*};
}
word_fields!(DecisionCode Trust RequestState CommandState FailureClass TestOutcome);

macro_rules! json_fields {
    ($($name:ty)*) => {$(
        impl Field for $name {
            const TYPE: Type = Type::Text;
            fn put(&self) -> Value {
                Value::Text(serde_json::to_string(self).expect("the model's values have string keys and finite numbers only"))
            }
            fn take(value: Value) -> Result<Self, Value> {
                let text = String::take(value)?;
                serde_json::from_str(&text).map_err(|_| Value::Text(text))
            }
        }
    )*};
}
json_fields!(Scarce BTreeSet<Wants> Reckoning Approval Properties Property Provision Wanted Phase Link Vec<String> Vec<Hold>);
