//! Who this agent is: its key pair and incarnation, made at start and kept in memory alone, and the hello that shows them.

use ring::signature::{Ed25519KeyPair, KeyPair};
use rouse_agent_protocol::{
    ARCHIVES, Challenge, CommandReport, FILE_LOGS, Facts, Hello, Hidden, JoinDocument, StreamReport,
    signing_bytes,
};

use crate::{clock, random};

const AGENT: &str = concat!("rouse-agent ", env!("CARGO_PKG_VERSION"));

pub struct Identity {
    pub installation: String,
    pub worker: String,
    worker_id: i64,
    incarnation: String,
    join_token: Hidden,
    key: Ed25519KeyPair,
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
            key: Ed25519KeyPair::from_seed_unchecked(&random::bytes::<32>()).expect("a seed has 32 bytes"),
            facts,
        }
    }

    pub fn hello(&self, version: u32, challenge: &Challenge, standing: Standing) -> Hello {
        let signed = signing_bytes(version, challenge, &self.worker, &self.incarnation);
        Hello {
            version,
            agent: AGENT.to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            worker: self.worker.clone(),
            worker_id: self.worker_id,
            incarnation: self.incarnation.clone(),
            public_key: hex::encode(self.key.public_key()),
            signature: hex::encode(self.key.sign(&signed)),
            join_token: self.join_token.clone(),
            epoch: standing.seen.0,
            term: standing.seen.1,
            features: ["pty", "put-range", "tar", ARCHIVES, FILE_LOGS].map(str::to_owned).to_vec(),
            facts: self.facts.clone(),
            monotonic_us: clock::monotonic_us(),
            wall_us: clock::wall_us(),
            draining: standing.draining,
            commands: standing.commands,
            streams: standing.streams,
        }
    }
}
