//! `server`: how the installation is known, and how long it keeps things.

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{BucketUrl, HostPort, Limit, Period, PoolName, SecretName, SecretRef, WebUrl, seconds};
use super::telemetry::{RawTelemetry, TelemetryConfig};
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
    /// Where logs and artifacts lie, if in a bucket: an object store that speaks S3. Default: a folder of the master's. Read when a master starts.
    objects: Option<RawObjects>,
    /// Where secrets with the key `vault` are: HashiCorp's Vault or OpenBao.
    vault: Option<RawVault>,
    /// Where traces of builds and the master's metrics are sent, by OpenTelemetry's protocol. Default: nowhere.
    telemetry: Option<RawTelemetry>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Objects")]
struct RawObjects {
    /// The bucket, and where in it: `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    url: BucketUrl,
    /// Where the store answers, by https (TLS 1.3) or, within a network of your own, http. Default: Amazon's of the region.
    endpoint: Option<WebUrl>,
    /// Default: the environment's `AWS_REGION`, or else `us-east-1`.
    #[schemars(length(min = 1))]
    region: Option<String>,
    /// The id of the key to come in with. Neither this nor `secret_key`: what the SDKs' environment says, or the machine's own role.
    access_key: Option<SecretRef>,
    /// The key itself.
    secret_key: Option<SecretRef>,
    /// A file with the certificates of the authorities that may have issued the store's. Default: those that the host trusts.
    #[schemars(length(min = 1))]
    ca_file: Option<String>,
    /// How workers send and fetch artifacts of a megabyte and more: `direct`, to and from a store at an http address by leave of the master; or `master`, through it
    /// as everything else goes. What does not work directly goes through the master. Default: `direct`.
    #[serde(default)]
    transfers: Transfers,
}

/// How artifacts travel between workers and a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Transfers {
    #[default]
    Direct,
    Master,
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

/// How long a cache lies there that nobody begins with.
const CACHES: Period = seconds(30 * 24 * 3600);

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
    /// Caches that no build has begun with for so long. Default: `30d`.
    caches: Option<Limit>,
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
    pub objects: Option<ObjectsConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryConfig>,
}

/// A bucket for logs and artifacts, and how the master comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectsConfig {
    pub url: BucketUrl,
    pub endpoint: Option<WebUrl>,
    pub region: Option<String>,
    /// `None`: as the SDKs' environment says.
    pub keys: Option<KeyPair>,
    pub ca_file: Option<PathBuf>,
    pub transfers: Transfers,
}

impl ObjectsConfig {
    /// Whether workers may come to it by themselves. Agents speak no TLS to strangers (docs/adr/0012).
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.transfers == Transfers::Direct
            && self.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"))
    }
}

/// The two secrets that open a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyPair {
    pub access_key: SecretName,
    pub secret_key: SecretName,
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
    pub caches: Option<Period>,
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
        cx.at_least(limit(self.keep.caches), seconds(3600), &path.join("caches"));
        cx.at_least(limit(self.keep.events), seconds(3600), &path.join("events"));
        let keep = Keep {
            per_builder: self.keep.per_builder,
            events: limit(self.keep.events),
            builds: limit(self.keep.builds),
            logs: limit(self.keep.logs),
            artifacts: limit(self.keep.artifacts),
            caches: self.keep.caches.map_or(Some(CACHES), |limit| limit.0),
        };
        let advertise = Path::of(["server", "agents", "advertise"]);
        for pool in self.agents.advertise.keys() {
            cx.refer_key("pools", pool, &advertise.join(pool));
        }
        let objects = self.objects.map(|objects| objects.check(cx));
        let vault = self.vault.map(|vault| vault.check(cx));
        let telemetry = self.telemetry.map(|telemetry| telemetry.check(cx));
        ServerConfig {
            url: self.url,
            agents: Agents { advertise: self.agents.advertise },
            keep,
            objects,
            vault,
            telemetry,
        }
    }
}

impl RawObjects {
    fn check(self, cx: &mut Context<'_>) -> ObjectsConfig {
        let path = Path::of(["server", "objects"]);
        let mut secret = |key: &str, named: &Option<SecretRef>| {
            let named = named.as_ref()?;
            cx.refer("secrets", named.name(), &path.join(key)).then(|| named.name().parse().ok())?
        };
        let pair = (secret("access_key", &self.access_key), secret("secret_key", &self.secret_key));
        for (there, other) in [("access_key", "secret_key"), ("secret_key", "access_key")] {
            if cx.has(&path.join(there)) && !cx.has(&path.join(other)) {
                let message = format!("`{there}` of `objects` of `server` stands there without `{other}`");
                let fault = Fault::new(Code::Together, cx.key(&path.join(there)), message);
                cx.push(
                    fault.note("both, or neither: then the environment of the master says how it comes in"),
                );
            }
        }
        let keys = match pair {
            (Some(access_key), Some(secret_key)) => Some(KeyPair { access_key, secret_key }),
            _ => None,
        };
        ObjectsConfig {
            url: self.url,
            endpoint: self.endpoint,
            region: self.region,
            keys,
            ca_file: self.ca_file.map(|file| cx.absolute(file, &path.join("ca_file"))),
            transfers: self.transfers,
        }
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
