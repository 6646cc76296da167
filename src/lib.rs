pub mod config;
pub mod logs;
pub mod objects;
pub mod render;
pub mod sources;
mod supervisor;
