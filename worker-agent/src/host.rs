//! What all commands of this agent share and nobody changes: where it works, its private directory, the reaper, the ways to the master.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rouse_agent_protocol::Endpoint;

use crate::disk::Disk;
use crate::oom::OomCounter;
use crate::process::{Reaper, base_environment};

#[derive(Debug)]
pub struct Host {
    pub worker: String,
    /// Absolute and without symbolic links.
    pub work_dir: PathBuf,
    pub private: Private,
    pub base_environment: Vec<(OsString, OsString)>,
    pub reaper: Arc<Reaper>,
    pub oom: OomCounter,
    pub disk: Disk,
    pub endpoints: Vec<Endpoint>,
}

impl Host {
    pub fn new(
        worker: String,
        work_dir: PathBuf,
        private: Private,
        endpoints: Vec<Endpoint>,
    ) -> io::Result<Self> {
        Ok(Self {
            base_environment: base_environment(std::env::vars_os(), &work_dir),
            worker,
            disk: Disk::of(&work_dir),
            work_dir,
            private,
            reaper: Reaper::start()?,
            oom: OomCounter::find(),
            endpoints,
        })
    }
}

/// The agent's private directory (0700): texts of scripts while they run, and the spool, whose file has no name.
///
/// It is looked for where `--state` says, or else beside the work directory, within it (where all else is read-only), in the
/// temporary directory. It is made when it is needed, as a step may empty the work directory.
#[derive(Debug)]
pub struct Private {
    dir: PathBuf,
    prefix: String,
}

const NAME: &str = ".rouse-agent";

impl Private {
    /// `prefix` tells files of several agents in one directory apart.
    pub fn find(wanted: Option<&Path>, work_dir: &Path, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        if let Some(dir) = wanted {
            return Self { dir: dir.to_owned(), prefix };
        }
        let beside = work_dir.parent().map(|parent| parent.join(NAME));
        let places =
            [beside, Some(work_dir.join(NAME)), Some(std::env::temp_dir().join(format!("{NAME}-{prefix}")))];
        let usable = |dir: &PathBuf| {
            make(dir).is_ok() && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
        };
        let dir = places.into_iter().flatten().find(usable).unwrap_or_else(|| work_dir.join(NAME));
        Self { dir, prefix }
    }

    /// A file without a name; `name` is what it is called for a moment.
    pub fn nameless_file(&self, name: &str) -> io::Result<File> {
        let (file, path) = self.create(name)?;
        fs::remove_file(path)?;
        Ok(file)
    }

    /// The text of a script, in a file that nobody else can read.
    pub fn script(&self, name: &str, text: &str) -> io::Result<TemporaryFile> {
        let (mut file, path) = self.create(name)?;
        let temporary = TemporaryFile(path);
        io::Write::write_all(&mut file, text.as_bytes())?;
        Ok(temporary)
    }

    /// At the end: nothing of this agent is left over. The directory stays if another agent uses it too.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir(&self.dir);
    }

    fn create(&self, name: &str) -> io::Result<(File, PathBuf)> {
        make(&self.dir)?;
        let path = self.dir.join(format!("{}-{name}", self.prefix));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((file, path))
    }
}

/// There already is as good.
fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(dir)
}

/// Removed when it goes out of use.
#[derive(Debug)]
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_files_are_private_and_go_away() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        let private = Private::find(None, &work, "ab");
        let beside = dir.path().join(NAME);
        assert_eq!(fs::metadata(&beside).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(private.nameless_file("spool").is_ok());
        let script = private.script("script-1", "echo hi").unwrap();
        assert_eq!(fs::metadata(script.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&beside).unwrap().count(), 1);
        drop(script);
        fs::write(beside.join("ab-left"), "").unwrap();
        private.clear();
        assert!(!beside.exists());
    }

    #[test]
    fn a_private_directory_that_a_step_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let private = Private::find(Some(&dir.path().join("deep/state")), dir.path(), "ab");
        drop(private.script("one", "").unwrap());
        fs::remove_dir(dir.path().join("deep/state")).unwrap();
        assert!(private.script("two", "").is_ok());
    }
}
