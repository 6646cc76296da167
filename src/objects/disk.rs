//! How full a file system is, in words.

use nix::sys::statvfs::statvfs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file system that something lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Bytes that we may still write, and all that it has.
    pub free: u64,
    pub size: u64,
}

/// `None` where nothing is there to ask.
#[must_use]
pub fn room(path: &Path) -> Option<Room> {
    let found = statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Some(Room { mount: mount_of(path)?, free: bytes(found.blocks_available()), size: bytes(found.blocks()) })
}

/// The highest folder above a path that is of the same file system.
fn mount_of(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let device = path.metadata().ok()?.dev();
    let of_it = |p: &&Path| p.metadata().is_ok_and(|m| m.dev() == device);
    path.ancestors().take_while(of_it).last().map(Path::to_owned)
}

/// Says which file system has no room for `wanted` more bytes of `what`, and how much is missing.
#[must_use]
pub fn full(what: &str, path: &Path, wanted: u64) -> String {
    let path_shown = path.display();
    match room(path) {
        None => format!("the file system of {what} ({path_shown}) is full"),
        Some(Room { mount, free, size }) => format!(
            "the file system of {what} ({path_shown}, mounted at {}) is full: {} of {} are free, at least {} more are needed; what is to be \
             written waits",
            mount.display(),
            words(free),
            words(size),
            words(wanted.saturating_sub(free).max(1)),
        ),
    }
}

/// `4.0 MiB`, `812 bytes`.
#[must_use]
pub fn words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_words() {
        assert_eq!(words(0), "0 bytes");
        assert_eq!(words(1023), "1023 bytes");
        assert_eq!(words(1024), "1.0 KiB");
        assert_eq!(words(4 << 20), "4.0 MiB");
        assert_eq!(words((3 << 29) + 1), "1.5 GiB");
    }

    #[test]
    fn the_file_system_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let room = room(dir.path()).unwrap();
        assert!(room.size > 0 && dir.path().canonicalize().unwrap().starts_with(&room.mount), "{room:?}");
        assert_eq!(super::room(&dir.path().join("nothing")), None);
        let said = full("the log store", dir.path(), room.free + 4096);
        assert!(said.contains(" more are needed") && said.contains("the log store"), "{said}");
    }
}
