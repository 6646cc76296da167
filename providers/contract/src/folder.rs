//! A folder on this host for what workers and master share: link folders, work folders.
//!
//! Three things decide where it can be. A Unix socket's address has at most 107 bytes, so its folder must be short. A worker under a user of its
//! own must be able to pass through every folder above, which a state folder (0700) or `/root` does not allow. And where several masters share
//! the installation, each of them on this host must find it, to take a dead one's workers over. Where the account's state folder will not do,
//! the folder is `/var/tmp/rouse-INSTALLATION-ACCOUNT`. It must not know what is put there.

use crate::Installation;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest address of a Unix socket.
pub const SOCKET_PATH_MAX: usize = 107;

/// Who must be able to pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The master's own user alone, and root.
    Master,
    /// Any user of the host, without being able to list it.
    AnyUser,
}

impl Reach {
    fn mode(self) -> u32 {
        match self {
            Self::Master => 0o700,
            Self::AnyUser => 0o711,
        }
    }
}

/// Where the folder is to be. `room` is the length of what will be put under it, up to and with the socket's name.
#[must_use]
pub fn choose(installation: &Installation, account: &str, reach: Reach, room: usize) -> PathBuf {
    let own = installation.state.join("run");
    let short = own.as_os_str().len() + room <= SOCKET_PATH_MAX;
    if short && !installation.many_masters && (reach == Reach::Master || passable(&installation.state)) {
        return own;
    }
    Path::new("/var/tmp").join(name(installation, account))
}

/// A short name for an account's folder that no other installation's has.
#[must_use]
pub fn name(installation: &Installation, account: &str) -> String {
    format!("rouse-{}-{}", installation.short(), short_name(account))
}

/// Makes the folder, or takes it where it is ours already.
///
/// # Errors
/// Where somebody else owns what lies there: in a folder that everybody may write to, it could be a trap.
pub fn make(folder: &Path, reach: Reach) -> io::Result<()> {
    match fs::DirBuilder::new().mode(reach.mode()).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = fs::symlink_metadata(folder)?;
    let me = fs::metadata("/proc/self")?.uid();
    if !found.is_dir() || found.uid() != me {
        let what = format!("{} is not a folder of user {me}", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    // The mode of a new folder went through the umask.
    if found.mode() & 0o7777 != reach.mode() {
        fs::set_permissions(folder, fs::Permissions::from_mode(reach.mode()))?;
    }
    Ok(())
}

/// Removes the folder where nothing is in it any more.
///
/// # Errors
/// Where it could not be looked at.
pub fn remove_if_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Whether any user of the host may pass through this folder and all above it.
#[must_use]
pub fn passable(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    folder.ancestors().all(|above| fs::metadata(above).is_ok_and(|m| m.mode() & 0o001 != 0))
}

/// An account's name where it is short and plain, else a digest of it.
fn short_name(account: &str) -> String {
    let plain = account.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if plain && account.len() <= 16 {
        return account.to_owned();
    }
    hex::encode(&Sha256::digest(account.as_bytes())[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(state: &Path) -> Installation {
        Installation {
            id: "12ab34cd-ef56".into(),
            store_epoch: 1,
            agents: PathBuf::from("/nowhere"),
            state: state.into(),
            many_masters: false,
        }
    }

    #[test]
    fn a_state_folder_that_will_not_do_is_left_for_a_short_one() {
        let here = tempfile::tempdir().expect("a folder");
        let inst = installation(here.path());
        assert_eq!(choose(&inst, "local", Reach::Master, 30), here.path().join("run"));
        fs::set_permissions(here.path(), fs::Permissions::from_mode(0o700)).expect("a mode");
        let outside = PathBuf::from("/var/tmp/rouse-12ab34cd-local");
        let shared = Installation { many_masters: true, ..inst.clone() };
        assert_eq!(choose(&shared, "local", Reach::Master, 30), outside);
        assert_eq!(choose(&inst, "local", Reach::AnyUser, 30), outside);
        fs::set_permissions(here.path(), fs::Permissions::from_mode(0o711)).expect("a mode");
        let reachable = choose(&inst, "local", Reach::AnyUser, 30);
        assert_eq!(reachable == here.path().join("run"), passable(here.path()));
        assert_eq!(choose(&inst, "local", Reach::Master, 95), outside);
        let long = choose(&inst, &"x".repeat(60), Reach::Master, 95);
        assert!(long.as_os_str().len() <= 40, "{}", long.display());
    }

    #[test]
    fn a_trap_is_not_taken() {
        let here = tempfile::tempdir().expect("a folder");
        let target = here.path().join("target");
        fs::create_dir(&target).expect("a folder");
        let link = here.path().join("link");
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        assert!(make(&link, Reach::Master).is_err());
        let fine = here.path().join("fine");
        make(&fine, Reach::AnyUser).expect("made");
        make(&fine, Reach::AnyUser).expect("taken");
        assert_eq!(fs::metadata(&fine).expect("there").mode() & 0o7777, 0o711);
        fs::write(fine.join("file"), "").expect("written");
        remove_if_empty(&fine).expect("kept");
        assert!(fine.exists());
        fs::remove_file(fine.join("file")).expect("removed");
        remove_if_empty(&fine).expect("removed");
        remove_if_empty(&fine).expect("absent is fine");
        assert!(!fine.exists());
    }
}
