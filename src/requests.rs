//! Wishes: the one door by which buildsets are made, what people may ask for, and the way in which requests end.

mod approve;
mod cancel;
mod finish;
pub mod force;
mod locks;
mod make;
mod supersede;

pub use approve::{ApproveError, Approved, approve};
pub use cancel::{CancelError, TRIES, cancel, cancel_if_open};
pub use finish::{Closed, Passed, Passing, Turnstile, finish, request_event};
pub use force::{Asked, AskedSource, ForceError};
pub use locks::needs;
pub use make::{Draft, Made, MakeError, Stamp, Wish, draft, make};
pub use supersede::{SupersedeError, supersede};
