//! The account's folder on disk, and each worker's within it.
//!
//! `BASE/KEY/` holds `record.json`, `pid` and `console`, which are the master's, and the folders that the agent is given: `link` (may be
//! read), `work`, `state`, `home` and `tmp` (its own). The worker's folder and its link folder belong to the master's user also where the
//! worker has one of its own, so that a worker can never put a symlink where the master is about to write.

use crate::lock::Lock;
use rouse_contract::folder::{self, Reach};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// What comes after the base in the socket's path: `/KEY/link/sock`.
pub(crate) const ROOM: usize = 23;

#[derive(Debug, Clone)]
pub(crate) struct Places {
    base: PathBuf,
    reach: Reach,
}

impl Places {
    pub(crate) fn new(base: PathBuf, reach: Reach) -> Self {
        Self { base, reach }
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Makes the base and takes the account's lock, which all masters of this installation on this host share.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        Lock::take(&self.base, |base| {
            if let Some(parent) = base.parent() {
                fs::create_dir_all(parent)?;
            }
            folder::make(base, self.reach)
        })
    }

    /// As [`Self::lock`], where there is a base at all.
    pub(crate) fn lock_if_there(&self) -> io::Result<Option<Lock>> {
        if self.base.exists() { self.lock().map(Some) } else { Ok(None) }
    }

    pub(crate) fn worker(&self, key: &str) -> WorkerPlace {
        WorkerPlace { folder: self.base.join(key) }
    }

    /// Keys of all workers' folders.
    pub(crate) fn keys(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut keys = Vec::new();
        for entry in entries {
            if let Some(name) = entry?.file_name().to_str().filter(|name| is_key(name)) {
                keys.push(name.to_owned());
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// Copies of the agent that workers' users can reach.
    pub(crate) fn agents(&self) -> PathBuf {
        self.base.join("bin")
    }

    /// Gives the lock back, and removes the base with the copies of the agent where no worker is left.
    pub(crate) fn give_back(&self, lock: Lock) -> io::Result<()> {
        if !self.keys()?.is_empty() {
            return Ok(());
        }
        remove_tree(&self.agents())?;
        lock.give_back(&self.base)
    }
}

/// Whether a name is one that [`rouse_contract::Tag::key`] makes.
pub(crate) fn is_key(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

#[derive(Debug, Clone)]
pub(crate) struct WorkerPlace {
    pub(crate) folder: PathBuf,
}

impl WorkerPlace {
    pub(crate) fn record(&self) -> PathBuf {
        self.folder.join("record.json")
    }

    /// Four bytes that the child writes between fork and exec.
    pub(crate) fn pid(&self) -> PathBuf {
        self.folder.join("pid")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.folder.join("console")
    }

    pub(crate) fn link(&self) -> PathBuf {
        self.folder.join("link")
    }

    pub(crate) fn join_document(&self) -> PathBuf {
        self.folder.join("link/join.json")
    }

    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the worker's folder, empty. What a crash left half made is taken.
    pub(crate) fn make(&self) -> io::Result<()> {
        make_dir(&self.folder, 0o700, None, None)
    }

    /// Makes the folders within, with the owners and modes that fit the worker's user.
    pub(crate) fn furnish(&self, uid: Option<u32>) -> io::Result<()> {
        let (outer, link) = if uid.is_some() { (0o710, 0o750) } else { (0o700, 0o700) };
        make_dir(&self.link(), link, None, uid)?;
        for name in ["work", "state", "home", "tmp"] {
            make_dir(&self.own(name), 0o700, uid, uid)?;
        }
        make_dir(&self.folder, outer, None, uid)
    }

    /// Removes all of it; the record goes last, so that what is left after a crash still says whose it was.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if path != self.record() {
                remove_tree(&path)?;
            }
        }
        remove_tree(&self.folder)
    }
}

fn make_dir(path: &Path, mode: u32, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if uid.is_some() || gid.is_some() {
        chown(path, uid, gid)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Removes a file or a folder with all that is in it; absent is success. Folders that their owner may not write to (caches make such) are
/// opened up first.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let attempt = || match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    let answer = match attempt() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            attempt()
        }
        answer => answer,
    };
    match answer {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

/// Makes every folder below writable. Only for the master's own files: where a worker has another user, the master is root and is never refused.
fn open_up(folder: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
