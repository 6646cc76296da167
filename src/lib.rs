pub mod config;
pub mod render;
pub mod sources;
