//! Output that is not durable yet: kept in memory up to a bound, then in a file, and past that there is no room, so that the reader
//! stops reading the pipe.
//!
//! Owns the bytes and, for each stream, how far the present connection has been sent them. Knows nothing of processes or sockets.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::Bytes;
use rouse_agent_protocol::{
    Channel, FRAME_HEADER_BYTES, MAX_FRAME_BYTES, StreamFrame, StreamId, StreamReport, encode_frame,
    encode_frame_header,
};

pub use file::SpoolFile;

/// Bytes kept in memory, before the file is used.
pub const MEMORY_BYTES: usize = 4 * 1024 * 1024;

/// Bytes kept in the file unless the master says another number.
pub const DISK_BYTES: u64 = 256 * 1024 * 1024;

/// What a piece costs beside its bytes.
const PIECE_OVERHEAD: usize = 128;

#[derive(Debug)]
pub struct Spool {
    streams: BTreeMap<StreamId, Stream>,
    /// Bytes in memory, overhead of all pieces included.
    memory: usize,
    file: SpoolFile,
    disk_bytes: u64,
    /// The stream that was sent last: the others come first.
    last: StreamId,
}

/// The pieces cover `[from', to)` without a gap, where `from' ≤ from` as a piece goes only when all of it is durable.
#[derive(Debug, Default)]
struct Stream {
    from: u64,
    to: u64,
    /// How far it was sent on this connection.
    sent: u64,
    pieces: VecDeque<Piece>,
}

#[derive(Debug)]
struct Piece {
    offset: u64,
    length: usize,
    channel: Channel,
    at_us: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The whole frame as it is sent, header included.
    Memory(Bytes),
    File {
        position: u64,
    },
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

impl Spool {
    pub fn new(file: SpoolFile) -> Self {
        Self { streams: BTreeMap::new(), memory: 0, file, disk_bytes: DISK_BYTES, last: StreamId(i64::MIN) }
    }

    /// A stream must be opened before it is written. Opening twice changes nothing.
    pub fn open(&mut self, stream: StreamId) {
        self.streams.entry(stream).or_default();
    }

    /// May more be read?
    pub fn has_room(&self) -> bool {
        let in_memory = self.memory + MAX_FRAME_BYTES <= MEMORY_BYTES;
        let in_file =
            self.file.usable() && self.file.used() < self.disk_bytes && self.memory < 2 * MEMORY_BYTES;
        in_memory || in_file
    }

    /// The master's bound of the file; `None` is our own.
    pub fn set_disk_bytes(&mut self, bytes: Option<u64>) {
        self.disk_bytes = bytes.unwrap_or(DISK_BYTES);
    }

    /// Append bytes to a stream that was opened; to another one they are lost, as nobody wants them. Whoever checks
    /// [`Spool::has_room`] before each read overshoots by one read at most.
    pub fn push(&mut self, stream: StreamId, channel: Channel, at_us: u64, bytes: &[u8]) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        for part in bytes.chunks(MAX_FRAME_BYTES) {
            let offset = entry.to;
            let in_file = if self.memory + part.len() > MEMORY_BYTES { self.file.append(part) } else { None };
            entry.to += part.len() as u64;
            if let (Some(position), Some(last)) = (in_file, entry.pieces.back_mut())
                && last.channel == channel
                && last.length + part.len() <= MAX_FRAME_BYTES
                && matches!(last.place, Place::File { position: p } if p + last.length as u64 == position)
            {
                last.length += part.len();
                continue;
            }
            let place = match in_file {
                Some(position) => Place::File { position },
                None => {
                    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + part.len());
                    frame.extend_from_slice(&encode_frame_header(stream, channel, offset, at_us));
                    frame.extend_from_slice(part);
                    self.memory += part.len();
                    Place::Memory(frame.into())
                }
            };
            self.memory += PIECE_OVERHEAD;
            entry.pieces.push_back(Piece { offset, length: part.len(), channel, at_us, place });
        }
    }

    /// Everything before `to` is stored by the master. Says whether anything was let go.
    pub fn durable(&mut self, stream: StreamId, to: u64) -> bool {
        let Some(entry) = self.streams.get_mut(&stream) else { return false };
        entry.from = entry.from.max(to.min(entry.to));
        entry.sent = entry.sent.max(entry.from);
        let mut freed = false;
        while entry.pieces.front().is_some_and(|piece| piece.end() <= entry.from)
            && let Some(piece) = entry.pieces.pop_front()
        {
            free(&mut self.memory, &mut self.file, &piece);
            freed = true;
        }
        freed
    }

    /// Drop a stream with all that is left of it.
    pub fn remove(&mut self, stream: StreamId) {
        for piece in self.streams.remove(&stream).into_iter().flat_map(|entry| entry.pieces) {
            free(&mut self.memory, &mut self.file, &piece);
        }
    }

    /// A new connection: nothing has been sent on it.
    pub fn rewind(&mut self) {
        for entry in self.streams.values_mut() {
            entry.sent = entry.from;
        }
    }

    /// Where a stream ends so far.
    pub fn end_of(&self, stream: StreamId) -> u64 {
        self.streams.get(&stream).map_or(0, |entry| entry.to)
    }

    /// Has all of the stream been sent on this connection?
    pub fn all_sent(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_none_or(|entry| entry.sent >= entry.to)
    }

    pub fn reports(&self) -> Vec<StreamReport> {
        let report = |(stream, entry): (&StreamId, &Stream)| StreamReport {
            stream: *stream,
            from: entry.from,
            to: entry.to,
        };
        self.streams.iter().map(report).collect()
    }

    /// The next frame to send, the streams taking turns. An error means that the file can't be read back: bytes are lost.
    pub fn next_frame(&mut self) -> io::Result<Option<Bytes>> {
        let waiting = |(_, entry): &(&StreamId, &Stream)| entry.sent < entry.to;
        let after = (std::ops::Bound::Excluded(self.last), std::ops::Bound::Unbounded);
        let found = self.streams.range(after).find(waiting).or_else(|| self.streams.iter().find(waiting));
        let Some(stream) = found.map(|(stream, _)| *stream) else { return Ok(None) };
        let Some(entry) = self.streams.get_mut(&stream) else { return Ok(None) };
        self.last = stream;
        let at = entry.pieces.partition_point(|piece| piece.end() <= entry.sent);
        let piece = &entry.pieces[at];
        let skip = (entry.sent - piece.offset) as usize;
        entry.sent = piece.end();
        if let (Place::Memory(frame), 0) = (&piece.place, skip) {
            return Ok(Some(frame.clone()));
        }
        let bytes = match &piece.place {
            Place::Memory(frame) => frame.slice(FRAME_HEADER_BYTES..),
            Place::File { position } => self.file.read(*position, piece.length)?,
        };
        let frame = StreamFrame {
            stream,
            channel: piece.channel,
            offset: piece.offset + skip as u64,
            at_us: piece.at_us,
            bytes: bytes.slice(skip..),
        };
        Ok(Some(encode_frame(&frame)))
    }
}

fn free(memory: &mut usize, file: &mut SpoolFile, piece: &Piece) {
    *memory -= PIECE_OVERHEAD;
    match &piece.place {
        Place::Memory(_) => *memory -= piece.length,
        Place::File { position } => file.free(*position, piece.length),
    }
}
