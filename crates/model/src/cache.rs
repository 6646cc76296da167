//! What builds keep for those after them: each version of a cache is one archive, written once and never changed.

use crate::{BuildId, CacheId, Timestamp};
use serde::{Deserialize, Serialize};

/// One version of what lies under one key of a project's cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    pub id: CacheId,
    pub project: String,
    pub name: String,
    /// What tells contents of the same cache apart, such as a compiler's name; may be empty.
    pub key: String,
    /// The build that left it, always a trusted one.
    pub build: BuildId,
    /// Of the archive.
    pub bytes: i64,
    pub sha256: String,
    /// The archive's object.
    pub object: String,
    pub created: Timestamp,
    /// When a build last began with it; not exact.
    pub used: Timestamp,
    /// Since when it is given to nobody any more: a build that is reading it may end that. `None` for the one version that counts.
    pub replaced: Option<Timestamp>,
    pub generation: i64,
}
