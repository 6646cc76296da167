//! Ends everything that belongs to one worker, and waits until it is gone.
//!
//! Four marks tell what belongs to it, since a build may shed any one of them: its user, where it has one of its own; the tag in the
//! environment; the agent's session; and descent from the agent, which is the subreaper of all that its steps leave behind. The agent is
//! stopped first and killed last, so that descent can be followed until the end.

use crate::processes::{self, Ident, Process};
use rouse_contract::key_of;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Whose processes are to end.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) installation: String,
    pub(crate) key: String,
    /// As it stands in the agent's arguments.
    pub(crate) join_document: PathBuf,
    pub(crate) agent: Option<Ident>,
    /// Only where it is this worker's alone.
    pub(crate) uid: Option<u32>,
}

#[derive(Debug, Default)]
struct Found {
    agent: Option<Process>,
    others: Vec<Process>,
}

/// Kills until nothing is left. Bounded by the caller: a process that the kernel does not let go may take for ever.
pub(crate) async fn end(target: Target) -> io::Result<()> {
    let target = Arc::new(target);
    let mut pause = Duration::from_millis(1);
    loop {
        let this = Arc::clone(&target);
        let left = tokio::task::spawn_blocking(move || this.strike()).await.map_err(io::Error::other)??;
        if !left {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

impl Target {
    /// One blow; whether there was anything to hit.
    fn strike(&self) -> io::Result<bool> {
        let found = self.find()?;
        match &found.agent {
            Some(agent) if found.others.is_empty() => signal(agent, Signal::KILL)?,
            Some(agent) => signal(agent, Signal::STOP)?,
            None => {}
        }
        for process in &found.others {
            signal(process, Signal::KILL)?;
        }
        Ok(found.agent.is_some() || !found.others.is_empty())
    }

    fn find(&self) -> io::Result<Found> {
        let boot = processes::boot_id();
        let living: Vec<Process> = processes::all()?.into_iter().filter(|p| !p.zombie).collect();
        let agent = living.iter().find(|p| self.is_agent(p, &boot)).cloned();
        let family = agent.as_ref().map(|agent| descendants(agent.pid, &living)).unwrap_or_default();
        let others = living
            .into_iter()
            .filter(|p| agent.as_ref().is_none_or(|agent| agent.pid != p.pid))
            .filter(|p| {
                family.contains(&p.pid)
                    || agent.as_ref().is_some_and(|agent| agent.pid == p.session)
                    || self.is_marked(p)
            })
            .collect();
        Ok(Found { agent, others })
    }

    fn is_agent(&self, process: &Process, boot: &str) -> bool {
        match &self.agent {
            Some(known) => process.ident(boot) == *known,
            None => process.pid == process.session && process.has_argument(&self.join_document),
        }
    }

    fn is_marked(&self, process: &Process) -> bool {
        if self.uid.is_some() && process.user() == self.uid {
            return true;
        }
        let environment = process.environment();
        environment.get("ROUSE_INSTALLATION") == Some(&self.installation)
            && environment
                .get("ROUSE_TOKEN")
                .is_some_and(|token| key_of(&self.installation, token) == self.key)
    }
}

fn descendants(of: i32, all: &[Process]) -> HashSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut family = HashSet::new();
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if family.insert(*child) {
                next.push(*child);
            }
        }
    }
    family
}

/// Signals exactly this process: the handle is taken first and the start time compared after, so a number used again is never hit.
fn signal(process: &Process, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    let is_it = || Process::read(process.pid).is_some_and(|now| now.start == process.start);
    let sent = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) if is_it() => pidfd_send_signal(handle, signal),
        Err(Errno::NOSYS) if is_it() => kill_process(pid, signal),
        Ok(_) | Err(Errno::SRCH | Errno::NOSYS) => return Ok(()),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
