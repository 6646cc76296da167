//! Output that is not durable yet: kept in memory up to a bound, then in a file, and past that there is no room, so that the reader
//! stops reading the pipe.
//!
//! Owns the bytes and, for each stream, how far the present connection has been sent them. Knows nothing of processes or sockets. Where much
//! waits, it is given out as whole lines, which may be packed on the way.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::Bytes;
use memchr::memchr;
use rouse_agent_protocol::{
    Channel, FRAME_HEADER_BYTES, MAX_FRAME_BYTES, StreamFrame, StreamId, StreamReport, encode_frame,
    encode_frame_header, packable,
};

pub use file::SpoolFile;

/// Bytes kept in memory, before the file is used.
pub const MEMORY_BYTES: usize = 16 * 1024 * 1024;

/// Bytes kept in the file unless the master says another number.
pub const DISK_BYTES: u64 = 256 * 1024 * 1024;

/// What a piece costs beside its bytes.
const PIECE_OVERHEAD: usize = 128;

/// Fewer bytes than this are sent as they are.
const PACKED_BYTES: usize = 32 * 1024;

#[derive(Debug)]
pub struct Spool {
    streams: BTreeMap<StreamId, Stream>,
    /// Bytes in memory, overhead of all pieces included.
    memory: usize,
    file: SpoolFile,
    disk_bytes: u64,
    /// The stream that was sent last: the others come first.
    last: StreamId,
    /// The master takes packed frames.
    packed: bool,
}

/// What is to be sent next.
#[derive(Debug)]
pub enum Outgoing {
    /// A frame as it is sent.
    Frame(Bytes),
    /// So many lines, which may be packed.
    Lines(StreamFrame, u32),
}

/// The pieces cover `[from', to)` without a gap, where `from' ≤ from` as a piece goes only when all of it is durable.
#[derive(Debug, Default)]
struct Stream {
    from: u64,
    to: u64,
    /// How far it was sent on this connection.
    sent: u64,
    /// By channel: what was sent ends within a line.
    within: [bool; Channel::ALL.len()],
    /// Up to here nothing can be packed.
    plain_to: u64,
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

    fn bytes(&self, file: &SpoolFile) -> io::Result<Bytes> {
        match &self.place {
            Place::Memory(frame) => Ok(frame.slice(FRAME_HEADER_BYTES..)),
            Place::File { position } => file.read(*position, self.length),
        }
    }
}

impl Stream {
    /// The pieces of one channel that come next, as many as one frame holds.
    fn run(&self) -> impl Iterator<Item = &Piece> {
        let at = self.pieces.partition_point(|piece| piece.end() <= self.sent);
        let channel = self.pieces.get(at).map(|piece| piece.channel);
        let most = self.sent + MAX_FRAME_BYTES as u64;
        self.pieces.range(at..).take_while(move |piece| Some(piece.channel) == channel && piece.offset < most)
    }

    /// Whether so much waits that it may be packed.
    fn is_long(&self) -> bool {
        let end = self.run().last().map_or(0, Piece::end);
        self.sent >= self.plain_to && end - self.sent >= PACKED_BYTES as u64
    }

    /// The whole lines that come next, where that is worth while.
    fn lines(&mut self, stream: StreamId, file: &SpoolFile) -> io::Result<Option<Outgoing>> {
        let Some(first) = self.run().next() else { return Ok(None) };
        let (channel, at_us) = (first.channel, first.at_us);
        if self.within[channel as usize] || !self.is_long() {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(MAX_FRAME_BYTES);
        for piece in self.run() {
            let skip = self.sent.saturating_sub(piece.offset) as usize;
            let room = MAX_FRAME_BYTES - bytes.len();
            let part = piece.bytes(file)?;
            bytes.extend_from_slice(&part[skip..part.len().min(skip + room)]);
        }
        let (length, lines) = packable(&bytes);
        if length < PACKED_BYTES {
            self.plain_to = self.sent + bytes.len() as u64;
            return Ok(None);
        }
        bytes.truncate(length);
        let frame = StreamFrame { stream, channel, offset: self.sent, at_us, bytes: bytes.into() };
        self.sent = frame.end();
        Ok(Some(Outgoing::Lines(frame, lines)))
    }

    /// The next piece, or, where much waits behind it, what of it is left of a line.
    fn plain(&mut self, stream: StreamId, file: &SpoolFile, packed: bool) -> io::Result<Option<Outgoing>> {
        let until_line_end = packed && self.is_long();
        let Some(piece) = self.run().next() else { return Ok(None) };
        let (channel, at_us, offset) = (piece.channel, piece.at_us, self.sent);
        let whole = piece.bytes(file)?;
        let mut bytes = whole.slice((self.sent - piece.offset) as usize..);
        if until_line_end && let Some(end) = memchr(b'\n', &bytes) {
            bytes.truncate(end + 1);
        }
        let frame = match &piece.place {
            Place::Memory(frame) if bytes.len() == piece.length => frame.clone(),
            _ => encode_frame(&StreamFrame { stream, channel, offset, at_us, bytes: bytes.clone() }),
        };
        self.sent += bytes.len() as u64;
        self.within[channel as usize] = !bytes.ends_with(b"\n");
        Ok(Some(Outgoing::Frame(frame)))
    }
}

impl Spool {
    pub fn new(file: SpoolFile) -> Self {
        Self {
            streams: BTreeMap::new(),
            memory: 0,
            file,
            disk_bytes: DISK_BYTES,
            last: StreamId(i64::MIN),
            packed: false,
        }
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

    /// Whether this connection's master takes packed frames.
    pub fn set_packed(&mut self, packed: bool) {
        self.packed = packed;
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

    /// A new connection: nothing has been sent on it. Where its lines begin is not known; a guess that is wrong costs the master some work.
    pub fn rewind(&mut self) {
        for entry in self.streams.values_mut() {
            (entry.sent, entry.within, entry.plain_to) = (entry.from, Default::default(), 0);
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
    pub fn next_frame(&mut self) -> io::Result<Option<Outgoing>> {
        let waiting = |(_, entry): &(&StreamId, &Stream)| entry.sent < entry.to;
        let after = (std::ops::Bound::Excluded(self.last), std::ops::Bound::Unbounded);
        let found = self.streams.range(after).find(waiting).or_else(|| self.streams.iter().find(waiting));
        let Some(stream) = found.map(|(stream, _)| *stream) else { return Ok(None) };
        let Some(entry) = self.streams.get_mut(&stream) else { return Ok(None) };
        self.last = stream;
        if self.packed
            && let Some(lines) = entry.lines(stream, &self.file)?
        {
            return Ok(Some(lines));
        }
        entry.plain(stream, &self.file, self.packed)
    }
}

fn free(memory: &mut usize, file: &mut SpoolFile, piece: &Piece) {
    *memory -= PIECE_OVERHEAD;
    match &piece.place {
        Place::Memory(_) => *memory -= piece.length,
        Place::File { position } => file.free(*position, piece.length),
    }
}
