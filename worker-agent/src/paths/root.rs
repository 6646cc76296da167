//! A directory that nothing under it can be reached out of: every path is walked part by part, and no symbolic link is followed.
//!
//! Steps may change the tree at any moment and leave links as traps, so what was checked and what is used must be the same thing:
//! each directory is opened from its parent's handle.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How deep a tree may be that is walked: each level holds a handle.
const MAX_DEPTH: usize = 512;

#[derive(Debug)]
pub struct Root(OwnedFd);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// Something met on a walk.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Relative to where the walk began; empty for that place itself.
    pub path: &'a [u8],
    pub kind: Kind,
    pub size: u64,
    pub modified_s: i64,
}

impl Root {
    pub fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(dir, flags, Mode::empty())?))
    }

    /// An existing directory.
    pub fn dir(&self, parts: &[&[u8]]) -> io::Result<OwnedFd> {
        let mut dir = self.0.try_clone()?;
        for part in parts {
            dir = openat(&dir, OsStr::from_bytes(part), DIRECTORY, Mode::empty()).map_err(explain)?;
        }
        Ok(dir)
    }

    /// A directory with its parents, made where missing.
    pub fn make_dirs(&self, parts: &[&[u8]]) -> io::Result<OwnedFd> {
        let mut dir = self.0.try_clone()?;
        for part in parts {
            let name = OsStr::from_bytes(part);
            dir = match openat(&dir, name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    match mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    openat(&dir, name, DIRECTORY, Mode::empty())
                }
                other => other,
            }
            .map_err(explain)?;
        }
        Ok(dir)
    }

    /// A file for reading; `None` where there is something else.
    pub fn open_file(&self, parts: &[&[u8]]) -> io::Result<Option<File>> {
        let Some((name, parents)) = parts.split_last() else { return Ok(None) };
        let dir = self.dir(parents)?;
        // Not blocking, as it might be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&dir, OsStr::from_bytes(name), flags, Mode::empty()).map_err(explain)?);
        Ok(file.metadata()?.is_file().then_some(file))
    }

    /// A file or a whole tree; absent is success. The root itself is emptied and stays.
    pub fn remove(&self, parts: &[&[u8]]) -> io::Result<()> {
        let Some((name, parents)) = parts.split_last() else { return empty(self.0.as_fd(), 0) };
        match self.dir(parents) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(dir) => remove_at(dir.as_fd(), OsStr::from_bytes(name), 0),
        }
    }

    /// Show a place and what is below it to `visitor`, which says of each directory whether to go into it. Nothing there is no error.
    pub fn visit(
        &self,
        parts: &[&[u8]],
        visitor: &mut dyn FnMut(Visit<'_>) -> io::Result<bool>,
    ) -> io::Result<()> {
        let (dir, name) = match parts.split_last() {
            None => (self.0.try_clone()?, OsStr::new(".")),
            Some((name, parents)) => match self.dir(parents) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => (other?, OsStr::from_bytes(name)),
            },
        };
        visit_at(dir.as_fd(), name, &mut Vec::new(), 0, visitor)
    }
}

/// A directory that is open already.
impl From<OwnedFd> for Root {
    fn from(dir: OwnedFd) -> Self {
        Self(dir)
    }
}

fn visit_at(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    path: &mut Vec<u8>,
    depth: usize,
    visitor: &mut dyn FnMut(Visit<'_>) -> io::Result<bool>,
) -> io::Result<()> {
    let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        // Gone meanwhile, or never there.
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    };
    let visit = Visit { path, kind, size: stat.st_size.unsigned_abs(), modified_s: stat.st_mtime };
    if !visitor(visit)? || kind != Kind::Directory {
        return Ok(());
    }
    deep_enough(depth)?;
    let here = match openat(dir, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        other => other?,
    };
    for child in names(here.as_fd())? {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&child);
        visit_at(here.as_fd(), OsStr::from_bytes(&child), path, depth + 1, visitor)?;
        path.truncate(length);
    }
    Ok(())
}

fn remove_at(dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let here = openat(dir, name, DIRECTORY, Mode::empty()).or_else(|error| match error {
        // Directories without rights, as some build tools leave them (module caches), are ours all the same.
        Errno::ACCESS => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            openat(dir, name, DIRECTORY, Mode::empty())
        }
        other => Err(other),
    })?;
    empty(here.as_fd(), depth)?;
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn empty(dir: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    deep_enough(depth)?;
    let children = names(dir)?;
    for child in &children {
        let name = OsStr::from_bytes(child);
        match remove_at(dir, name, depth + 1) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                rustix::fs::fchmod(dir, Mode::RWXU)?;
                remove_at(dir, name, depth + 1)?;
            }
            other => other?,
        }
    }
    Ok(())
}

fn deep_enough(depth: usize) -> io::Result<()> {
    let message = "the tree is too deep";
    if depth < MAX_DEPTH { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, message)) }
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            out.push(name.to_bytes().to_vec());
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// A link where a directory or file is expected shows as one of two odd errors.
fn explain(error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => io::Error::new(
            io::ErrorKind::NotADirectory,
            "a part of it is a symbolic link or no directory, and is not followed",
        ),
        other => other.into(),
    }
}
