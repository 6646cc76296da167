//! A directory as one archive. The same files give the same bytes, so that whoever has the archive need not be sent it again.
//!
//! Of what is there come files, directories and symbolic links, with the rights of files and the seconds in which they were changed; owners do
//! not, and nothing is left of pipes, sockets and devices.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::readlinkat;
use tar::{Builder, EntryType, Header};

use crate::paths::{Kind, Root, Visit};

/// Speed counts for more than size: the build waits for it.
const LEVEL: i32 = 1;

/// Writes the archive of a directory from the beginning of a file on; `false` where there is no such directory. `go_on` is asked at
/// each file.
pub fn pack(
    root: &Root,
    dir: &[&[u8]],
    into: &mut File,
    most: u64,
    go_on: &dyn Fn() -> bool,
) -> io::Result<bool> {
    match root.dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => drop(other?),
    }
    let capped = Capped { file: &mut *into, left: most };
    let mut archive = Builder::new(zstd::Encoder::new(io::BufWriter::new(capped), LEVEL)?);
    root.visit(dir, &mut |visit| {
        if !go_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        append(&mut archive, root, dir, visit).map_err(|error| {
            io::Error::new(error.kind(), format!("`{}`: {error}", String::from_utf8_lossy(visit.path)))
        })?;
        Ok(true)
    })?;
    archive.into_inner()?.finish()?.flush()?;
    into.seek(SeekFrom::Start(0))?;
    Ok(true)
}

fn append(archive: &mut Builder<impl Write>, root: &Root, dir: &[&[u8]], visit: Visit<'_>) -> io::Result<()> {
    if visit.path.is_empty() {
        return Ok(());
    }
    let name = std::ffi::OsStr::from_bytes(visit.path);
    let parts: Vec<&[u8]> = dir.iter().copied().chain(visit.path.split(|b| *b == b'/')).collect();
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_size(0);
    match visit.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            archive.append_data(&mut header, name, io::empty())
        }
        Kind::Link => {
            let (last, parents) = parts.split_last().ok_or(io::ErrorKind::NotFound)?;
            let target = readlinkat(root.dir(parents)?, std::ffi::OsStr::from_bytes(last), Vec::new())?;
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, name, std::ffi::OsStr::from_bytes(target.as_bytes()))
        }
        Kind::File => {
            // Another thing by now: what made it runs yet.
            let Some(file) = root.open_file(&parts)? else { return Ok(()) };
            let found = file.metadata()?;
            header.set_entry_type(EntryType::Regular);
            header.set_mode(found.permissions().mode() & 0o777);
            header.set_mtime(u64::try_from(visit.modified_s).unwrap_or(0));
            header.set_size(found.len());
            // One that shrinks would shift all that follows.
            let body = io::Read::take(io::Read::chain(file, io::repeat(0)), found.len());
            archive.append_data(&mut header, name, body)
        }
        Kind::Other => Ok(()),
    }
}

/// Takes so many bytes and no more.
struct Capped<'a> {
    file: &'a mut File,
    left: u64,
}

impl Write for Capped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            let message = "all of it, packed, is more than may be kept";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        let written = self.file.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use super::super::unpack::{Links, unpack};
    use super::*;

    fn packed(dir: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut file = tempfile::tempfile()?;
        assert!(pack(&Root::open(dir)?, &[b"cache"], &mut file, most, &|| true)?);
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(bytes)
    }

    fn filled() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let long = "a-name-that-no-old-header-holds/".repeat(5);
        fs::create_dir_all(cache.join(&long)).unwrap();
        fs::create_dir_all(cache.join("empty")).unwrap();
        fs::write(cache.join(&long).join("file"), vec![7; 300_000]).unwrap();
        fs::write(cache.join("tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(cache.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        let old = fs::FileTimes::new()
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
        File::options().write(true).open(cache.join("tool")).unwrap().set_times(old).unwrap();
        symlink("/usr/bin/python3", cache.join("python")).unwrap();
        symlink("tool", cache.join("beside")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, cache.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
        dir
    }

    #[test]
    fn what_is_packed_comes_back_and_packs_to_the_same() {
        let dir = filled();
        let bytes = packed(dir.path(), u64::MAX).unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::create_dir(other.path().join("cache")).unwrap();
        let into = Root::open(other.path()).unwrap().dir(&[b"cache"]).unwrap();
        unpack(&mut zstd::Decoder::new(bytes.as_slice()).unwrap(), into, Links::Any).unwrap();
        let cache = other.path().join("cache");
        let tool = fs::metadata(cache.join("tool")).unwrap();
        assert_eq!((tool.mode() & 0o777, tool.mtime()), (0o755, 1_000_000_000));
        assert_eq!(fs::read_link(cache.join("python")).unwrap(), Path::new("/usr/bin/python3"));
        assert!(cache.join("empty").is_dir() && !cache.join("pipe").exists());
        assert_eq!(packed(other.path(), u64::MAX).unwrap(), bytes);
    }

    #[test]
    fn too_much_is_refused_and_nothing_is_no_archive() {
        let dir = filled();
        let error = packed(dir.path(), 100).unwrap_err();
        assert!(error.to_string().contains("more than may be kept"), "{error}");
        let mut file = tempfile::tempfile().unwrap();
        assert!(!pack(&Root::open(dir.path()).unwrap(), &[b"none"], &mut file, 1, &|| true).unwrap());
    }
}
