//! Workers on machines that somebody else starts.
//!
//! A machine is enrolled once and comes to its master by itself. An account is a group of such machines; a launch on it is carried out by one of
//! them, with whatever makes processes there: every rule of workers holds as for any other provider.
//!
//! In reading order: [`wire`] is what the two sides say; `hub` knows the machines that are connected, `provider` is the contract over them, both within the
//! master; [`serving`] is the machine's side. Nothing here opens a connection, reads a clock of the wall or knows the store: who connects a machine hands
//! its calls over.

mod hub;
mod options;
mod provider;
pub mod serving;
pub mod wire;

pub use hub::{AttachError, Connected, Hub, Numbered, Standing};
pub use options::EnrolledKind;
