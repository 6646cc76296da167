//! From a command's pipes or terminal to the spool: read, mask, write down.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rouse_agent_protocol::masking::{Masker, Masks};
use rouse_agent_protocol::{Channel, MAX_FRAME_BYTES, StreamId};

use crate::clock;
use crate::control::Control;
use crate::state::Shared;

/// Pipes hold so much where the kernel allows it: fewer, larger reads.
const PIPE_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub struct Output {
    shared: Arc<Shared>,
    stream: StreamId,
    masks: Masks,
    sources: Vec<Source>,
    buffer: Vec<u8>,
    masked: Vec<u8>,
}

#[derive(Debug)]
struct Source {
    file: File,
    channel: Channel,
    masker: Masker,
    open: bool,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Bytes,
    Nothing,
}

impl Output {
    pub fn new(
        shared: Arc<Shared>,
        stream: StreamId,
        masks: Masks,
        sources: Vec<(OwnedFd, Channel)>,
    ) -> Self {
        let source = |(fd, channel): (OwnedFd, Channel)| Source {
            file: fd.into(),
            channel,
            masker: Masker::new(masks.clone()),
            open: true,
        };
        let sources = sources.into_iter().map(source).collect();
        // Zeroed by the kernel, page by page as it is used.
        Self { shared, stream, sources, masks, buffer: vec![0; MAX_FRAME_BYTES], masked: Vec::new() }
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
        match source.file.read(&mut self.buffer) {
            Ok(0) => {}
            Ok(length) => {
                let bytes = &self.buffer[..length];
                if self.masks.is_empty() {
                    push(&self.shared, self.stream, source.channel, bytes);
                } else {
                    self.masked.clear();
                    source.masker.push(bytes, &mut self.masked);
                    push(&self.shared, self.stream, source.channel, &self.masked);
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

    /// No more comes: what was held back as a possible beginning of a secret is none.
    pub fn finish(&mut self) {
        self.flush(|_| true);
    }

    fn flush(&mut self, which: impl Fn(&Source) -> bool) {
        for source in self.sources.iter_mut().filter(|source| which(source)) {
            self.masked.clear();
            source.masker.finish(&mut self.masked);
            push(&self.shared, self.stream, source.channel, &self.masked);
        }
    }
}

fn push(shared: &Shared, stream: StreamId, channel: Channel, bytes: &[u8]) {
    if !bytes.is_empty() {
        shared.update(|state| state.spool.push(stream, channel, clock::monotonic_us(), bytes));
    }
}

/// A pipe whose reading end does not block, as large as may be.
pub fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    // Refused where the user has many pipes already: then it is smaller.
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_BYTES);
    Ok((reader, writer))
}
