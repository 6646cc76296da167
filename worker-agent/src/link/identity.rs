//! Who this agent is: its key pair and incarnation, made at start and kept in memory alone, and the hello that shows them.

use ed25519_dalek::{Signer, SigningKey};
use rouse_agent_protocol::{
    Challenge, CommandReport, Facts, Hello, Hidden, JoinDocument, StreamReport, VERSION, signing_bytes,
};

use crate::{clock, random};

const AGENT: &str = concat!("rouse-agent ", env!("CARGO_PKG_VERSION"));

pub struct Identity {
    pub installation: String,
    pub worker: String,
    worker_id: i64,
    incarnation: String,
    join_token: Hidden,
    key: SigningKey,
    facts: Facts,
}

/// What stands behind the level-based part of a hello.
#[derive(Debug)]
pub struct Standing {
    pub seen: (i64, i64),
    pub draining: bool,
    pub commands: Vec<CommandReport>,
    pub streams: Vec<StreamReport>,
}

impl Identity {
    pub fn new(join: &JoinDocument, incarnation: String, facts: Facts) -> Self {
        Self {
            installation: join.installation.clone(),
            worker: join.worker.clone(),
            worker_id: join.worker_id,
            incarnation,
            join_token: join.join_token.clone(),
            key: SigningKey::from_bytes(&random::bytes()),
            facts,
        }
    }

    pub fn hello(&self, challenge: &Challenge, standing: Standing) -> Hello {
        let signed = signing_bytes(&challenge.nonce, &self.installation, &self.worker, &self.incarnation);
        Hello {
            version: VERSION,
            agent: AGENT.to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            worker: self.worker.clone(),
            worker_id: self.worker_id,
            incarnation: self.incarnation.clone(),
            public_key: hex::encode(self.key.verifying_key().as_bytes()),
            signature: hex::encode(self.key.sign(&signed).to_bytes()),
            join_token: self.join_token.clone(),
            epoch: standing.seen.0,
            term: standing.seen.1,
            features: ["pty", "put-range", "tar"].map(str::to_owned).to_vec(),
            facts: self.facts.clone(),
            monotonic_us: clock::monotonic_us(),
            wall_us: clock::wall_us(),
            draining: standing.draining,
            commands: standing.commands,
            streams: standing.streams,
        }
    }
}
