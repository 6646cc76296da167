//! `server`: how the installation is known, and how long it keeps things.

use super::context::Context;
use super::leaf::{Limit, Period, WebUrl, seconds};
use super::tree::Path;
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
    pub(crate) fn check(self, cx: &mut Context<'_>) -> ServerConfig {
        let limit = |limit: Option<Limit>| limit.and_then(|limit| limit.0);
        let path = Path::of(["server", "keep"]);
        for (key, kept) in
            [("builds", self.keep.builds), ("logs", self.keep.logs), ("artifacts", self.keep.artifacts)]
        {
            cx.at_least(limit(kept), seconds(60), &path.join(key));
        }
        let keep = Keep {
            builds: limit(self.keep.builds),
            logs: limit(self.keep.logs),
            artifacts: limit(self.keep.artifacts),
        };
        ServerConfig { url: self.url, keep }
    }
}
