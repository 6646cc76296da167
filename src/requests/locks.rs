//! What locks a request needs, as the configuration in force has it.

use crate::config::{BuilderConfig, Config};
use rouse_model::locks::Need;

/// The locks that a builder's requests need that are about this branch; empty for most.
#[must_use]
pub fn needs<'a>(config: &'a Config, builder: &'a BuilderConfig, branch: Option<&'a str>) -> Vec<Need<'a>> {
    let need = |(name, share): (&'a crate::config::LockName, &rouse_model::locks::Share)| {
        let lock = *config.locks.get(name)?;
        Some(Need { name: name.as_str(), lock, share: *share, branch })
    };
    builder.locks.iter().filter_map(need).collect()
}
