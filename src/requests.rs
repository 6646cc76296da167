//! Wishes: the one door by which buildsets are made, what people may ask for, and the way in which requests end.

mod finish;
pub mod force;
mod make;

pub use finish::{Passed, Passing, Turnstile, finish, request_event};
pub use force::{Asked, AskedSource, ForceError};
pub use make::{Made, MakeError, Stamp, Wish, make};
