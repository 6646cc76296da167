//! Which processes belong to a command, and signals to all of them.
//!
//! The agent is the subreaper: whatever a command starts stays below the agent, however often it forks and whatever session it makes.
//! Below the command's own process all is the command's. What has reparented to the agent is told apart by its session, by the tag in
//! its environment, or, where it has hidden both, by no other command being there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use rouse_agent_protocol::{CommandId, ENV_COMMAND};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::reaper::Reaper;

/// A process as `/proc/PID/stat` shows it. The start time tells it from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    started: u64,
    parent: i32,
    session: i32,
    zombie: bool,
}

/// The command whose tree is asked for, and those that run beside it.
#[derive(Debug)]
pub struct Tree<'a> {
    pub command: CommandId,
    /// The command's own process, also when it is over.
    pub main: i32,
    pub reaper: &'a Reaper,
}

/// What runs beside the command: the processes of other commands, and whether one more may be in the making.
struct Beside {
    others: BTreeMap<i32, CommandId>,
    alone: bool,
}

impl Tree<'_> {
    /// Every living process of the command.
    pub fn members(&self) -> Vec<Process> {
        // In this order: whatever the look shows of another command is known, or being made, by the time of the question.
        let all = scan();
        let beside = self.beside();
        members(&all, std::process::id().cast_signed(), |child| self.owns(child, &beside))
    }

    /// Is there nothing left for certain? The cheap question after each command. "No" may also mean that it isn't known.
    pub fn surely_empty(&self) -> bool {
        if no_children() {
            return true;
        }
        let Some(children) = children() else { return false };
        let beside = self.beside();
        // One that has ended since it was listed may have left children, which are the agent's by now and not in the list.
        let foreign = |pid| read(pid).is_some_and(|child| !child.zombie && !self.owns(&child, &beside));
        children.into_iter().all(foreign)
    }

    /// Nothing runs beside the command: every child of the agent is its own.
    pub fn is_alone(&self) -> bool {
        self.beside().alone
    }

    fn beside(&self) -> Beside {
        let (mut others, spawning) = self.reaper.mains();
        others.retain(|_, id| *id != self.command);
        Beside { alone: others.is_empty() && !spawning, others }
    }

    /// Does a child of the agent belong to the command?
    fn owns(&self, child: &Process, beside: &Beside) -> bool {
        if beside.others.contains_key(&child.pid) {
            return false;
        }
        child.pid == self.main
            || child.session == self.main
            || match tag(child.pid) {
                Some(id) => id == self.command || beside.alone,
                None => beside.alone,
            }
    }

    /// One signal to all of them.
    pub fn signal(&self, signal: Signal) -> Vec<Process> {
        let members = self.members();
        members.iter().for_each(|process| send(*process, signal));
        members
    }
}

/// Kill all that is below the agent, until nothing is left or `patience` is over (a process may hang in the kernel, or belong to
/// another user).
pub fn kill_everything(reaper: &Reaper, patience: Duration) {
    let own = std::process::id().cast_signed();
    let until = Instant::now() + patience;
    loop {
        let all = members(&scan(), own, |_| true);
        if (all.is_empty() && no_children()) || Instant::now() > until {
            return;
        }
        all.iter().for_each(|process| send(*process, Signal::KILL));
        reaper.wait_for_news(Duration::from_millis(5));
    }
}

/// The kernel's own word that the agent has no child, so nothing is below it. A look at `/proc` can miss a process that was made
/// while its parent ended.
fn no_children() -> bool {
    let nothing = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(rustix::process::waitid(WaitId::All, nothing), Err(rustix::io::Errno::CHILD))
}

/// The chosen children of `own`, and everything below them.
fn members(all: &[Process], own: i32, choose: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut by_parent: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for process in all {
        by_parent.entry(process.parent).or_default().push(process);
    }
    let below = |pid| by_parent.get(&pid).into_iter().flatten().copied();
    let mut found: Vec<&Process> = below(own).filter(|process| choose(process)).collect();
    let mut seen: BTreeSet<i32> = found.iter().map(|process| process.pid).collect();
    let mut at = 0;
    while at < found.len() {
        found.extend(below(found[at].pid).filter(|process| seen.insert(process.pid)));
        at += 1;
    }
    found.into_iter().filter(|process| !process.zombie).copied().collect()
}

fn scan() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn read(pid: i32) -> Option<Process> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid pgrp session … starttime`, where the name may hold anything, brackets and spaces included.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    let fields: Vec<&str> = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        started: fields.get(19)?.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        zombie: matches!(fields.first(), Some(&"Z" | &"X")),
    })
}

/// The command in a process's environment, where it can be read.
fn tag(pid: i32) -> Option<CommandId> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|b| *b == 0).find_map(|entry| {
        let value = entry.strip_prefix(ENV_COMMAND.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()?.parse().ok().map(CommandId)
    })
}

/// The agent's own children, where the kernel lists them.
fn children() -> Option<Vec<i32>> {
    let mut out = Vec::new();
    for task in fs::read_dir("/proc/self/task").ok()? {
        let list = match fs::read_to_string(task.ok()?.path().join("children")) {
            Ok(list) => list,
            // The thread ended meanwhile; its children are with another thread, which may have been read before.
            Err(_) => return None,
        };
        out.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Some(out)
}

/// To this very process: a handle is taken, then looked at whether the number still means the same.
fn send(process: Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    if read(process.pid).is_none_or(|now| now.started != process.started) {
        return;
    }
    // Failures: it is gone, or it is not ours to signal (it changed its user). Neither can be helped.
    let _ = match handle {
        Ok(handle) => rustix::process::pidfd_send_signal(handle, signal),
        Err(_) => rustix::process::kill_process(pid, signal),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, session: 0, started: 1, zombie: false }
    }

    #[test]
    fn odd_names_do_not_confuse() {
        let stat = b"42 (a) b) (S 1 1) R 7 8 9 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 555 0 0";
        let parsed = parse(42, stat).unwrap();
        assert_eq!((parsed.parent, parsed.session, parsed.started, parsed.zombie), (7, 9, 555, false));
        assert_eq!(parse(42, b"42 (x"), None);
    }

    #[test]
    fn the_tree_is_what_is_below() {
        let mut all = vec![
            process(10, 1),
            process(11, 10),
            process(12, 11),
            process(20, 1),
            process(21, 20),
            process(30, 2),
        ];
        all[1].zombie = true;
        let pids = |list: Vec<Process>| list.into_iter().map(|p| p.pid).collect::<Vec<_>>();
        assert_eq!(pids(members(&all, 1, |p| p.pid == 10)), [10, 12]);
        assert_eq!(pids(members(&all, 1, |_| true)), [10, 20, 21, 12]);
    }

    #[test]
    fn this_process_is_found() {
        let own = std::process::id().cast_signed();
        let found = scan().into_iter().find(|p| p.pid == own).unwrap();
        assert_eq!(found.parent, std::os::unix::process::parent_id().cast_signed());
    }
}
