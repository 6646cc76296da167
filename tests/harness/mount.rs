//! Small file systems that can be filled: each lives in the mount namespace of one master and its workers, and ends with them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Master;

/// A file system in memory.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Where; the folder must be there.
    pub at: PathBuf,
    pub megabytes: u32,
}

/// Whether file systems can be mounted here. If not, the skip has been recorded.
pub fn possible() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        rouse_testkit::back_ends::skip("needs root, to mount a small file system");
    }
    root
}

/// A program that sees these mounts. It is the very process that is started, whatever stands before it.
pub fn within(mounts: &[Mount], program: &Path) -> Command {
    if mounts.is_empty() {
        return Command::new(program);
    }
    let mut script = String::new();
    for mount in mounts {
        let (megabytes, at) = (mount.megabytes, mount.at.display());
        script.push_str(&format!("mount -t tmpfs -o size={megabytes}m,mode=0755 tmpfs '{at}' || exit 1\n"));
    }
    script.push_str("exec \"$@\"\n");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(program);
    command
}

/// As the master sees it.
pub fn seen_by(master: &Master, path: &Path) -> PathBuf {
    let below = path.strip_prefix("/").expect("an absolute path");
    PathBuf::from(format!("/proc/{}/root", master.pid())).join(below)
}

/// Takes all the room that is left there; to be called again where somebody has given some back.
pub fn fill(folder: &Path) {
    let mut file =
        File::options().create(true).append(true).open(ballast(folder)).expect("a file can be made");
    for piece in [1 << 20, 4096, 1] {
        let bytes = vec![1; piece];
        while file.write_all(&bytes).is_ok() {}
    }
}

/// Gives back what was taken.
pub fn empty(folder: &Path) {
    std::fs::remove_file(ballast(folder)).expect("it was filled");
}

fn ballast(folder: &Path) -> PathBuf {
    folder.join("ballast")
}
