//! What every scenario stands on: a master as a process, real repositories, real images, and a count of what is left over.
//!
//! It looks at the product from outside only: processes, files, sockets, the API, the daemons' own listings. What it starts it takes away
//! by id when it is dropped, also where the scenario fails. It must not use any of the product's code.

// A scenario uses the parts that it needs; which ones changes from file to file.
#![allow(dead_code, unused_imports)]

pub mod api;
pub mod bench;
pub mod builds;
pub mod collector;
pub mod database;
pub mod docker;
pub mod dockerd;
pub mod gate;
pub mod git;
pub mod lan;
pub mod leftovers;
pub mod lfs;
pub mod master;
pub mod mount;
pub mod postgres;
pub mod processes;
pub mod registry;
pub mod rootless;
pub mod s3;
pub mod scratch;
pub mod sshd;
pub mod story;
pub mod wait;
pub mod wire;

pub use api::Api;
pub use bench::{Bench, Build};
pub use collector::Collector;
pub use database::Database;
pub use docker::Docker;
pub use dockerd::Dockerd;
pub use gate::{Gate, Manner};
pub use git::GitRepo;
pub use lan::Lan;
pub use leftovers::Leftovers;
pub use master::{Master, Options};
pub use mount::Mount;
pub use postgres::OwnPostgres;
pub use registry::Registry;
pub use rootless::Rootless;
pub use scratch::Scratch;
pub use sshd::Sshd;
pub use wire::{Way, Wire};
