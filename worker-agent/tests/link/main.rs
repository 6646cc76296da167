//! The link conformance suite: plays the master against any agent, over a Unix socket.
//!
//! `ROUSE_AGENT` names the agent's command (a program, or a program with arguments, as `python3 agent.py`); without it, our own.
//! What is asked here is what `docs/reference/agent-protocol.md` promises, no more: an agent that passes may serve a master.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure there is the failure of the test")]

mod commands;
mod ends;
mod file_server;
mod files;
mod handshake;
mod limits;
mod masking;
mod resume;
mod rig;
mod trees;
