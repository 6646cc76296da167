//! Whose a state folder is: one process has it at a time, by a lock that goes with the process.

use anyhow::Context;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// How long a master that is ending may still hold the state folder.
const ROOM: Duration = Duration::from_secs(5);
const ROOM_STEP: Duration = Duration::from_millis(50);

/// The folder belongs to one process at a time: a master, or whoever restores a backup into it.
///
/// # Errors
/// Where another has it, or it cannot be made.
pub fn take_state_folder(state: &Path) -> anyhow::Result<nix::fcntl::Flock<std::fs::File>> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(state)
        .with_context(|| format!("make the state folder {}", state.display()))?;
    let path = state.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    // Whoever can read it could take the lock.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("keep {} to its owner", path.display()))?;
    // One that was told to stop may take a moment longer than its API.
    let mut file = file;
    for _ in 0..ROOM.as_millis() / ROOM_STEP.as_millis() {
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, _)) => file = back,
        }
        std::thread::sleep(ROOM_STEP);
    }
    anyhow::bail!("another master runs on the state folder {}", state.display())
}

/// Whether a process has the folder: a master, most likely.
#[must_use]
pub fn is_taken(state: &Path) -> bool {
    let Ok(file) = std::fs::File::open(state.join("lock")) else { return false };
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockSharedNonblock).is_err()
}
