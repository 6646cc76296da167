//! The model's rules under values that nobody has thought of.

#[path = "rules/arrivals.rs"]
mod arrivals;
#[path = "rules/durations.rs"]
mod durations;
#[path = "rules/locks.rs"]
mod locks;
#[path = "rules/offers.rs"]
mod offers;
#[path = "rules/paid.rs"]
mod paid;
#[path = "rules/parking.rs"]
mod parking;
#[path = "rules/scaling.rs"]
mod scaling;
#[path = "rules/sequence.rs"]
mod sequence;
#[path = "rules/values.rs"]
mod values;
#[path = "rules/worker.rs"]
mod worker;
