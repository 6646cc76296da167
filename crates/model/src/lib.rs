//! What Rouse is about, as values: ids, states, transitions and judgements.
//!
//! Pure: no I/O, no async, no clock, no randomness. Time comes in as an argument. Everything that must be decided the same way by the
//! master, the simulator and a test is decided here; the loops of the master only read rows, call a function of this crate and commit
//! what it answers.
//!
//! In reading order: [`ids`] and [`time`] name things and moments; [`source`], [`property`] and [`trust`] say what is built and how far it is trusted;
//! [`buildset`], [`approval`], [`build`] and [`plan`] follow one wish from request to result; [`worker`] is an instance's life; [`matching`], [`locks`],
//! [`scaling`] (by [`durations`] and [`arrivals`]; kept as [`decision`]) and [`sequence`] are the judgements.

pub mod approval;
pub mod arrivals;
pub mod boots;
pub mod breaker;
pub mod budget;
pub mod build;
pub mod buildset;
pub mod cache;
pub mod config_revision;
pub mod cursor;
pub mod decision;
pub mod durations;
pub mod enrolment;
pub mod event;
pub mod failure;
pub mod ids;
pub mod locks;
pub mod logs;
pub mod master;
pub mod matching;
pub mod money;
pub mod offering;
pub mod placement;
pub mod plan;
pub mod property;
pub mod result;
pub mod scaling;
pub mod sequence;
pub mod source;
pub mod test_report;
pub mod time;
pub mod trace;
pub mod trust;
pub mod worker;

pub use ids::*;
pub use result::BuildResult;
pub use time::Timestamp;
pub use trust::Trust;
