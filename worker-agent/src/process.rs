//! Running programs: find, spawn, read, watch the clock, kill the tree, say how it ended.
//!
//! One thread for each command owns its process and pipes. Nothing here knows the link.

mod environment;
mod follow;
mod output;
mod program;
mod pty;
mod reaper;
mod spawn;
mod supervise;
mod tree;

pub use environment::{DEFAULT_PATH, base_environment};
pub use program::is_program;
pub use reaper::Reaper;
pub use supervise::{Ended, Place, RunError, run};
pub use tree::kill_everything;
