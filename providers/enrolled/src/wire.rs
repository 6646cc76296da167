//! What a master and an enrolled machine say to each other: JSON in text frames of one WebSocket, which the machine opens. The master asks, the machine answers.

use rouse_contract::{LaunchOutcome, LaunchSpec, Observed, ProviderError, Tag};
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use serde::{Deserialize, Serialize};

/// Where the WebSocket is, on the listener for agents.
pub const PATH: &str = "/host/v1";

/// No message is longer.
pub const MAX_BYTES: usize = 4 << 20;

/// Each side says something at least so often, and takes the other for gone after the other.
pub const HEARTBEAT_S: u64 = 5;
pub const QUIET_S: u64 = 20;

/// The version of the enrolment document and of this language.
pub const VERSION: u32 = 1;

/// What a machine must know to come: written once, when it is enrolled. Holds its key, so the file is its owner's alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    pub version: u32,
    pub installation: String,
    /// The account whose machine it is.
    pub account: String,
    /// Its name there.
    pub name: String,
    /// The seed of its Ed25519 key, hex.
    pub key: Secret,
    /// `host:port` of the master's listener for agents.
    pub address: String,
    /// The installation's own authority (PEM), and nobody else's, vouches for who answers there.
    pub ca: String,
}

/// A text that no log line shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What the master says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToMachine {
    /// First.
    Challenge {
        nonce: String,
        installation: String,
    },
    Welcome {},
    /// The connection ends; `retry` says whether another one may fare better.
    Refused {
        message: String,
        retry: bool,
    },
    Call {
        id: u64,
        call: Box<Call>,
    },
    Heartbeat {},
}

/// What the machine says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToMaster {
    Hello(Hello),
    Answer {
        id: u64,
        answer: Box<Answer>,
    },
    /// Something happened to an instance.
    Hint {
        at: ProviderRef,
    },
    Heartbeat {},
}

/// Who comes, with the proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    pub account: String,
    pub name: String,
    /// Random, of this process: a second one with the same key is another one.
    pub incarnation: String,
    /// Of [`signing_bytes`], hex.
    pub signature: String,
    /// `linux x86_64`, for a person.
    pub system: String,
}

/// The calls of the contract that a machine carries out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Launch {
        spec: Box<LaunchSpec>,
        tag: Tag,
        /// The join document.
        join: Secret,
        /// Microseconds since 1970.
        expires: i64,
    },
    List {},
    Inspect {
        at: ProviderRef,
    },
    Terminate {
        at: ProviderRef,
    },
    Console {
        at: ProviderRef,
        max_bytes: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Launched(LaunchOutcome),
    Listed(Vec<Observed>),
    Inspected(Option<Observed>),
    /// What was asked for is done.
    Done {},
    Console(Option<String>),
    Failed {
        class: FailureClass,
        doing: String,
        message: String,
    },
}

impl Answer {
    #[must_use]
    pub fn failed(error: &ProviderError) -> Self {
        Self::Failed { class: error.class, doing: error.doing.clone(), message: error.message.clone() }
    }
}

/// What a machine's key signs on each connection: a domain, then each field with its length before it, so that no two sets of fields give the same
/// bytes.
#[must_use]
pub fn signing_bytes(nonce: &str, installation: &str, hello: &Hello) -> Vec<u8> {
    let mut out = format!("rouse-host-v{}\0", hello.version).into_bytes();
    for field in [nonce, installation, &hello.account, &hello.name, &hello.incarnation, &hello.system] {
        out.extend_from_slice(&(field.len() as u64).to_be_bytes());
        out.extend_from_slice(field.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_flow_into_each_other_and_a_key_does_not_show() {
        let hello = |account: &str, name: &str| Hello {
            version: VERSION,
            account: account.into(),
            name: name.into(),
            incarnation: "i".into(),
            signature: String::new(),
            system: "linux".into(),
        };
        assert_ne!(signing_bytes("n", "i", &hello("ab", "c")), signing_bytes("n", "i", &hello("a", "bc")));
        assert_ne!(signing_bytes("n", "ii", &hello("a", "c")), signing_bytes("ni", "i", &hello("a", "c")));
        assert_eq!(format!("{:?}", Secret("abc".into())), "(hidden)");
    }
}
