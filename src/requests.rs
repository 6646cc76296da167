//! Wishes: the one door by which buildsets are made, and the way in which requests end.

mod finish;

pub use finish::{finish, request_event};
