//! Has the kernel killed something in our cgroup for want of memory? Both versions of cgroups, where they can be seen.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel counts; found once.
#[derive(Clone, Debug)]
pub struct OomCounter {
    file: Option<PathBuf>,
}

impl OomCounter {
    /// For the cgroup of this process.
    pub fn find() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { file: candidates(&own).into_iter().find(|path| read(path).is_some()) }
    }

    /// Kills so far; 0 where nobody counts.
    pub fn count(&self) -> u64 {
        self.file.as_deref().and_then(read).unwrap_or(0)
    }
}

/// In a container its own cgroup is mounted at the top, whatever `/proc/self/cgroup` says; on a host the path leads there.
fn candidates(own: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.events"),
            list if list.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.oom_control"),
            _ => continue,
        };
        out.extend([Path::new(root).join(path).join(file), Path::new(root).join(file)]);
    }
    out
}

fn read(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let paths = candidates("12:cpu,cpuacct:/x\n4:memory:/docker/ab\n0::/user.slice\n");
        let paths: Vec<_> = paths.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "/sys/fs/cgroup/memory/docker/ab/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control",
                "/sys/fs/cgroup/user.slice/memory.events",
                "/sys/fs/cgroup/memory.events",
            ]
        );
    }

    #[test]
    fn the_count_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        fs::write(&file, "low 0\noom 3\noom_kill 2\noom_group_kill 0\n").unwrap();
        assert_eq!(read(&file), Some(2));
        fs::write(&file, "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n").unwrap();
        assert_eq!(OomCounter { file: Some(file) }.count(), 7);
    }
}
