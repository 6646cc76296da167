//! The folder of one run, and the sweep of runs that were killed.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::docker;
use crate::process;

/// Short, because socket paths below it have to fit into 108 bytes.
const PREFIX: &str = "rt-";

/// `<temporary directory>/rt-<our process id>`. Removed when dropped.
pub struct RunFolder {
    path: PathBuf,
    removed: bool,
}

impl RunFolder {
    pub fn make() -> Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        // Others pass through (PostgreSQL and unprivileged workers have their own uids) but don't list.
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&path)
            .with_context(|| format!("the run folder {} cannot be made", path.display()))?;
        let folder = Self { path, removed: false };
        for temporary in [folder.temporary(), folder.of_unit_tests()] {
            fs::create_dir(&temporary).context("the folder for temporary files cannot be made")?;
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))
                .context("the folder for temporary files cannot be opened to all")?;
        }
        fs::write(folder.skips(), "").context("the list of skips cannot be made")?;
        Ok(folder)
    }

    /// Stands in the environment of every test, and so of all that they start.
    pub fn mark(&self) -> String {
        format!("rouse-test-run-{}.", std::process::id())
    }

    pub fn temporary(&self) -> PathBuf {
        self.path.join("t")
    }

    /// Temporary files of parts that a test holds in its own process. A blocking write that the test no
    /// longer waits for may put a file back while its folder is removed, so what stays here says nothing.
    pub fn of_unit_tests(&self) -> PathBuf {
        self.path.join("u")
    }

    pub fn skips(&self) -> PathBuf {
        self.path.join("skips")
    }

    /// A folder for one back end.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(path)
    }

    /// Temporary files that the tests did not take away.
    pub fn left_by_tests(&self) -> Vec<String> {
        let entries = fs::read_dir(self.temporary()).into_iter().flatten().flatten();
        entries.map(|entry| described(&entry.path())).collect()
    }

    /// Takes everything away and answers what would not go.
    pub fn remove(mut self) -> Vec<String> {
        self.removed = true;
        take_away(&self.path)
    }
}

/// A file by its path, a folder with some of what is in it: its name alone seldom tells whose it was.
fn described(path: &Path) -> String {
    let inside = fs::read_dir(path).into_iter().flatten().flatten();
    let names: Vec<String> =
        inside.take(5).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let made = fs::symlink_metadata(path).and_then(|found| found.modified()).ok();
    let ago = made.and_then(|made| made.elapsed().ok()).map_or(0, |ago| ago.as_secs());
    format!("file {}, changed {ago} s ago, holds [{}]", path.display(), names.join(", "))
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !self.removed {
            for left in take_away(&self.path) {
                eprintln!("left over: {left}");
            }
        }
    }
}

/// Ends what still runs out of the folder, unmounts what is mounted below it, and removes it.
fn take_away(path: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let place = format!("{}/", path.display());
    for _ in 0..20 {
        let running = process::mentioning(&place);
        if running.is_empty() {
            break;
        }
        process::kill_all(&running);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    left.extend(
        process::mentioning(&place).into_iter().map(|seen| format!("process {}: {}", seen.pid, seen.command)),
    );
    docker::clean_up(path);
    left.extend(mounts_below(path).into_iter().map(|mount| format!("mount {}", mount.display())));
    if let Err(error) = fs::remove_dir_all(path) {
        left.push(format!("folder {}: {error}", path.display()));
    }
    left
}

/// Mount points below a folder, innermost first.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<PathBuf> =
        table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect();
    mounts.retain(|mount| mount.starts_with(path));
    mounts.reverse();
    mounts
}

/// Takes away run folders of ours whose process is gone: killed runs must not fill the machine.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<i32>().ok())
        else {
            continue;
        };
        let ours = entry
            .path()
            .symlink_metadata()
            .is_ok_and(|file| file.is_dir() && file.uid() == nix::unistd::geteuid().as_raw());
        if ours && !is_a_run(pid) {
            for left in take_away(&entry.path()) {
                eprintln!("left over by an earlier run: {left}");
            }
        }
    }
}

fn is_a_run(pid: i32) -> bool {
    if pid == std::process::id() as i32 {
        return false;
    }
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "xtask")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_run_is_swept_up_and_a_live_one_is_not() {
        let parent = tempfile::tempdir().unwrap();
        // No process has this number: the kernel's highest is 4194304.
        let dead = parent.path().join("rt-4999999");
        let other = parent.path().join("something-else");
        fs::create_dir_all(dead.join("t/deep")).unwrap();
        fs::create_dir(&other).unwrap();
        let mut sleeper =
            std::process::Command::new("sleep").arg("600").current_dir(dead.join("t")).spawn().unwrap();
        sweep(parent.path());
        let status = sleeper.wait().unwrap();
        assert!(!status.success());
        assert!(!dead.exists());
        assert!(other.exists());
    }
}
