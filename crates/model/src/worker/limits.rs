//! How long what may take.

use std::time::Duration;

/// With no master heard for so long an agent ends itself, and its machine where it owns it.
pub const DEAD_MAN: Duration = Duration::from_secs(900);

/// Where nothing else is said; what an agent's coming may take is learned ([`boots`](crate::boots)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the call to the provider's acceptance.
    pub launch: Duration,
    /// From acceptance to the agent's hello.
    pub attach: Duration,
    /// How long an agent may be silent.
    pub grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            launch: Duration::from_secs(300),
            attach: crate::boots::UNKNOWN,
            grace: Duration::from_secs(60),
        }
    }
}
