//! Processes as the kernel shows them.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// One live process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub pid: i32,
    pub command: String,
}

/// Live processes whose command line, environment or folder mentions `mark`, but for this test itself. Zombies are over already, whoever
/// is slow to reap them.
pub fn mentioning(mark: &str) -> Vec<Seen> {
    let mut seen: Vec<Seen> = all().filter(|process| mentions(process.pid, mark)).collect();
    seen.sort();
    seen
}

/// Every live process but this one.
pub fn all() -> impl Iterator<Item = Seen> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let command = String::from_utf8_lossy(&read(pid, "cmdline")).replace('\0', " ").trim().to_string();
        (pid != std::process::id() as i32 && is_alive(pid)).then_some(Seen { pid, command })
    })
}

/// Live processes whose parent is this one.
pub fn children(parent: i32) -> Vec<i32> {
    all().map(|seen| seen.pid).filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = String::from_utf8_lossy(&read(pid, "stat")).into_owned();
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Bytes of memory that a process has now.
pub fn resident(pid: i32) -> u64 {
    let status = String::from_utf8_lossy(&read(pid, "status")).into_owned();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Whether a process is there and not a zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = String::from_utf8_lossy(&read(pid, "stat")).into_owned();
    // The state follows the name, which may itself contain spaces and parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Whether programs that this one starts ignore SIGINT until they say otherwise, as it does itself.
pub fn ignores_interrupts() -> bool {
    let status = String::from_utf8_lossy(&read(std::process::id() as i32, "status")).into_owned();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 << (Signal::SIGINT as u64 - 1) != 0)
}

/// Ends one process at once. It may have gone by itself.
pub fn kill9(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// A group that is not there any more needs nothing.
pub fn kill_group(leader: u32) {
    let leader = i32::try_from(leader).expect("a process id");
    let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
}

fn mentions(pid: i32, mark: &str) -> bool {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let folder: PathBuf = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    text(read(pid, "cmdline")).contains(mark)
        || text(read(pid, "environ")).contains(mark)
        || format!("{}/", folder.display()).contains(mark)
}

fn read(pid: i32, file: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}
