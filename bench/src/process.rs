//! What the kernel says of a process, and ways to end one by its id.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// What processes have used so far, user and kernel together, without their children.
pub fn cpu(pids: &[i32]) -> Duration {
    let ticks: u64 = pids.iter().filter_map(|pid| ticks(*pid)).sum();
    let second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    Duration::from_secs_f64(ticks as f64 / second)
}

fn ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The state follows the name, which may itself contain spaces and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Resident memory now, in KB.
pub fn rss_kb(pid: i32) -> Result<u64> {
    status_kb(pid, "VmRSS:")
}

/// The most resident memory since [`forget_peak`], in KB.
pub fn peak_kb(pid: i32) -> Result<u64> {
    status_kb(pid, "VmHWM:")
}

pub fn forget_peak(pid: i32) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak of memory cannot be forgotten")
}

fn status_kb(pid: i32, key: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line in status")?;
    line.trim().trim_end_matches(" kB").parse().context("no number in status")
}

/// Asks it to end, waits, then kills it.
pub fn end(child: &mut Child, patience: Duration) {
    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
    let until = Instant::now() + patience;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Live processes whose environment or command line mentions `mark`.
pub fn mentioning(mark: &str) -> Vec<i32> {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let mentions = |bytes: Vec<u8>| bytes.windows(mark.len()).any(|part| part == mark.as_bytes());
        if pid != std::process::id() as i32 && (mentions(read("cmdline")) || mentions(read("environ"))) {
            seen.push(pid);
        }
    }
    seen
}

/// All of a process group of ours.
pub fn kill_group(leader: i32) {
    let _ = nix::sys::signal::killpg(Pid::from_raw(leader), Signal::SIGKILL);
}

pub fn kill9(pid: i32) {
    // ESRCH where it has ended by itself, which is what we want.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}
