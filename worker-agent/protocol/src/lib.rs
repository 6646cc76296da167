//! The language of the agent link: what a master and the agent inside a worker say to each other.
//!
//! Control messages are JSON in text frames ([`ToAgent`], [`ToMaster`]), output travels in binary [`Frame`]s, files by HTTP
//! beside the link. The crate holds the words, their encoding, the caps that each side checks and the masking that both sides do.
//! It opens no connection, reads no clock and imports nothing of ours, so that master and agent can be built apart.
//! The prose for people who write another agent is `docs/reference/agent-protocol.md`.

pub mod masking;

mod caps;
mod command;
mod frame;
mod hidden;
mod join;
mod message;
mod outcome;
mod signing;

pub use caps::*;
pub use command::{
    Action, Command, CommandId, Download, FileLog, Kill, Pack, PathOp, Paths, Program, Run, StreamId, Unpack,
    Upload,
};
pub use frame::{
    Channel, FRAME_HEADER_BYTES, Frame, FrameError, PACKED_HEADER_BYTES, PackedFrame, StreamFrame,
    decode_frame, encode_frame, encode_frame_header, encode_packed, packable,
};
pub use hidden::Hidden;
pub use join::{Endpoint, JoinDocument};
pub use message::{
    Challenge, CommandReport, CommandState, DecodeError, Durable, Facts, Hello, RefusalCode, Refused,
    StreamReport, ToAgent, ToMaster, Welcome, decode_to_agent, decode_to_master, encode, kinds_to_agent,
    kinds_to_master,
};
pub use outcome::{
    Entry, EntryKind, FailureClass, Listing, NoRoom, Outcome, OutcomeKind, StreamEnd, TransferredFile,
};
pub use signing::signing_bytes;

/// The newest version of the protocol that this crate speaks.
pub const VERSION: u32 = 2;

/// All versions that it speaks, the newest first: a master goes on with agents of the version before, and an agent with a master of it.
pub const VERSIONS: [u32; 2] = [VERSION, 1];

/// The version of the join document, which an agent reads before it knows what its master speaks.
pub const JOIN_VERSION: u32 = 1;

/// Where the WebSocket is, on every listener for agents.
pub const LINK_PATH: &str = "/agent/v1";

/// What the certificate is for that a master shows over a stream that it has opened.
pub const OPENED_NAME: &str = "rouse-master";

/// The feature of an agent that packs and unpacks archives.
pub const ARCHIVES: &str = "archives";

/// The feature of an agent that follows files of a command as streams of their own.
pub const FILE_LOGS: &str = "logs";

/// Header of a `PUT` that carries the SHA-256 (hex) of the whole file, also where the request carries only its tail.
pub const SHA256_HEADER: &str = "rouse-sha256";

/// Header of the answer to a `HEAD`: how many bytes the master holds of a `PUT` that broke.
pub const RECEIVED_HEADER: &str = "rouse-received";

/// Header of a `POST` that asks for leave to put a file into the master's object store: its size in bytes.
pub const SIZE_HEADER: &str = "rouse-size";

/// Header of a `POST` that says that the file is there: the leave's id.
pub const KEPT_HEADER: &str = "rouse-kept";

/// Header of a `GET` by which an agent says that it would go to the object store itself.
pub const DIRECT_HEADER: &str = "rouse-direct";

/// Smaller files go by the master: one request is quicker than three.
pub const DIRECT_LEAST_BYTES: u64 = 1 << 20;

/// Environment variable that every process of a worker carries: the worker's name.
pub const ENV_WORKER: &str = "ROUSE_WORKER";

/// Environment variables that who starts an agent may mark it with; they are passed on to every process of the worker, so that what it
/// leaves behind is found without it.
pub const ENV_TAGS: [&str; 6] =
    ["ROUSE_INSTALLATION", "ROUSE_ACCOUNT", "ROUSE_EPOCH", "ROUSE_POOL", "ROUSE_WORKER_ID", "ROUSE_TOKEN"];

/// Environment variable that every process of a command carries: the command's id.
pub const ENV_COMMAND: &str = "ROUSE_COMMAND";

/// Why an agent closed the link (WebSocket close codes).
pub mod close {
    /// The other side broke the protocol: not JSON, too long, out of order.
    pub const PROTOCOL: u16 = 4000;
    /// The master's (store epoch, term) is lower than one already seen: an older master, or one restored from a backup.
    pub const OLDER_MASTER: u16 = 4001;
    /// No version of the protocol in common.
    pub const NO_COMMON_VERSION: u16 = 4002;
    /// The master belongs to another installation.
    pub const WRONG_INSTALLATION: u16 = 4003;
    /// The agent is ending.
    pub const ENDING: u16 = 4004;
}

/// How an agent's process ends.
pub mod exit {
    /// The master said `end`.
    pub const ENDED: i32 = 0;
    /// A fault of the agent itself.
    pub const INTERNAL: i32 = 1;
    /// Wrong flags, or a join document that can't be read.
    pub const USAGE: i32 = 2;
    /// The master refused for good (`retry: false`).
    pub const REFUSED: i32 = 3;
    /// Dead-man: no master was heard for longer than the expiry.
    pub const EXPIRED: i32 = 4;
    /// SIGTERM or SIGINT.
    pub const SIGNALLED: i32 = 5;
}
