//! Files that workers read, in the account's own folder: only the master passes through there. A worker is given a folder of its own with links to the
//! same files, which are the master's and stay whatever becomes of the shelf; where its folder is on another file system, with copies.

use crate::places::remove_tree;
use rouse_contract::Shelf;
use rouse_contract::shelf::{SHELVES, WHOLE, files_of};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct LocalShelves {
    base: PathBuf,
}

impl LocalShelves {
    pub(crate) fn new(state: &Path) -> Self {
        Self { base: state.join("shelves") }
    }

    pub(crate) fn there(&self, shelf: &str) -> io::Result<Option<String>> {
        match self.base.join(shelf).try_exists()? {
            true => Ok(Some("here".to_owned())),
            false => Ok(None),
        }
    }

    pub(crate) fn put(&self, shelf: &str, layer: &str, folder: &Path) -> io::Result<()> {
        let shelf = self.base.join(shelf);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&shelf)?;
        let half = shelf.join(format!(".{layer}"));
        remove_tree(&half)?;
        link_all(folder, &half)?;
        remove_tree(&shelf.join(layer))?;
        fs::rename(half, shelf.join(layer))
    }

    pub(crate) fn keep(&self, prefix: &str, kept: &[String]) -> io::Result<()> {
        let entries = match fs::read_dir(&self.base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) && !kept.contains(&name) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Gives a worker what is on a shelf now. One that is gone meanwhile is empty.
    pub(crate) fn give(&self, shelf: &Shelf, worker: &Path) -> io::Result<()> {
        let to = worker.join(SHELVES).join(&shelf.at);
        remove_tree(&to)?;
        let entries = match fs::read_dir(self.base.join(&shelf.name)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with('.') {
                link_all(&entry.path(), &to.join(name))?;
            }
        }
        Ok(())
    }
}

/// Links all files of a layer, the one that says that it is whole last. Everybody may read them who gets there.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    let mut files = files_of(from)?;
    files.push((WHOLE.to_owned(), from.join(WHOLE)));
    for (name, path) in files {
        let target = to.join(name);
        if let Some(above) = target.parent() {
            make_passable(above)?;
        }
        if fs::hard_link(&path, &target).is_err() {
            // Another file system, or one that has no links.
            fs::copy(&path, &target)?;
        }
        fs::set_permissions(&target, fs::Permissions::from_mode(0o444))?;
    }
    Ok(())
}

fn make_passable(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_passable(above)?;
    }
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}
