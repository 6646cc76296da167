//! What tests of every crate share. Never linked into a shipped binary.

pub mod back_ends;
pub mod chance;
pub mod clock;
pub mod faults;
