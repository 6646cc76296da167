//! The agent's file, where a worker's user can run it.

use crate::places::Places;
use rouse_contract::folder::passable;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file as it lies beside the master, or a copy of it in the account's folder where another user could not reach it. Called with the
/// account's lock held.
pub(crate) fn for_worker(agents: &Path, places: &Places, other_user: bool) -> io::Result<PathBuf> {
    let file = agents.join(format!("linux-{}", std::env::consts::ARCH)).join("rouse-agent");
    let found = fs::metadata(&file).map_err(|error| {
        io::Error::new(error.kind(), format!("the agent {} cannot be read: {error}", file.display()))
    })?;
    let reachable = found.mode() & 0o005 == 0o005 && file.parent().is_some_and(passable);
    if !other_user || reachable {
        return file.canonicalize();
    }
    let folder = places.agents();
    match fs::DirBuilder::new().mode(0o711).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?,
    }
    let same = format!("{}/{}/{}.{}", found.ino(), found.len(), found.mtime(), found.mtime_nsec());
    let copy = folder.join(hex::encode(&Sha256::digest(same.as_bytes())[..6]));
    if !copy.exists() {
        let next = folder.join("next");
        fs::copy(&file, &next)?;
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755))?;
        fs::rename(&next, &copy)?;
    }
    Ok(copy)
}
