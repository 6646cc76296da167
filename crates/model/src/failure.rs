//! Classes of failure. An infrastructure failure is never a red build.

use serde::{Deserialize, Serialize};

/// Whose fault it is, and so what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The build's own doing: red.
    User,
    /// The image is missing, broken, of another platform.
    Image,
    /// The instance came but no agent attached.
    Boot,
    /// The offering has no capacity.
    Offering,
    Quota,
    Throttle,
    /// Credentials or permissions.
    Auth,
    /// Taken back by its owner.
    Preempted,
    AgentLost,
    /// The master's own fault.
    Master,
}

impl FailureClass {
    /// Whether trying again with the same inputs can help without somebody mending something.
    #[must_use]
    pub fn is_transient(self) -> bool {
        !matches!(self, Self::User | Self::Image | Self::Auth)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Image => "image",
            Self::Boot => "boot",
            Self::Offering => "offering",
            Self::Quota => "quota",
            Self::Throttle => "throttle",
            Self::Auth => "auth",
            Self::Preempted => "preempted",
            Self::AgentLost => "agent_lost",
            Self::Master => "master",
        }
    }
}
