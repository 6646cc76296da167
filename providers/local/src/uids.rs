//! One unprivileged user for each worker, where the master is root.
//!
//! Users are killed by their id and their files removed by it, so no two workers of this host may ever share one, of whatever installation.
//! A small folder of the host's, `/run/rouse-uids`, says who has which id; an entry whose worker's folder is gone and that no process
//! uses is free again. Ids that the host's user database or any process knows are left alone.

use crate::lock::Lock;
use crate::options::Uids;
use crate::processes;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the host's ids are written down.
pub(crate) const HOST_FOLDER: &str = "/run/rouse-uids";

/// Who has an id: the worker whose folder this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) folder: PathBuf,
}

#[derive(Debug)]
pub(crate) struct HostUids {
    folder: PathBuf,
    range: Uids,
}

impl HostUids {
    pub(crate) fn new(folder: PathBuf, range: Uids) -> Self {
        Self { folder, range }
    }

    /// An id that nobody else has, the same one for the same holder; `None` where all are taken. The holder's folder must exist already, or
    /// the entry counts as left over.
    pub(crate) fn reserve(&self, holder: &Holder) -> io::Result<Option<u32>> {
        let _lock = self.lock()?;
        if let Some((uid, _)) = self.entries()?.into_iter().find(|(_, held)| held == holder) {
            return Ok(Some(uid));
        }
        let mut known = known_users()?;
        known.extend(processes::uids_in_use()?);
        for uid in (self.range.first..).take(usize::try_from(self.range.count).unwrap_or(0)) {
            if known.contains(&uid) {
                continue;
            }
            let entry = self.entry(uid);
            if read(&entry)?.is_some_and(|other| other.folder.exists()) {
                continue;
            }
            write(&entry, holder)?;
            return Ok(Some(uid));
        }
        Ok(None)
    }

    pub(crate) fn is_held_by(&self, uid: u32, holder: &Holder) -> io::Result<bool> {
        Ok(read(&self.entry(uid))?.is_some_and(|found| found == *holder))
    }

    /// Gives back what the holder has. Nothing is success.
    pub(crate) fn release(&self, holder: &Holder) -> io::Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let lock = self.lock()?;
        for (uid, held) in self.entries()? {
            if held == *holder {
                fs::remove_file(self.entry(uid))?;
            }
        }
        lock.give_back(&self.folder)
    }

    fn entries(&self) -> io::Result<Vec<(u32, Holder)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let uid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(uid), Some(holder)) = (uid, read(&entry.path())?) {
                all.push((uid, holder));
            }
        }
        Ok(all)
    }

    fn lock(&self) -> io::Result<Lock> {
        Lock::take(&self.folder, |folder| {
            rouse_contract::folder::make(folder, rouse_contract::folder::Reach::Master)
        })
    }

    fn entry(&self, uid: u32) -> PathBuf {
        self.folder.join(uid.to_string())
    }
}

fn read(entry: &Path) -> io::Result<Option<Holder>> {
    match fs::read(entry) {
        // A half-written entry holds nothing: its writer died before it had the id.
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(entry: &Path, holder: &Holder) -> io::Result<()> {
    fs::write(entry, serde_json::to_vec(holder)?)
}

/// Ids of the host's own user database. Only the file is read: no lookup in a directory service may be waited for here.
fn known_users() -> io::Result<HashSet<u32>> {
    let text = fs::read_to_string("/etc/passwd").or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(String::new()),
        _ => Err(error),
    })?;
    Ok(text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(folder: &Path) -> HostUids {
        HostUids::new(folder.join("uids"), Uids { first: 60_790, count: 3 })
    }

    #[test]
    fn no_two_workers_of_the_host_share_an_id() {
        let here = tempfile::tempdir().expect("a folder");
        let (ours, theirs) = (uids(here.path()), uids(here.path()));
        let holder = |name: &str| {
            let folder = here.path().join(name);
            fs::create_dir_all(&folder).expect("a folder");
            Holder { folder }
        };
        let (a, b, c, d) = (holder("a"), holder("b"), holder("c"), holder("d"));
        assert_eq!(ours.reserve(&a).expect("read"), Some(60_790));
        assert_eq!(theirs.reserve(&b).expect("read"), Some(60_791));
        assert_eq!(ours.reserve(&c).expect("read"), Some(60_792));
        assert_eq!(theirs.reserve(&d).expect("read"), None);
        assert!(theirs.is_held_by(60_791, &b).expect("read"));
        assert!(!ours.is_held_by(60_791, &a).expect("read"));
        assert_eq!(theirs.reserve(&b).expect("read"), Some(60_791), "asked again");
        // The folder of `c` is gone, so its id is free again.
        fs::remove_dir_all(&c.folder).expect("removed");
        assert_eq!(theirs.reserve(&d).expect("read"), Some(60_792));
        for holder in [&a, &b, &d] {
            ours.release(holder).expect("released");
        }
        assert!(!here.path().join("uids").exists(), "an empty folder is not left behind");
    }
}
