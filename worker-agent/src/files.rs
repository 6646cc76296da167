//! Files to and from the master, by HTTP on its listener beside the link. Each transfer is a command with a thread of its own.

mod direct;
mod download;
mod http;
mod pack;
mod unpack;
mod upload;

pub use download::download;
pub use upload::upload;
