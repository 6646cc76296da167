//! Another root, for the fuzz targets alone (`fuzz/agent`): what of the agent reads foreign bytes. The agent itself is put together in `main.rs`.
#![allow(dead_code)]

pub mod paths;
#[path = "files/unpack.rs"]
pub mod unpack;
