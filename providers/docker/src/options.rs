//! What the configuration may say of Docker.

use rouse_contract::kind::schema_of;
use rouse_contract::units::{Bytes, Span};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A Docker daemon: workers are containers on it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountOptions {
    /// Where the daemon answers: `unix:///run/docker.sock` on the master's host, `tcp://HOST:2376` or `ssh://USER@HOST` on another. Default:
    /// `DOCKER_HOST` of the master's environment, else `unix:///var/run/docker.sock`.
    pub host: Option<String>,
    /// For `tcp://`: what proves the daemon to the master, and the master to the daemon. Without it anybody on the network is root there.
    pub tls: Option<TlsOptions>,
    /// The most memory that all workers on it may take together, `60 GiB`, counted by their pools' `memory`. Default: not counted.
    pub memory: Option<Bytes>,
    /// The most processor time that all workers on it may take together, in processors, counted by their pools' `cpus`. Default: not
    /// counted.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub cpus: Option<f64>,
    /// The most workers on it, of all pools together. Default: no limit.
    #[schemars(range(min = 1))]
    pub workers: Option<u32>,
    /// How much of what was pulled for builds stays there. Default: all.
    pub images: Option<ImagesOptions>,
}

/// Images that were pulled for builds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesOptions {
    /// Once they are more than this, `40 GiB`, those go that were not used for longest. Images that were there before, that somebody has named, that
    /// a container has or a build waits for stay.
    pub keep: Bytes,
}

/// Files in PEM on the master.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// Certificates of authorities, one of which has signed the daemon's.
    pub ca: PathBuf,
    /// The master's own certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsOptions {
    pub(crate) fn files(&self) -> [(&'static str, &Path); 3] {
        [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)]
    }
}

/// A pool of containers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOptions {
    /// The image, or several in order of which the first that can be had is taken. Any Linux image will do: the agent is brought along.
    pub image: Images,
    /// Instead of `image`: made on the daemon's host of the project's own Dockerfile, where it is not there. The pool's `memory`, `cpus` and `shm` hold
    /// for what runs then, too.
    pub build: Option<BuildOptions>,
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
    /// Files, folders and volumes of the host that builds can see. Those of untrusted origin cannot write to them.
    pub mounts: Vec<MountOptions>,
    /// The daemon's network: `bridge`, `none`, `host`, or the name of one that you made. Builds need none to reach the master. Default: the
    /// daemon's.
    pub network: Option<String>,
    /// The same for builds of untrusted origin. Default: `none`; where the daemon is on another machine, whose agents come by the network, as
    /// `network`.
    pub untrusted_network: Option<String>,
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
    /// Logins to registries, each under what names of its images begin with: `registry.example.com`, `10.0.0.5:5000`, and `docker.io` for names
    /// that begin with no registry. They are used to see what an image means and to pull it, by the master and the daemon; builds do not see them.
    pub registry: BTreeMap<String, LoginOptions>,
    /// Labels on the container, beside Rouse's own.
    pub labels: BTreeMap<String, String>,
    /// The image's files cannot be changed; builds can write to their work folder and to `/tmp`.
    pub read_only: bool,
    /// Containers beside each worker, such as a database, each under the name by which builds reach it. They are ready before the first step
    /// and go with the worker.
    pub services: BTreeMap<String, ServiceOptions>,
}

/// An image that is made of files of the project's own tree. It is made anew where one of them changes, or a value here, and not else; all builds
/// with the same files share it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildOptions {
    /// The Dockerfile, as its place in the tree: `ci/Dockerfile`.
    pub file: String,
    /// The folder whose files it may copy, the file itself among them; `.` is all of the tree. Default: the folder that the file is in.
    pub context: Option<String>,
    /// Whose tree. Default: the first codebase that the builder checks out.
    pub codebase: Option<String>,
    /// Values for what it declares by `ARG`. They can be read in the image; no place for secrets.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// The stage that is wanted, of a file with several. Default: the last.
    pub target: Option<String>,
    /// The daemon's network that its commands have. Default: the daemon's.
    pub network: Option<String>,
    /// How long making it may take, `30m`; then it is ended. Default: `2h`.
    pub within: Option<Span>,
}

/// A container beside each worker of a pool.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceOptions {
    /// Its image. Entrypoint, user and volumes are the image's own.
    pub image: String,
    /// A command that succeeds in it once it is ready: a line for its shell, `pg_isready`, or a program with its arguments. Default: the
    /// image's own health check; where there is none, that it runs.
    pub ready: Option<Ready>,
    /// How long that may take. Default: `1m`.
    pub ready_within: Option<Span>,
    /// Its environment, beside the image's own.
    pub env: BTreeMap<String, String>,
    /// What it runs. Default: the image's own command.
    pub command: Vec<String>,
    /// The most memory that it may use, `512 MiB`; it counts together with the worker's. Default: no limit.
    pub memory: Option<Bytes>,
    /// The most processor time, in processors; it counts together with the worker's. Default: no limit.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub cpus: Option<f64>,
    /// The most processes and threads. Default: no limit.
    #[schemars(range(min = 1))]
    pub pids: Option<u32>,
    /// Size of `/dev/shm`. Default: the daemon's, 64 MiB.
    pub shm: Option<Bytes>,
}

/// What is run in a service to see whether it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Ready {
    Line(String),
    Program(#[schemars(length(min = 1))] Vec<String>),
}

impl Ready {
    pub(crate) fn argv(&self) -> Vec<String> {
        match self {
            Self::Line(line) => vec!["sh".into(), "-c".into(), line.clone()],
            Self::Program(argv) => argv.clone(),
        }
    }

    /// As it is written, for a person.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Line(line) => line.clone(),
            Self::Program(argv) => argv.join(" "),
        }
    }
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

/// Who a pool is at a registry: `user` and `password`, or a `helper`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoginOptions {
    /// The name to log in with.
    #[schemars(length(min = 1))]
    pub user: Option<String>,
    /// `secret:NAME`. The secret is fetched each time that it is used, so a new value needs no restart.
    #[schemars(extend("format" = "secret-ref"))]
    pub password: Option<String>,
    /// A credential helper on the master's host, for logins that end soon: `ecr-login` is the program `docker-credential-ecr-login` in the
    /// master's `PATH`, and a path that begins with `/` is the program itself.
    #[schemars(length(min = 1))]
    pub helper: Option<String>,
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
    // An image or what it is made of is needed, which the check of a pool says; a launch has it resolved already.
    if let Some(image) = schema.pointer_mut("/properties/image").and_then(serde_json::Value::as_object_mut) {
        image.remove("default");
    }
    let service = "/properties/services/additionalProperties";
    if let Some(service) = schema.pointer_mut(service).and_then(serde_json::Value::as_object_mut) {
        service.insert("required".into(), serde_json::json!(["image"]));
    }
    schema
}
