//! `projects`: tenants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The project of what names none; it need not be declared.
pub const DEFAULT_PROJECT: &str = "default";

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Project")]
pub(crate) struct RawProject {
    /// Its part of what several projects want at once: a project of share 2 gets twice what one of share 1 gets. Default: 1.
    #[schemars(range(min = 1, max = 1000))]
    share: Option<u32>,
}

/// A tenant: owner of codebases and builders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProjectConfig {
    pub share: u32,
}

impl Default for ProjectConfig {
    fn default() -> Self {
        Self { share: 1 }
    }
}

impl RawProject {
    pub(crate) fn check(self) -> ProjectConfig {
        let default = ProjectConfig::default();
        ProjectConfig { share: self.share.unwrap_or(default.share) }
    }
}
