//! Every id is its own type, so that a build's number is never taken for a worker's. Ids are positive `i64`, taken from blocks that a
//! master reserves in the store, and never reused.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $name(pub i64);

            impl $name {
                /// The kind's name in the store's table of reserved blocks.
                pub const KIND: &'static str = $kind;
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }

            impl FromStr for $name {
                type Err = std::num::ParseIntError;
                fn from_str(text: &str) -> Result<Self, Self::Err> {
                    text.parse().map(Self)
                }
            }

            impl From<i64> for $name {
                fn from(value: i64) -> Self {
                    Self(value)
                }
            }

            impl TypedId for $name {
                const KIND: &'static str = $kind;
            }
        )*
    };
}

/// What the store needs to know of an id type to hand out fresh ones.
pub trait TypedId: From<i64> + Copy + Send {
    const KIND: &'static str;
}

ids! {
    /// One master process's row; its heartbeat and term stand there.
    MasterId = "master";
    /// One commit seen in a codebase.
    ChangeId = "change";
    /// All commits of one look at one branch.
    ChangeSetId = "change_set";
    /// Requests that were made together.
    BuildsetId = "buildset";
    /// One wish to build one builder.
    RequestId = "request";
    /// One attempt on an attached worker.
    BuildId = "build";
    /// One part of a build.
    StepId = "step";
    /// One thing an agent is asked to do; also the key of "at most once".
    CommandId = "command";
    /// One log; also the stream id on the agent link.
    LogId = "log";
    /// One file kept from a build.
    ArtifactId = "artifact";
    /// One version of a cache.
    CacheId = "cache";
    /// One latent worker, from wish to gone.
    WorkerId = "worker";
    /// What passes of the fleet came to for one pool.
    DecisionId = "decision";
    /// What somebody allows beyond a budget.
    BudgetGrantId = "budget_grant";
    /// One applied configuration.
    ConfigRevisionId = "config_revision";
    /// One event of the log; not its sequence number.
    EventId = "event";
    /// One API token.
    TokenId = "token";
}

/// A checked name of a thing in the configuration or the fleet: letters, digits, `-`, `_`, `.`; at most 64 bytes; starts with a letter or digit.
///
/// # Errors
/// Says which rule the text broke.
pub fn check_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("a name cannot be empty");
    }
    if text.len() > 64 {
        return Err("a name has at most 64 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("a name starts with a letter or a digit");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err("a name has only letters, digits, `-`, `_` and `.`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_which_rule_it_breaks() {
        for good in ["a", "7", "linux-x86_64.v3", &"a".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for (bad, word) in [
            ("", "empty"),
            (&*"a".repeat(65), "64"),
            ("-a", "starts"),
            ("a b", "only"),
            ("é", "starts"),
            ("aé", "only"),
        ] {
            assert!(check_name(bad).is_err_and(|why| why.contains(word)), "{bad}");
        }
    }
}
