//! An exclusive lock on a file that may be removed while others wait for it.
//!
//! It is held by the open file, so a child between fork and exec holds it too: whoever gets the lock after a crash of the master knows that
//! every agent on its way has either begun or died.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Released when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock; blocks the thread. `folder` is made by `make_folder` where it is missing.
    pub(crate) fn take(folder: &Path, make_folder: impl Fn(&Path) -> io::Result<()>) -> io::Result<Self> {
        let path = folder.join("lock");
        // Bounded: each turn means that somebody removed the folder in between.
        for _ in 0..1000 {
            // Where it was there, it may go before its owner and mode are looked at.
            match make_folder(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                made => made?,
            }
            let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            flock(&file, FlockOperation::LockExclusive)?;
            let held = file.metadata()?;
            let there = std::fs::symlink_metadata(&path);
            if there.is_ok_and(|there| there.ino() == held.ino() && there.dev() == held.dev()) {
                return Ok(Self { _file: file });
            }
        }
        Err(io::Error::other(format!("{} was removed again and again", path.display())))
    }

    /// Gives the lock back, and removes the folder where only the lock is left in it.
    pub(crate) fn give_back(self, folder: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            if entry?.file_name() != "lock" {
                return Ok(());
            }
        }
        std::fs::remove_file(folder.join("lock"))?;
        rouse_contract::folder::remove_if_empty(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_contract::folder::Reach;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_at_a_time_also_while_the_folder_comes_and_goes() {
        let here = tempfile::tempdir().expect("a folder");
        let folder = here.path().join("base");
        let inside = AtomicU32::new(0);
        let make = |path: &Path| rouse_contract::folder::make(path, Reach::Master);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let lock = Lock::take(&folder, make).expect("the lock");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        lock.give_back(&folder).expect("given back");
                    }
                });
            }
        });
        assert!(!folder.exists());
    }
}
