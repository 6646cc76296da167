//! Another root, for the fuzz targets alone (`fuzz/master`): the rooms that read foreign bytes, without the rest of the master.
//!
//! The master itself is put together in `lib.rs`. What these rooms may use is held by `tidy`; that they build here shows that it is little.

pub mod config;
pub mod junit;
pub mod render;
pub mod sources;
