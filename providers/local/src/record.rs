//! What is known of one worker, in a file of its folder. Written before anything is done, so that a crash at any point leaves a record
//! from which the next master goes on.

use crate::places::{WorkerPlace, is_key};
use crate::processes::{self, Ident, Process};
use rouse_contract::Tag;
use rouse_model::worker::ProviderRef;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) tag: Tag,
    /// The worker's own user, where it has one; its group has the same number.
    pub(crate) uid: Option<u32>,
    pub(crate) stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Has its folders; nobody asked for a launch yet.
    Prepared,
    /// The agent is about to be started, in this boot. Whether it was is told by the file `pid`.
    Spawning {
        boot: String,
    },
    Started {
        process: Ident,
    },
    Ended {
        process: Option<Ident>,
        detail: String,
    },
}

impl Record {
    /// `None` where there is none, or where the crash of a master left one half written beside its place.
    pub(crate) fn read(place: &WorkerPlace) -> io::Result<Option<Self>> {
        match fs::read(place.record()) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, place: &WorkerPlace) -> io::Result<()> {
        let next = place.folder.join("record.next");
        let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&next, place.record())
    }

    pub(crate) fn reference(&self) -> ProviderRef {
        let process = match &self.stage {
            Stage::Started { process } => Some(process.clone()),
            Stage::Ended { process, .. } => process.clone(),
            Stage::Prepared | Stage::Spawning { .. } => None,
        };
        Reference { key: self.tag.key(), process }.to_ref()
    }

    /// Brings the stage up to what is true now, on disk too. Called with the account's lock held, so that no spawn is under way.
    pub(crate) fn settle(&mut self, place: &WorkerPlace) -> io::Result<()> {
        let stage = match &self.stage {
            Stage::Prepared | Stage::Ended { .. } => return Ok(()),
            Stage::Spawning { boot } => match begun(place)? {
                None => return Ok(()),
                Some(pid) => agent_of(pid, boot, &self.tag, place),
            },
            Stage::Started { process } => match processes::living(process) {
                Some(_) => return Ok(()),
                None => Stage::Ended { detail: reap(process), process: Some(process.clone()) },
            },
        };
        self.stage = stage;
        match self.write(place) {
            // A full disk must not keep what fills it from being cleared away. The next look finds the same.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            written => written,
        }
    }
}

/// The process id that the child wrote, where it came so far.
fn begun(place: &WorkerPlace) -> io::Result<Option<i32>> {
    match fs::read(place.pid()) {
        Ok(bytes) => Ok(bytes.first_chunk().map(|pid| i32::from_ne_bytes(*pid))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The stage of a worker whose master died while it was started.
fn agent_of(pid: i32, boot: &str, tag: &Tag, place: &WorkerPlace) -> Stage {
    let found = Process::read(pid).filter(|found| !found.zombie && boot == processes::boot_id());
    // An agent forbids others of its user to read its environment, but not its arguments.
    let is_it = |found: &Process| {
        found.has_argument(&place.join_document())
            || found.environment().get("ROUSE_TOKEN") == Some(tag.token.0.as_str())
    };
    match found.filter(is_it) {
        Some(found) => Stage::Started { process: found.ident(boot) },
        None => Stage::Ended { process: None, detail: "it ended while no master looked".into() },
    }
}

/// Takes the exit status of a process that has ended, where it was a child of ours, and says how it ended.
pub(crate) fn reap(process: &Ident) -> String {
    let unknown = || "it ended; its exit status went to an earlier master".to_owned();
    // Only a zombie of the very same start may be waited for: the number could be another child's by now.
    let is_it = Process::read(process.pid).is_some_and(|p| p.zombie && p.start == process.start);
    if !is_it || process.boot != processes::boot_id() {
        return unknown();
    }
    let Some(pid) = Pid::from_raw(process.pid) else { return unknown() };
    match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(status)) => how(&status),
        _ => unknown(),
    }
}

fn how(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// A provider reference taken apart: the worker's key and, once there is one, the agent's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) key: String,
    pub(crate) process: Option<Ident>,
}

impl Reference {
    pub(crate) fn to_ref(&self) -> ProviderRef {
        ProviderRef(match &self.process {
            Some(Ident { pid, start, boot }) => format!("{}:{pid}:{start}:{boot}", self.key),
            None => self.key.clone(),
        })
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let key = parts.next().filter(|key| is_key(key))?.to_owned();
        let Some(pid) = parts.next() else { return Some(Self { key, process: None }) };
        let process = Ident {
            pid: pid.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            boot: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(Self { key, process: Some(process) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back() {
        for text in ["0123456789ab", "0123456789ab:42:987:aabbccdd"] {
            assert_eq!(Reference::parse(text).map(|r| r.to_ref().0).as_deref(), Some(text));
        }
        for wrong in ["", "short", "0123456789ab:", "0123456789ab:42", "0123456789ab:1:2:3:4", "../../../../"]
        {
            assert_eq!(Reference::parse(wrong), None, "{wrong}");
        }
    }
}
