//! A copy of the project below the target folder, to be changed and built there. The tree itself is only read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub struct Copy {
    pub root: PathBuf,
}

impl Copy {
    /// What the tree holds that is under version control or could be. A file that is the same already is left alone, so that cargo builds
    /// anew only what is new.
    pub fn of(tree: &Path, root: PathBuf) -> Result<Self> {
        let copy = Self { root };
        let files = files(tree)?;
        for file in &files {
            let from = tree.join(file);
            let bytes = fs::read(&from).with_context(|| format!("{} cannot be read", from.display()))?;
            copy.write(file, &bytes)?;
            // Scripts stay runnable.
            let permissions = fs::metadata(&from).map(|found| found.permissions());
            permissions.and_then(|all| fs::set_permissions(copy.root.join(file), all)).with_context(
                || format!("{} cannot be given the permissions of the file it is a copy of", file.display()),
            )?;
        }
        copy.remove_others(Path::new(""), &files)?;
        Ok(copy)
    }

    pub fn write(&self, file: &Path, bytes: &[u8]) -> Result<()> {
        let to = self.root.join(file);
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        fs::write(&to, bytes).with_context(|| format!("{} cannot be written", to.display()))
    }

    fn remove_others(&self, below: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
        let folder = self.root.join(below);
        let entries =
            fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("{} cannot be read", folder.display()))?;
            let name = below.join(entry.file_name());
            if entry.path().is_dir() {
                self.remove_others(&name, files)?;
            } else if !files.contains(&name) {
                let gone = fs::remove_file(entry.path());
                gone.with_context(|| format!("{} cannot be removed", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

fn files(tree: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(tree)
        .output()
        .context("git could not be run")?;
    if !listed.status.success() {
        bail!("git could not list the files of {}", tree.display());
    }
    let text = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    let names = text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(names.filter(|name| tree.join(name).is_file()).collect())
}
