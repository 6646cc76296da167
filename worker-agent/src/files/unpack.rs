//! Unpacking a tar below one directory. The archive is hostile input: nothing in it reaches out of that directory.
//!
//! Every path is walked without following links (`paths::Root`), so a link in the archive cannot redirect a later entry. Links
//! themselves must point within, whatever follows them later: a symbolic one may go up only at its beginning, and not above the
//! directory, so that no detour over another link leads out.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, futimens, linkat, mkdirat, openat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};
use thiserror::Error;

use crate::paths::{Root, components};

#[derive(Debug, Error)]
pub enum UnpackError {
    #[error("read: {0}")]
    Read(#[source] io::Error),
    #[error("write: {0}")]
    Disk(#[source] io::Error),
    #[error("the archive is refused: entry `{entry}` {why}")]
    Refused { entry: String, why: String },
    #[error("what came does not have the expected SHA-256")]
    Checksum,
}

/// Where symbolic links may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Within,
    /// As a build makes them: nobody but builds follows them.
    Any,
}

/// Unpack all of it into an open directory. Files that are there are replaced; user, group and special rights are not taken over.
pub fn unpack(archive: &mut impl Read, into: OwnedFd, links: Links) -> Result<(), UnpackError> {
    let root = Root::from(into);
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(UnpackError::Read)? {
        let mut entry = entry.map_err(UnpackError::Read)?;
        let name = entry.path_bytes().into_owned();
        let shown = || String::from_utf8_lossy(&name).into_owned();
        let refused = |why: &str| UnpackError::Refused { entry: shown(), why: why.to_owned() };
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            continue;
        }
        let parts = components(&name).map_err(|e| refused(&e.to_string()))?;
        let Some((last, parents)) = parts.split_last() else {
            // The directory itself.
            if kind == EntryType::Directory { continue } else { return Err(refused("has no name")) }
        };
        let disk = |error: io::Error| match error.kind() {
            io::ErrorKind::NotADirectory => refused("lies below something that is no directory"),
            _ => UnpackError::Disk(io::Error::new(error.kind(), format!("`{}`: {error}", shown()))),
        };
        let dir = root.make_dirs(parents).map_err(disk)?;
        let place = Place { dir, name: OsStr::from_bytes(last) };
        match kind {
            EntryType::Regular | EntryType::Continuous => write(&mut entry, &place, &disk)?,
            // Some bytes of it unpack to as many as it likes.
            EntryType::GNUSparse => return Err(refused("is a sparse file")),
            EntryType::Directory => place.make_dir().map_err(disk)?,
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                if links == Links::Within {
                    check_target(&target, parents.len()).map_err(|why| refused(&why))?;
                }
                place
                    .clear()
                    .and_then(|()| Ok(symlinkat(OsStr::from_bytes(&target), &place.dir, place.name)?))
                    .map_err(disk)?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let parts =
                    components(&target).map_err(|e| refused(&format!("is a link whose target {e}")))?;
                place.hard_link(&root, &parts).map_err(disk)?;
            }
            _ => return Err(refused("is no file, directory or link")),
        }
    }
    Ok(())
}

/// May a symbolic link in a directory so deep have this target?
fn check_target(target: &[u8], depth: usize) -> Result<(), String> {
    if target.is_empty() || target[0] == b'/' || target.contains(&0) {
        return Err("is a link to an absolute or empty path".to_owned());
    }
    let parts: Vec<&[u8]> =
        target.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    let up = parts.iter().take_while(|part| **part == b"..").count();
    if up > depth {
        return Err("is a link that leads out".to_owned());
    }
    if parts[up..].contains(&b"..".as_slice()) {
        return Err("is a link that goes down and up again".to_owned());
    }
    Ok(())
}

fn write<R: Read>(
    entry: &mut Entry<'_, R>,
    place: &Place<'_>,
    disk: &impl Fn(io::Error) -> UnpackError,
) -> Result<(), UnpackError> {
    let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
    let modified = entry.header().mtime().ok();
    let mut file = place.create(Mode::from_raw_mode(mode)).map_err(disk)?;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match entry.read(&mut piece).map_err(UnpackError::Read)? {
            0 => break,
            length => io::Write::write_all(&mut file, &piece[..length]).map_err(disk)?,
        }
    }
    if let Some(seconds) = modified.and_then(|s| i64::try_from(s).ok()) {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
        };
        futimens(&file, &times).map_err(|e| disk(e.into()))?;
    }
    Ok(())
}

/// A name in an open directory.
struct Place<'a> {
    dir: OwnedFd,
    name: &'a OsStr,
}

impl Place<'_> {
    /// Nothing is there any more, unless it is a directory.
    fn clear(&self) -> io::Result<()> {
        match unlinkat(&self.dir, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, mode: Mode) -> io::Result<File> {
        self.clear()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.dir, self.name, flags, mode)?.into())
    }

    fn make_dir(&self) -> io::Result<()> {
        match mkdirat(&self.dir, self.name, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(()),
            // Only a real directory will do: a link in its place is found out by the walk.
            Err(Errno::EXIST) => Root::from(self.dir.try_clone()?).dir(&[self.name.as_bytes()]).map(drop),
            Err(error) => Err(error.into()),
        }
    }

    fn hard_link(&self, root: &Root, target: &[&[u8]]) -> io::Result<()> {
        let Some((name, parents)) = target.split_last() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let from = root.dir(parents)?;
        self.clear()?;
        Ok(linkat(from.as_fd(), OsStr::from_bytes(name), &self.dir, self.name, AtFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Entries as they are, with no check of the writer's side.
    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_mtime(1_000_000_000);
            let link = kind.is_symlink() || kind.is_hard_link();
            let body = if link { "" } else { content };
            if link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(body.len() as u64);
            if let (true, Some(gnu)) = (kind.is_gnu_sparse(), header.as_gnu_mut()) {
                gnu.realsize = *b"00000000000\0";
            }
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(body.as_bytes());
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    fn run(dir: &std::path::Path, entries: &[(&str, EntryType, &str)]) -> Result<(), UnpackError> {
        unpack(&mut archive(entries).as_slice(), File::open(dir).unwrap().into(), Links::Within)
    }

    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;

    #[test]
    fn files_directories_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let entries = [
            ("./", EntryType::Directory, ""),
            ("a/b/run.sh", FILE, "echo"),
            ("a/link", LINK, "b/run.sh"),
            ("a/b/up", LINK, "../../top"),
            ("top", EntryType::Link, "a/b/run.sh"),
        ];
        for _twice in 0..2 {
            run(dir.path(), &entries).unwrap();
        }
        let metadata = fs::metadata(dir.path().join("a/link")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o755, "no set-uid");
        assert_eq!(std::os::unix::fs::MetadataExt::mtime(&metadata), 1_000_000_000);
        assert_eq!(fs::read_to_string(dir.path().join("a/b/up")).unwrap(), "echo");
    }

    #[test]
    fn what_leads_out_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("in");
        fs::create_dir(&dir).unwrap();
        symlink("..", dir.join("trap")).unwrap();
        let cases: [&[(&str, EntryType, &str)]; 13] = [
            &[("../x", FILE, "")],
            &[("/x", FILE, "")],
            &[("a/../../x", FILE, "")],
            &[("trap/x", FILE, "")],
            &[("l", LINK, "/etc/passwd")],
            &[("l", LINK, "../x")],
            &[("a/l", LINK, "../../x")],
            &[("dot", LINK, "."), ("l", LINK, "dot/../x")],
            &[("l", LINK, "a"), ("l/x", FILE, "")],
            &[("h", EntryType::Link, "../x")],
            &[("h", EntryType::Link, "/etc/passwd")],
            &[("dev", EntryType::Char, "")],
            &[("holes", EntryType::GNUSparse, "")],
        ];
        for entries in cases {
            let error = run(&dir, entries).unwrap_err();
            assert!(matches!(error, UnpackError::Refused { .. }), "{entries:?}: {error}");
        }
        assert!(!outer.path().join("x").exists());
        // A hard link through a link that is there is not followed either.
        assert!(run(&dir, &[("h", EntryType::Link, "trap/in")]).is_err());
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let whole = archive(&[("a", FILE, "0123456789")]);
        assert!(matches!(
            unpack(&mut &whole[..515], File::open(dir.path()).unwrap().into(), Links::Within),
            Err(UnpackError::Read(_) | UnpackError::Disk(_))
        ));
    }
}
