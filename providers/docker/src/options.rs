//! What the configuration may say of Docker.

use rouse_contract::kind::schema_of;
use rouse_contract::units::Bytes;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A Docker daemon: workers are containers on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountOptions {
    /// Where the daemon answers: `unix:///run/docker.sock`, `tcp://HOST:2375`. It must see this host's files, since a worker reaches the
    /// master through a folder of it. Default: `DOCKER_HOST` of the master's environment, else `unix:///var/run/docker.sock`.
    pub host: Option<String>,
}

/// A pool of containers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOptions {
    /// The image, or several in order of which the first that can be had is taken. Any Linux image will do: the agent is brought along.
    pub image: Images,
    /// A program and its arguments that stand before the agent, which they must run in the end: `["/sbin/tini", "--"]`. The image's own
    /// entrypoint is not run.
    pub entrypoint: Vec<String>,
    /// Words between the entrypoint and the agent: `["nice", "-n", "10"]`. They too must run the agent in the end. The image's own command
    /// is not run.
    pub command: Vec<String>,
    /// Whom builds run as: `1000`, `1000:1000`, or a name that the image knows. Default: the image's user.
    pub user: Option<String>,
    /// Environment of the worker, beside the image's own.
    pub env: BTreeMap<String, String>,
    /// Files, folders and volumes of the host that builds can see.
    pub mounts: Vec<MountOptions>,
    /// The daemon's network: `bridge`, `none`, `host`, or the name of one that you made. Builds need none to reach the master. Default: the
    /// daemon's.
    pub network: Option<String>,
    /// The most memory that a worker may use, `4 GiB`; there is no swap beyond it. Default: no limit.
    pub memory: Option<Bytes>,
    /// The most processor time, in processors: `2`, `0.5`. Default: no limit.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub cpus: Option<f64>,
    /// The most processes and threads. Default: no limit.
    #[schemars(range(min = 1))]
    pub pids: Option<u32>,
    /// Size of `/dev/shm`, `1 GiB`: browsers need more than the daemon's default of 64 MiB.
    pub shm: Option<Bytes>,
    /// The platform where an image is there for several: `linux/arm64`. Default: the daemon's own.
    pub platform: Option<String>,
    /// When an image is pulled.
    pub pull: Pull,
    /// Labels on the container, beside Rouse's own.
    pub labels: BTreeMap<String, String>,
    /// The image's files cannot be changed; builds can write to their work folder and to `/tmp`.
    pub read_only: bool,
}

/// One image, or several in order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Images {
    One(String),
    Several(#[schemars(length(min = 1))] Vec<String>),
}

impl Default for Images {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Images {
    /// In order.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        match self {
            Self::One(image) => vec![image.clone()],
            Self::Several(images) => images.clone(),
        }
    }
}

/// Something of the host that is seen in the worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountOptions {
    /// An absolute path of the daemon's host, or the name of a volume. A template only together with `allow`.
    pub source: String,
    /// An absolute path in the worker.
    pub target: String,
    /// Builds cannot write to it.
    #[serde(default)]
    pub readonly: bool,
    /// Folders of which the source must be an entry, as it is when it has been rendered: `/srv/cache` for `/srv/cache/{{ project }}`.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// Once for each buildset; what cannot be pulled is missing.
    Always,
    /// Where the daemon does not have it. The default.
    #[default]
    Missing,
    /// Once for each buildset; where that does not work the daemon's own is taken.
    Newer,
    /// Never: what the daemon has.
    Never,
}

pub(crate) fn account_schema() -> Schema {
    schema_of::<AccountOptions>()
}

pub(crate) fn pool_schema() -> Schema {
    let mut schema = schema_of::<PoolOptions>();
    // A launch has its image resolved already, so the type can do without.
    schema.insert("required".into(), serde_json::json!(["image"]));
    if let Some(image) = schema.pointer_mut("/properties/image").and_then(serde_json::Value::as_object_mut) {
        image.remove("default");
    }
    schema
}
