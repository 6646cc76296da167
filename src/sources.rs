//! Git mirrors, and the patterns by which configs pick branches, files and messages.

mod patterns;

pub use patterns::{PatternError, Patterns};
