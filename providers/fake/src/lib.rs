//! A provider whose instances exist in memory alone, for simulations of the fleet: they boot after a time, and go wrong by a script.
//!
//! [`Cloud`] is the back end, owned by the test and seen from outside by it; [`FakeKind`] is how a configuration names an account on it. It keeps
//! the contract as any other provider does, and must not know the master, the store or who speaks for its instances' agents.

mod cloud;
mod options;
mod provider;

pub use cloud::{Cloud, Fault, on};
pub use options::FakeKind;
