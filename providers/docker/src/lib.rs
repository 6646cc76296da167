//! Workers as containers of a Docker daemon.
//!
//! In reading order: [`options`] is what the configuration may say; `daemon` is the daemon itself and `failure` what it can answer.

mod daemon;
mod failure;
pub mod options;

pub use daemon::Daemon;
