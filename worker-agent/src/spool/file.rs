//! The spool's file: unlinked as soon as it is open, so that nothing is left over whatever happens to the agent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};

#[derive(Debug)]
pub struct SpoolFile {
    file: Option<File>,
    /// Where the next bytes go.
    end: u64,
    /// Bytes that somebody still wants, and bytes that are taken on disk.
    live: u64,
    used: u64,
}

impl SpoolFile {
    /// `None` where no place could be found: then all stays in memory.
    pub fn new(file: Option<File>) -> Self {
        Self { file, end: 0, live: 0, used: 0 }
    }

    pub fn usable(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes taken on disk.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Append; where it stands. `None` if it can't be written (a full disk): the caller keeps it in memory, and the next one tries again.
    pub fn append(&mut self, bytes: &[u8]) -> Option<u64> {
        let position = self.end;
        self.file.as_ref()?.write_all_at(bytes, position).ok()?;
        let length = bytes.len() as u64;
        self.end += length;
        self.live += length;
        self.used += length;
        Some(position)
    }

    /// What was appended there.
    pub fn read(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        match &self.file {
            Some(file) => file.read_exact_at(&mut bytes, position)?,
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(bytes.into())
    }

    /// Give the space back: at once by punching a hole, or, where the file system can't, when nothing in the file is wanted any more.
    pub fn free(&mut self, position: u64, length: usize) {
        let (Some(file), length) = (&self.file, length as u64) else { return };
        self.live -= length;
        if self.live == 0 {
            if file.set_len(0).is_ok() {
                (self.end, self.used) = (0, 0);
            }
        } else if fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, position, length)
            .is_ok()
        {
            self.used -= length;
        }
    }
}
