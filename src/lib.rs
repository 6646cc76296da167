pub mod render;
pub mod sources;
