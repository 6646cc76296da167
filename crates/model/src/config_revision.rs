//! Applied configurations and plans, as rows: builds, workers and decisions name theirs.

use crate::{ConfigRevisionId, Timestamp};
use serde::{Deserialize, Serialize};

/// One applied configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRevision {
    pub id: ConfigRevisionId,
    /// SHA-256 over the names and texts of its files, hex.
    pub hash: String,
    /// The files, as JSON `[{name, text}]`.
    pub sources: String,
    /// Who applied it: `file (start)`, `file (api (token admin))`, `rollback to 3, api (token admin)`.
    pub author: String,
    pub effective: Timestamp,
}

/// The checked steps of a builder, content-addressed: a build pins one, whatever the configuration does meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRow {
    /// SHA-256 of `body`, hex.
    pub hash: String,
    /// A [`crate::plan::Plan`] as JSON.
    pub body: String,
}

/// A bearer token of the API. Only its SHA-256 is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    pub id: crate::TokenId,
    pub name: String,
    pub sha256: String,
    /// `admin`, `operate`, `read`.
    pub role: String,
    /// Empty: all projects.
    pub project: String,
    pub created: Timestamp,
}
