//! How far the origin of a build is trusted. A key, not a feature: it enters the class that a warm worker may be reused for.

use serde::{Deserialize, Serialize};

/// Ordered: an untrusted origin is less than a trusted one, so the trust of several is their minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    Untrusted,
    Trusted,
}

impl Trust {
    /// The least of all; trusted where there is none.
    pub fn least(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().min().unwrap_or(Self::Trusted)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Trusted => "trusted",
        }
    }
}
