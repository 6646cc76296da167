//! Is there still room where commands write? A shared disk that is full makes no build red, so it is looked at where one fails.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rouse_agent_protocol::NoRoom;

/// With less than this nothing can be written of any use.
const LEAST: u64 = 64 * 1024;

/// Between two looks while a command runs: some clean up after themselves before they fail.
const LOOK: Duration = Duration::from_millis(250);

/// The file system of the work directory.
#[derive(Clone, Debug)]
pub struct Disk {
    path: PathBuf,
    /// Root may also write what is reserved.
    reserved_too: bool,
}

impl Disk {
    pub fn of(work_dir: &Path) -> Self {
        Self { path: work_dir.to_owned(), reserved_too: rustix::process::geteuid().is_root() }
    }

    /// How things are, where there is no room left.
    pub fn full(&self) -> Option<NoRoom> {
        let found = rustix::fs::statvfs(&self.path).ok()?;
        let blocks = if self.reserved_too { found.f_bfree } else { found.f_bavail };
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        let no_room = NoRoom {
            path: self.path.to_string_lossy().into_owned(),
            free: bytes(blocks),
            size: bytes(found.f_blocks),
        };
        (no_room.size > 0 && no_room.free < LEAST.min(no_room.size)).then_some(no_room)
    }
}

/// What was seen of it in the course of one command.
#[derive(Debug)]
pub struct Watch<'a> {
    disk: &'a Disk,
    looked: Option<Instant>,
    seen: Option<NoRoom>,
}

impl<'a> Watch<'a> {
    pub fn new(disk: &'a Disk) -> Self {
        Self { disk, looked: None, seen: None }
    }

    /// Looks, unless that was a moment ago.
    pub fn look(&mut self, now: Instant) {
        if self.looked.is_none_or(|at| now.duration_since(at) >= LOOK) {
            self.looked = Some(now);
            self.seen = self.seen.take().or_else(|| self.disk.full());
        }
    }

    /// A last look, and what was seen.
    pub fn end(self) -> Option<NoRoom> {
        self.seen.or_else(|| self.disk.full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_where_files_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), vec![1; LEAST as usize]).unwrap();
        let disk = Disk::of(dir.path());
        assert_eq!(disk.full(), None);
        let mut watch = Watch::new(&disk);
        watch.look(Instant::now());
        assert_eq!(watch.end(), None);
        assert_eq!(Disk::of(&dir.path().join("nothing")).full(), None);
        // No blocks at all: it has no such thing as room.
        assert_eq!(Disk::of(Path::new("/proc")).full(), None);
    }
}
