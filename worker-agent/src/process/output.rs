//! From a command's pipes, terminal or files to the spool: read, mask, write down.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use rouse_agent_protocol::masking::{Masker, Masks};
use rouse_agent_protocol::{Channel, StreamId};

use crate::clock;
use crate::control::Control;
use crate::pool::Scratch;
use crate::state::Shared;

/// A busy pipe holds so much where the kernel allows it: fewer, larger reads.
const PIPE_BYTES: usize = 1024 * 1024;

/// A read so large shows that a pipe is busy: then it is enlarged. Most commands never need it.
const BUSY: usize = 16 * 1024;

#[derive(Debug)]
pub struct Output<'a> {
    shared: &'a Shared,
    stream: StreamId,
    masks: &'a Masks,
    sources: Vec<Source>,
    scratch: &'a mut Scratch,
}

#[derive(Debug)]
struct Source {
    file: File,
    channel: Channel,
    masker: Masker,
    open: bool,
    enlarged: bool,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Bytes,
    Nothing,
}

impl<'a> Output<'a> {
    pub fn new(
        shared: &'a Shared,
        stream: StreamId,
        masks: &'a Masks,
        sources: Vec<(OwnedFd, Channel)>,
        scratch: &'a mut Scratch,
    ) -> Self {
        let source = |(fd, channel): (OwnedFd, Channel)| Source {
            file: fd.into(),
            channel,
            masker: Masker::new(masks.clone()),
            open: true,
            enlarged: false,
        };
        Self { shared, stream, sources: sources.into_iter().map(source).collect(), masks, scratch }
    }

    /// May be read? If not, `control` is woken when it may.
    pub fn has_room(&self, control: &Control) -> bool {
        let state = self.shared.lock();
        let room = state.spool.has_room();
        // Under the lock, as it is read there: no wake-up is lost.
        control.blocked.store(!room, Ordering::Release);
        room
    }

    /// What to poll for reading, with the number to read it by.
    pub fn open_sources(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.sources
            .iter()
            .enumerate()
            .filter(|(_, source)| source.open)
            .map(|(n, source)| (n, source.file.as_fd()))
    }

    pub fn all_closed(&self) -> bool {
        self.sources.iter().all(|source| !source.open)
    }

    /// Read once from a source that is ready.
    pub fn read(&mut self, source: usize) -> Progress {
        let source = &mut self.sources[source];
        let Scratch { read, masked } = &mut *self.scratch;
        match source.file.read(read) {
            Ok(0) => {}
            Ok(length) => {
                if length >= BUSY && !std::mem::replace(&mut source.enlarged, true) {
                    // Refused for a terminal, and where the user has many pipes already: then it stays as it is.
                    let _ = rustix::pipe::fcntl_setpipe_size(&source.file, PIPE_BYTES);
                }
                let bytes = &read[..length];
                if self.masks.is_empty() {
                    push(self.shared, self.stream, source.channel, bytes);
                } else {
                    masked.clear();
                    source.masker.push(bytes, masked);
                    push(self.shared, self.stream, source.channel, masked);
                }
                return Progress::Bytes;
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                return Progress::Nothing;
            }
            // A terminal whose last user is gone gives an error instead of an end.
            Err(_) => {}
        }
        source.open = false;
        self.flush(|s| !s.open);
        Progress::Nothing
    }

    /// Read once from a file, from `at` on, into a stream of its own; the bytes that were there.
    pub fn read_file(
        &mut self,
        file: &File,
        at: u64,
        stream: StreamId,
        masker: &mut Masker,
    ) -> std::io::Result<&[u8]> {
        let Scratch { read, masked } = &mut *self.scratch;
        let length = file.read_at(read, at)?;
        let bytes = &read[..length];
        masked.clear();
        masker.push(bytes, masked);
        push(self.shared, stream, Channel::Out, masked);
        Ok(bytes)
    }

    /// No more comes of that file.
    pub fn finish_file(&mut self, stream: StreamId, masker: &mut Masker) {
        self.scratch.masked.clear();
        masker.finish(&mut self.scratch.masked);
        push(self.shared, stream, Channel::Out, &self.scratch.masked);
    }

    /// No more comes: what was held back as a possible beginning of a secret is none.
    pub fn finish(&mut self) {
        self.flush(|_| true);
    }

    fn flush(&mut self, which: impl Fn(&Source) -> bool) {
        for source in self.sources.iter_mut().filter(|source| which(source)) {
            self.scratch.masked.clear();
            source.masker.finish(&mut self.scratch.masked);
            push(self.shared, self.stream, source.channel, &self.scratch.masked);
        }
    }
}

fn push(shared: &Shared, stream: StreamId, channel: Channel, bytes: &[u8]) {
    if !bytes.is_empty() {
        shared.update(|state| state.spool.push(stream, channel, clock::monotonic_us(), bytes));
    }
}

/// A pipe whose reading end does not block.
pub fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}
