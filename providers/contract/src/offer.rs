//! What a pool may be launched as: things that its provider sells, each a place, a shape and a way to pay, with a price.

use crate::units::Tariff;
use std::time::Duration;

/// Offerings that are as good as each other but for their price, and how long they are tried before the next offer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// How long all of them must have been refused, without a break, before the next offer is taken; `None`: at once.
    pub try_for: Option<Duration>,
    pub of: Vec<Offering>,
}

/// One thing that a provider sells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offering {
    /// As its provider, its users and [`crate::LaunchOutcome::NoCapacity`] name it: `c7i.2xlarge spot eu-central-1b`. The same thing has the same name
    /// in all pools.
    pub name: String,
    /// `None`: as the pool says.
    pub price: Option<Tariff>,
}
