//! What accounts could not give lately, as all masters know it.

use crate::Timestamp;
use crate::failure::FailureClass;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What an account does not have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scarce {
    /// As its provider names it.
    Offering(String),
    /// Its scope.
    Quota(String),
}

impl Scarce {
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Offering(_) => FailureClass::Offering,
            Self::Quota(_) => FailureClass::Quota,
        }
    }
}

/// For a person.
impl fmt::Display for Scarce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offering(name) => write!(f, "no capacity for {name}"),
            Self::Quota(scope) => write!(f, "quota of {scope} is used up"),
        }
    }
}

/// Whom a refusal concerns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wants {
    /// Whoever asks for the offering of this name.
    Named(String),
    /// The launches of a pool without offers.
    OfPool(String),
    /// Those of all pools without offers.
    Unnamed,
}

/// What is known of something that an account has refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferingHealth {
    pub account: String,
    pub what: Scarce,
    pub wanted_by: BTreeSet<Wants>,
    /// Without a break; `None` where it could be had since, and few find out how much of it there is.
    pub refused_since: Option<Timestamp>,
    /// One after the other: the pause is longer with each.
    pub failures: i64,
    /// Nobody asks for it before that.
    pub until: Timestamp,
    /// The latest of two that are written down is right.
    pub changed: Timestamp,
}
