//! Link folders on this host: `BASE/KEY/tag.json` says whose it is, `BASE/KEY/link` is what the worker sees.
//!
//! The base can be passed by the master's user alone, so that nobody else on the host reads a join document or reaches a socket; a container
//! has the inner folder mounted and passes nothing above it, whoever it runs as.

use crate::reference::is_key;
use rouse_contract::folder::{self, Reach};
use rouse_contract::{Installation, Tag};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// What comes after the base in the socket's path: `/KEY/link/sock`.
const ROOM: usize = 23;

#[derive(Debug, Clone)]
pub(crate) struct Links {
    base: PathBuf,
}

impl Links {
    pub(crate) fn new(installation: &Installation, account: &str) -> Self {
        Self { base: folder::choose(installation, account, Reach::Master, ROOM) }
    }

    /// Where a worker's link folder is, whether or not it is there.
    pub(crate) fn of(&self, key: &str) -> PathBuf {
        self.base.join(key).join("link")
    }

    /// Makes it, or takes what is there.
    pub(crate) fn make(&self, tag: &Tag) -> io::Result<PathBuf> {
        let key = tag.key();
        loop {
            folder::make(&self.base, Reach::Master)?;
            // The base goes with the last folder in it, which may be just now.
            match self.furnish(&key, tag) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                answer => return answer,
            }
        }
    }

    fn furnish(&self, key: &str, tag: &Tag) -> io::Result<PathBuf> {
        let link = self.of(key);
        let own = self.base.join(key);
        match fs::create_dir(&own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let next = own.join("tag.next");
        fs::write(&next, serde_json::to_vec(tag)?)?;
        fs::rename(&next, own.join("tag.json"))?;
        match fs::create_dir(&link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::set_permissions(&link, fs::Permissions::from_mode(0o755))?,
        }
        Ok(link)
    }

    /// All that are there; without a tag where a crash left one half made.
    pub(crate) fn all(&self) -> io::Result<Vec<(String, Option<Tag>)>> {
        let entries = match fs::read_dir(&self.base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut all = Vec::new();
        for entry in entries {
            if let Some(key) = entry?.file_name().to_str().filter(|name| is_key(name)) {
                all.push((key.to_owned(), self.tag(key)?));
            }
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    }

    pub(crate) fn is_there(&self, key: &str) -> bool {
        self.base.join(key).exists()
    }

    pub(crate) fn tag(&self, key: &str) -> io::Result<Option<Tag>> {
        match fs::read(self.base.join(key).join("tag.json")) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes one, its tag last, and the base with the last one. Absent is success.
    pub(crate) fn remove(&self, key: &str) -> io::Result<()> {
        let own = self.base.join(key);
        absent_is_fine(fs::remove_dir_all(own.join("link")))?;
        absent_is_fine(fs::remove_dir_all(&own))?;
        folder::remove_if_empty(&self.base)
    }
}

fn absent_is_fine(answer: io::Result<()>) -> io::Result<()> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::WorkerId;
    use rouse_model::worker::LaunchToken;
    use std::path::Path;

    #[test]
    fn a_link_folder_says_whose_it_is_and_goes_without_a_trace() {
        let here = tempfile::tempdir().expect("a folder");
        let links = Links { base: here.path().join("run") };
        let tag = Tag {
            installation: "i".into(),
            store_epoch: 1,
            pool: "p".into(),
            worker: WorkerId(1),
            name: "p-1".into(),
            token: LaunchToken("i-1-1-1".into()),
        };
        let link = links.make(&tag).expect("made");
        assert_eq!(links.make(&tag).expect("the same"), link);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&link), mode(&here.path().join("run"))), (0o755, 0o700));
        fs::write(link.join("join.json"), "{}").expect("written");
        assert_eq!(links.all().expect("read"), [(tag.key(), Some(tag.clone()))]);
        links.remove(&tag.key()).expect("removed");
        links.remove(&tag.key()).expect("absent is fine");
        assert_eq!(links.all().expect("read"), []);
        assert!(!here.path().join("run").exists());
    }
}
