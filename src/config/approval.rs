//! `approval` of a builder: whose requests wait until a person says that they may be built.

use super::context::Context;
use super::leaf::{Period, seconds};
use super::tree::Path;
use rouse_model::approval::ApprovalOf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Nothing waits for ever.
const DEFAULT_WITHIN: Period = seconds(30 * 24 * 3600);

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Approval")]
pub(crate) enum RawApproval {
    Word(RawApprovalOf),
    With(RawApprovalWith),
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ApprovalOf")]
pub(crate) enum RawApprovalOf {
    /// Of requests of untrusted origin.
    Strangers,
    /// Of every request.
    All,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApprovalWith")]
pub(crate) struct RawApprovalWith {
    /// `strangers`: requests of untrusted origin wait; `all`: every request does.
    of: RawApprovalOf,
    /// A request that nobody approves in this time is cancelled. Default: `30d`.
    within: Option<Period>,
}

/// Whose requests wait for a person, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ApprovalConfig {
    pub of: ApprovalOf,
    pub within: Period,
}

impl RawApproval {
    /// What one builder itself says.
    pub(crate) fn check_own(self, cx: &mut Context<'_>, path: &Path) {
        if let Self::With(with) = self {
            cx.at_least(with.within, seconds(1), &path.join("within"));
        }
    }

    pub(crate) fn check(self) -> ApprovalConfig {
        let with = match self {
            Self::Word(of) => RawApprovalWith { of, within: None },
            Self::With(with) => with,
        };
        ApprovalConfig {
            of: match with.of {
                RawApprovalOf::Strangers => ApprovalOf::Strangers,
                RawApprovalOf::All => ApprovalOf::All,
            },
            within: with.within.unwrap_or(DEFAULT_WITHIN),
        }
    }
}
