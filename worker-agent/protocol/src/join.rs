//! The join document: the one file that an agent is started with (`rouse-agent run --join FILE`).

use serde::{Deserialize, Serialize};

use crate::Hidden;

/// Everything that an agent must know to join. It holds the join token, so the file is 0600 and gone before the first step: the
/// agent unlinks it after reading; where it lies on a read-only mount, whoever put it there removes it on attach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinDocument {
    /// [`crate::JOIN_VERSION`].
    pub version: u32,
    /// Id of the installation; a master of another one is refused.
    pub installation: String,
    /// Name of the worker, as people see it.
    pub worker: String,
    pub worker_id: i64,
    /// Single use: bound to the first key that presents it.
    pub join_token: Hidden,
    /// A master of a lower store epoch is refused from the first connection on.
    pub store_epoch: i64,
    /// Tried in order, round and round.
    pub endpoints: Vec<Endpoint>,
    /// Absolute; made if missing. Every path of a command is relative to it. `--work DIR` says otherwise.
    pub work_dir: String,
    /// Dead-man in seconds until the first welcome says otherwise.
    pub expiry_s: f64,
}

/// One way to reach a master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// A Unix socket, where master and worker share a host. A relative path starts at the join document's folder.
    Unix { path: String },
    /// `host:port`, where the host is an address or a name, verified against the installation's own CA (PEM).
    Tls { address: String, ca: String },
    /// The master opens streams to the agent, where the other way round there is none: the agent waits for them at a Unix socket of this name in the
    /// abstract namespace, and speaks TLS over each as with a listener, whose certificate is for `name`.
    Opened { socket: String, name: String, ca: String },
}
