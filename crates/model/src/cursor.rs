//! How far somebody has followed the event log, where that must outlive who followed it.

use serde::{Deserialize, Serialize};

/// A reader's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Who reads.
    pub reader: String,
    /// The number of the last event that it is done with.
    pub seq: i64,
    pub generation: i64,
}
