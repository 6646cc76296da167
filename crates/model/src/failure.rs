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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_the_name_that_it_is_kept_under() {
        use FailureClass::*;
        let all = [User, Image, Boot, Offering, Quota, Throttle, Auth, Preempted, AgentLost, Master];
        for class in all {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
        }
        let lasting: Vec<_> = all.into_iter().filter(|class| !class.is_transient()).collect();
        assert_eq!(lasting, [User, Image, Auth]);
    }
}
