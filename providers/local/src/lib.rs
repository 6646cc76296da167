//! Workers as processes on the master's own host.
//!
//! Each worker is one agent in a session of its own, which outlives the master. Where the master is root, each has an unprivileged user of
//! its own and cannot read the master's state; else all run as the master's user. What belongs to a worker is told by a record beside its
//! folder, by the tag in its environment and, where it has one, by its user: a process id alone is never trusted, since ids are used again.
//!
//! In reading order: [`options`] is what the configuration may say; `places` is the folder on disk; `record` is what is known of one
//! worker; `uids` hands out users; `spawn` starts an agent; `processes` reads `/proc`; `ending` kills what belongs to a worker; `exits` tells
//! of deaths; `account` does what a call asks for, and `provider` is the contract over it. State: the account's folder alone; nothing is kept in memory that is not there.

mod account;
mod agent_file;
mod ending;
mod exits;
mod lock;
pub mod options;
mod places;
mod processes;
mod provider;
mod record;
mod shelves;
mod spawn;
mod tagging;
mod uids;

pub use options::LocalKind;
pub use provider::Local;
