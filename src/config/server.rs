//! `server`: how the installation is known, and how long it keeps things.

use super::context::Context;
use super::leaf::{HostPort, Limit, Period, PoolName, WebUrl, seconds};
use super::tree::Path;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Server")]
pub(crate) struct RawServer {
    /// The address under which people open this installation; it stands in links.
    url: Option<WebUrl>,
    /// How agents on other hosts find their master.
    #[serde(default)]
    agents: RawAgents,
    /// How long things are kept.
    #[serde(default)]
    keep: RawKeep,
    /// Where secrets with the key `vault` are: HashiCorp's Vault or OpenBao.
    vault: Option<RawVault>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Vault")]
struct RawVault {
    /// Where it answers, by https (TLS 1.3) or, for a proxy on the master's own host, http.
    address: WebUrl,
    /// A file on the master that holds a token which may read the secrets. It is read for each secret, so that somebody can renew it.
    #[schemars(length(min = 1))]
    token_file: String,
    /// A file with the certificates of the authorities that may have issued the Vault's. Default: those that the host trusts.
    #[schemars(length(min = 1))]
    ca_file: Option<String>,
    /// The namespace that all paths are in. Default: the Vault's own.
    #[schemars(length(min = 1))]
    namespace: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Agents")]
struct RawAgents {
    /// For each pool whose workers come by TLS, the address under which they see the master. Workers of other pools share a host with it and come by a socket.
    #[serde(default)]
    advertise: IndexMap<PoolName, HostPort>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Keep")]
struct RawKeep {
    /// Builds with all that belongs to them, but for the newest and the newest good one of each builder; `never` deletes none. Default: `never`.
    builds: Option<Limit>,
    /// Logs of builds, which may go before their builds. Default: `never`.
    logs: Option<Limit>,
    /// Artifacts, which may go before their builds. Default: `never`.
    artifacts: Option<Limit>,
    /// Ended builds of each builder, at most, whatever their age. Default: all.
    #[schemars(range(min = 1))]
    per_builder: Option<u32>,
    /// Events; readers that come back later than that are told to read anew. Default: `never`.
    events: Option<Limit>,
}

/// What concerns the whole installation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServerConfig {
    pub url: Option<WebUrl>,
    #[serde(skip_serializing_if = "Agents::is_empty")]
    pub agents: Agents,
    pub keep: Keep,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultConfig>,
}

/// The installation's Vault, and how the master comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VaultConfig {
    pub address: WebUrl,
    pub token_file: PathBuf,
    pub ca_file: Option<PathBuf>,
    pub namespace: Option<String>,
}

/// How agents on other hosts find their master.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Agents {
    pub advertise: IndexMap<PoolName, HostPort>,
}

impl Agents {
    fn is_empty(&self) -> bool {
        self.advertise.is_empty()
    }

    /// Where workers of a pool find their master, if they come by TLS.
    #[must_use]
    pub fn address(&self, pool: &str) -> Option<&HostPort> {
        self.advertise.iter().find(|(name, _)| name.as_str() == pool).map(|(_, address)| address)
    }
}

/// How long things are kept; `None` is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Keep {
    pub builds: Option<Period>,
    pub logs: Option<Period>,
    pub artifacts: Option<Period>,
    pub per_builder: Option<u32>,
    pub events: Option<Period>,
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
        cx.at_least(limit(self.keep.events), seconds(3600), &path.join("events"));
        let keep = Keep {
            per_builder: self.keep.per_builder,
            events: limit(self.keep.events),
            builds: limit(self.keep.builds),
            logs: limit(self.keep.logs),
            artifacts: limit(self.keep.artifacts),
        };
        let advertise = Path::of(["server", "agents", "advertise"]);
        for pool in self.agents.advertise.keys() {
            cx.refer_key("pools", pool, &advertise.join(pool));
        }
        let vault = self.vault.map(|vault| vault.check(cx));
        ServerConfig { url: self.url, agents: Agents { advertise: self.agents.advertise }, keep, vault }
    }
}

impl RawVault {
    fn check(self, cx: &mut Context<'_>) -> VaultConfig {
        let path = Path::of(["server", "vault"]);
        VaultConfig {
            address: self.address,
            token_file: cx.absolute(self.token_file, &path.join("token_file")),
            ca_file: self.ca_file.map(|file| cx.absolute(file, &path.join("ca_file"))),
            namespace: self.namespace,
        }
    }
}
