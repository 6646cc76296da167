//! What `/proc` says. Reads only.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One process for as long as the host is up: ids are used again, so the start time and the boot belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ident {
    pub(crate) pid: i32,
    /// Clock ticks since boot.
    pub(crate) start: u64,
    /// The start of the boot's id.
    pub(crate) boot: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    pub(crate) start: u64,
    pub(crate) zombie: bool,
}

impl Process {
    pub(crate) fn read(pid: i32) -> Option<Self> {
        parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    pub(crate) fn ident(&self, boot: &str) -> Ident {
        Ident { pid: self.pid, start: self.start, boot: boot.to_owned() }
    }

    /// Its arguments; empty where it is gone or is the kernel's.
    pub(crate) fn arguments(&self) -> Vec<Vec<u8>> {
        let text = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        text.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
    }

    /// Whether one of its arguments is this path.
    pub(crate) fn has_argument(&self, path: &Path) -> bool {
        let wanted = path.as_os_str().as_bytes();
        self.arguments().iter().any(|argument| argument == wanted)
    }

    /// Its environment as it was started with. Unreadable (another user's, or one that forbids it) is empty.
    pub(crate) fn environment(&self) -> Environment {
        Environment(fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default())
    }

    /// Its real user; `None` where it is gone.
    pub(crate) fn user(&self) -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        real_uid(&text)
    }
}

/// The environment block of a process.
#[derive(Debug)]
pub(crate) struct Environment(Vec<u8>);

impl Environment {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.split(|b| *b == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(value).ok()
        })
    }
}

/// Every process of the host, zombies too.
pub(crate) fn all() -> io::Result<Vec<Process>> {
    Ok(pids()?.into_iter().filter_map(Process::read).collect())
}

/// The process of an identity, where it lives.
pub(crate) fn living(ident: &Ident) -> Option<Process> {
    if ident.boot != boot_id() {
        return None;
    }
    Process::read(ident.pid).filter(|found| found.start == ident.start && !found.zombie)
}

/// Real users of all processes.
pub(crate) fn uids_in_use() -> io::Result<HashSet<u32>> {
    let status = |pid: i32| fs::read_to_string(format!("/proc/{pid}/status")).ok();
    Ok(pids()?.into_iter().filter_map(status).filter_map(|text| real_uid(&text)).collect())
}

/// The start of this boot's id.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.chars().take(8).collect()
}

fn pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

fn real_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The name stands in brackets and may hold anything, brackets too; what follows the last one is numbers.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "42 (a) Z (b) S 7 42 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 11 12";
        let found = parse_stat(42, stat).expect("parsed");
        assert_eq!(found, Process { pid: 42, parent: 7, session: 9, start: 987_654, zombie: false });
    }

    #[test]
    fn this_process_is_found_and_another_start_time_is_not_it() {
        let pid = i32::try_from(std::process::id()).expect("a process id");
        let me = Process::read(pid).expect("this process");
        let ident = me.ident(&boot_id());
        assert_eq!(living(&ident), Some(me.clone()));
        assert_eq!(living(&Ident { start: ident.start + 1, ..ident.clone() }), None);
        assert_eq!(living(&Ident { boot: "other".into(), ..ident }), None);
        assert!(uids_in_use().expect("read").contains(&me.user().expect("a user")));
        assert_eq!(me.environment().get("PATH"), std::env::var("PATH").ok().as_deref());
    }
}
