//! The model's rules under values that nobody has thought of.

#[path = "rules/scaling.rs"]
mod scaling;
#[path = "rules/sequence.rs"]
mod sequence;
#[path = "rules/values.rs"]
mod values;
#[path = "rules/worker.rs"]
mod worker;
