//! What this machine is like, for the hello.

use std::fs;
use std::path::Path;

use rouse_agent_protocol::Facts;

/// Tools that decide how a master does things (who checks out, whether there is a shell) or that people ask for.
const TOOLS: [&str; 10] = ["sh", "bash", "git", "tar", "python3", "make", "cc", "docker", "node", "cargo"];

/// Looked up once, at start.
pub fn gather() -> Facts {
    let name = rustix::system::uname();
    let path = std::env::var("PATH").unwrap_or_else(|_| crate::process::DEFAULT_PATH.to_owned());
    let found =
        |tool: &&str| path.split(':').any(|dir| crate::process::is_program(&Path::new(dir).join(tool)));
    Facts {
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_bytes: memory(),
        hostname: name.nodename().to_string_lossy().into_owned(),
        uid: rustix::process::getuid().as_raw(),
        tools: TOOLS.iter().filter(|tool| found(tool)).map(|tool| (*tool).to_owned()).collect(),
    }
}

/// The least of the machine's memory and what the cgroup allows.
fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    machine.into_iter().chain(limit).min().unwrap_or(0)
}
