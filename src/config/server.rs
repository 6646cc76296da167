//! `server`: how the installation is known, and how long it keeps things.

use super::leaf::{Limit, Period, WebUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Server")]
pub(crate) struct RawServer {
    /// The address under which people open this installation; it stands in links.
    url: Option<WebUrl>,
    /// How long things are kept.
    #[serde(default)]
    keep: RawKeep,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Keep")]
struct RawKeep {
    /// Builds with all that belongs to them; `never` deletes none. Default: `never`.
    builds: Option<Limit>,
    /// Logs of builds, which may go before their builds. Default: `never`.
    logs: Option<Limit>,
    /// Artifacts, which may go before their builds. Default: `never`.
    artifacts: Option<Limit>,
}

/// What concerns the whole installation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServerConfig {
    pub url: Option<WebUrl>,
    pub keep: Keep,
}

/// How long things are kept; `None` is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Keep {
    pub builds: Option<Period>,
    pub logs: Option<Period>,
    pub artifacts: Option<Period>,
}

impl RawServer {
    pub(crate) fn check(self) -> ServerConfig {
        let limit = |limit: Option<Limit>| limit.and_then(|limit| limit.0);
        let keep = Keep {
            builds: limit(self.keep.builds),
            logs: limit(self.keep.logs),
            artifacts: limit(self.keep.artifacts),
        };
        ServerConfig { url: self.url, keep }
    }
}
