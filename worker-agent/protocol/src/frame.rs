//! Stream frames: output on its way to the master, one WebSocket binary message each.
//!
//! ```text
//! kind u8 = 1 | channel u8 | stream i64 | offset u64 | at_us u64 | bytes (1 … 256 KiB)      all big endian
//! kind u8 = 2 | channel u8 | stream i64 | offset u64 | at_us u64 | length u32 | lines u32 | whole lines, as one zstd frame
//! ```
//!
//! The second kind is for a master that asked for it: it can store such a frame as it came, without looking into it.

use bytes::Bytes;
use memchr::{memchr, memchr_iter};
use thiserror::Error;

use crate::{MAX_FRAME_BYTES, MAX_LINE_BYTES, StreamId};

const KIND_STREAM: u8 = 1;
const KIND_PACKED: u8 = 2;
/// Bytes before the bytes of output.
pub const FRAME_HEADER_BYTES: usize = 1 + 1 + 8 + 8 + 8;
/// Bytes before the zstd frame of a packed frame.
pub const PACKED_HEADER_BYTES: usize = FRAME_HEADER_BYTES + 4 + 4;

/// Where bytes of a stream came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    Out = 0,
    Err = 1,
    Pty = 2,
}

impl Channel {
    /// All, in the order of their numbers on the wire.
    pub const ALL: [Self; 3] = [Self::Out, Self::Err, Self::Pty];

    /// The channel of a number on the wire.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

/// A piece of one stream. Offsets count the stream's bytes over all channels, in the order in which the agent sends them,
/// after masking; they have no gap and no overlap except that a piece may be sent again after a reconnect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFrame {
    pub stream: StreamId,
    pub channel: Channel,
    pub offset: u64,
    /// When the agent read it: monotonic clock, µs.
    pub at_us: u64,
    pub bytes: Bytes,
}

impl StreamFrame {
    /// Offset after the last byte.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// The part from `offset` on, or nothing if that is all known. How a receiver removes an overlap.
    pub fn trimmed_to(mut self, offset: u64) -> Option<Self> {
        if self.end() <= offset {
            return None;
        }
        if offset > self.offset {
            // Fits: `offset` lies within the frame, which is at most 256 KiB long.
            self.bytes = self.bytes.slice((offset - self.offset) as usize..);
            self.offset = offset;
        }
        Some(self)
    }
}

/// Whole lines of one channel, packed by zstd. It means the same as a [`StreamFrame`] of what it unpacks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedFrame {
    pub stream: StreamId,
    pub channel: Channel,
    pub offset: u64,
    /// When the agent read the first of it: monotonic clock, µs.
    pub at_us: u64,
    /// Bytes before packing.
    pub length: u32,
    /// How many lines end in it.
    pub lines: u32,
    pub packed: Bytes,
}

impl PackedFrame {
    /// Offset after the last byte.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// The frame that it stands for, given its bytes.
    pub fn plain(&self, bytes: Bytes) -> StreamFrame {
        StreamFrame {
            stream: self.stream,
            channel: self.channel,
            offset: self.offset,
            at_us: self.at_us,
            bytes,
        }
    }
}

/// What a binary message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Plain(StreamFrame),
    Packed(PackedFrame),
}

impl Frame {
    pub fn stream(&self) -> StreamId {
        match self {
            Self::Plain(frame) => frame.stream,
            Self::Packed(frame) => frame.stream,
        }
    }

    /// Offset after the last byte.
    pub fn end(&self) -> u64 {
        match self {
            Self::Plain(frame) => frame.end(),
            Self::Packed(frame) => frame.end(),
        }
    }

    /// Bytes that it holds in memory.
    pub fn size(&self) -> usize {
        match self {
            Self::Plain(frame) => frame.bytes.len(),
            Self::Packed(frame) => frame.packed.len(),
        }
    }
}

impl From<StreamFrame> for Frame {
    fn from(frame: StreamFrame) -> Self {
        Self::Plain(frame)
    }
}

impl From<PackedFrame> for Frame {
    fn from(frame: PackedFrame) -> Self {
        Self::Packed(frame)
    }
}

/// The lines at the beginning of `bytes` that may be packed, as their length and number: each ended, none with an escape sequence or
/// longer than [`MAX_LINE_BYTES`], so that they are counted without being looked at. `bytes` begins where a line of its channel does.
pub fn packable(bytes: &[u8]) -> (usize, u32) {
    let plain = &bytes[..memchr(0x1b, bytes).unwrap_or(bytes.len())];
    let (mut length, mut lines) = (0, 0);
    for end in memchr_iter(b'\n', plain) {
        if end - length > MAX_LINE_BYTES {
            break;
        }
        (length, lines) = (end + 1, lines + 1);
    }
    (length, lines)
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("frame of {0} bytes is shorter than its header")]
    Short(usize),
    #[error("frame is of unknown kind {0}")]
    Kind(u8),
    #[error("frame is for unknown channel {0}")]
    Channel(u8),
    #[error("frame carries {0} bytes, allowed are 1 to {MAX_FRAME_BYTES}")]
    Length(usize),
    #[error("frame of {length} bytes says that it holds {lines} lines")]
    Lines { length: usize, lines: usize },
    #[error("frame at offset {0} runs past the end of numbers")]
    Offset(u64),
}

/// The header that stands before the bytes; for senders that keep both in one buffer.
pub fn encode_frame_header(
    stream: StreamId,
    channel: Channel,
    offset: u64,
    at_us: u64,
) -> [u8; FRAME_HEADER_BYTES] {
    header(KIND_STREAM, stream, channel, offset, at_us)
}

fn header(kind: u8, stream: StreamId, channel: Channel, offset: u64, at_us: u64) -> [u8; FRAME_HEADER_BYTES] {
    let mut out = [0; FRAME_HEADER_BYTES];
    out[0] = kind;
    out[1] = channel as u8;
    out[2..10].copy_from_slice(&stream.0.to_be_bytes());
    out[10..18].copy_from_slice(&offset.to_be_bytes());
    out[18..26].copy_from_slice(&at_us.to_be_bytes());
    out
}

/// One message. The sender keeps to [`MAX_FRAME_BYTES`]; the receiver checks it.
pub fn encode_frame(frame: &StreamFrame) -> Bytes {
    let header = encode_frame_header(frame.stream, frame.channel, frame.offset, frame.at_us);
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + frame.bytes.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(&frame.bytes);
    out.into()
}

/// One message. The sender packs what [`packable`] answers, and not more than [`MAX_FRAME_BYTES`].
pub fn encode_packed(frame: &PackedFrame) -> Bytes {
    let header = header(KIND_PACKED, frame.stream, frame.channel, frame.offset, frame.at_us);
    let mut out = Vec::with_capacity(PACKED_HEADER_BYTES + frame.packed.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(&frame.length.to_be_bytes());
    out.extend_from_slice(&frame.lines.to_be_bytes());
    out.extend_from_slice(&frame.packed);
    out.into()
}

/// The frame in a message, sharing its memory. Any input gives an answer; `Kind` may be skipped, as a later version may add kinds.
/// That a packed frame unpacks, and to what it says, is not looked at here.
pub fn decode_frame(message: Bytes) -> Result<Frame, FrameError> {
    let Some((header, rest)) = message.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(FrameError::Short(message.len()));
    };
    let kind = header[0];
    if kind != KIND_STREAM && kind != KIND_PACKED {
        return Err(FrameError::Kind(kind));
    }
    let channel = Channel::from_u8(header[1]).ok_or(FrameError::Channel(header[1]))?;
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&header[at..at + 8]);
        u64::from_be_bytes(eight)
    };
    let (stream, offset, at_us) = (StreamId(number(2).cast_signed()), number(10), number(18));
    let frame = if kind == KIND_STREAM {
        let bytes = message.slice(FRAME_HEADER_BYTES..);
        Frame::Plain(StreamFrame { stream, channel, offset, at_us, bytes })
    } else {
        let Some((both, _)) = rest.split_first_chunk::<8>() else {
            return Err(FrameError::Short(message.len()));
        };
        let both = u64::from_be_bytes(*both);
        let (length, lines) = ((both >> 32) as u32, (both & u64::from(u32::MAX)) as u32);
        let packed = message.slice(PACKED_HEADER_BYTES..);
        Frame::Packed(PackedFrame { stream, channel, offset, at_us, length, lines, packed })
    };
    checked(frame)
}

fn checked(frame: Frame) -> Result<Frame, FrameError> {
    let (offset, length) = match &frame {
        Frame::Plain(frame) => (frame.offset, frame.bytes.len()),
        Frame::Packed(frame) => (frame.offset, frame.length as usize),
    };
    if length == 0 || length > MAX_FRAME_BYTES {
        return Err(FrameError::Length(length));
    }
    if offset.checked_add(length as u64).is_none() {
        return Err(FrameError::Offset(offset));
    }
    if let Frame::Packed(frame) = &frame {
        if frame.packed.is_empty() || frame.packed.len() > MAX_FRAME_BYTES {
            return Err(FrameError::Length(frame.packed.len()));
        }
        let lines = frame.lines as usize;
        if lines == 0 || lines > length {
            return Err(FrameError::Lines { length, lines });
        }
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(offset: u64, bytes: &[u8]) -> StreamFrame {
        StreamFrame {
            stream: StreamId(-7),
            channel: Channel::Err,
            offset,
            at_us: 99,
            bytes: Bytes::copy_from_slice(bytes),
        }
    }

    fn packed_frame() -> PackedFrame {
        PackedFrame {
            stream: StreamId(0x0102),
            channel: Channel::Out,
            offset: 0x0304,
            at_us: 0x0506,
            length: 0x0708,
            lines: 0x09,
            packed: Bytes::from_static(b"zz"),
        }
    }

    #[test]
    fn packed_layout_is_as_the_document_says() {
        assert_eq!(
            &encode_packed(&packed_frame())[..],
            b"\x02\0\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04\0\0\0\0\0\0\x05\x06\0\0\x07\x08\0\0\0\x09zz"
                .as_slice()
        );
        assert_eq!(decode_frame(encode_packed(&packed_frame())), Ok(Frame::Packed(packed_frame())));
    }

    #[test]
    fn layout_is_as_the_document_says() {
        let encoded = encode_frame(&StreamFrame {
            stream: StreamId(0x0102),
            channel: Channel::Pty,
            offset: 0x0304,
            at_us: 0x0506,
            bytes: Bytes::from_static(b"hi"),
        });
        assert_eq!(
            &encoded[..],
            b"\x01\x02\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04\0\0\0\0\0\0\x05\x06hi".as_slice()
        );
    }

    #[test]
    fn faults_are_named() {
        let mut good = encode_frame(&frame(0, b"x")).to_vec();
        assert_eq!(decode_frame(Bytes::from_static(b"\x01")), Err(FrameError::Short(1)));
        assert_eq!(decode_frame(Bytes::copy_from_slice(&good[..26])), Err(FrameError::Length(0)));
        let long = encode_frame(&frame(0, &vec![0; MAX_FRAME_BYTES + 1]));
        assert_eq!(decode_frame(long), Err(FrameError::Length(MAX_FRAME_BYTES + 1)));
        assert_eq!(decode_frame(encode_frame(&frame(u64::MAX, b"x"))), Err(FrameError::Offset(u64::MAX)));
        good[1] = 3;
        assert_eq!(decode_frame(good.clone().into()), Err(FrameError::Channel(3)));
        good[0] = 3;
        assert_eq!(decode_frame(good.into()), Err(FrameError::Kind(3)));
        let packed = |length, lines, packed: &'static [u8]| {
            decode_frame(encode_packed(&PackedFrame {
                length,
                lines,
                packed: packed.into(),
                ..packed_frame()
            }))
        };
        assert_eq!(packed(0, 1, b"x"), Err(FrameError::Length(0)));
        assert_eq!(packed(300_000, 1, b"x"), Err(FrameError::Length(300_000)));
        assert_eq!(packed(9, 1, b""), Err(FrameError::Length(0)));
        assert_eq!(packed(9, 0, b"x"), Err(FrameError::Lines { length: 9, lines: 0 }));
        assert_eq!(packed(9, 10, b"x"), Err(FrameError::Lines { length: 9, lines: 10 }));
        let whole = encode_packed(&packed_frame());
        assert_eq!(decode_frame(whole.slice(..30)), Err(FrameError::Short(30)));
    }

    #[test]
    fn only_whole_plain_lines_may_be_packed() {
        let long = [vec![b'x'; MAX_LINE_BYTES], b"\n".to_vec()].concat();
        let longer = [b"a\n".to_vec(), vec![b'x'; MAX_LINE_BYTES + 1], b"\n".to_vec()].concat();
        assert_eq!(packable(b"a\nb\n\nrest"), (5, 3));
        assert_eq!(packable(b"a\nb\x1b[31mc\nd\n"), (2, 1));
        assert_eq!(packable(b"no end"), (0, 0));
        assert_eq!(packable(&long), (MAX_LINE_BYTES + 1, 1));
        assert_eq!(packable(&longer), (2, 1));
    }

    #[test]
    fn overlaps_are_trimmed() {
        assert_eq!(frame(10, b"abcd").trimmed_to(14), None);
        assert_eq!(frame(10, b"abcd").trimmed_to(12), Some(frame(12, b"cd")));
        assert_eq!(frame(10, b"abcd").trimmed_to(3), Some(frame(10, b"abcd")));
    }

    proptest! {
        #[test]
        fn any_input_gives_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_frame(bytes.into());
        }

        #[test]
        fn what_is_encoded_is_decoded(
            stream: i64, channel in 0u8..3, offset in 0u64..u64::MAX / 2, at_us: u64,
            bytes in proptest::collection::vec(any::<u8>(), 1..300),
        ) {
            let channel = Channel::from_u8(channel).unwrap();
            let frame = StreamFrame { stream: StreamId(stream), channel, offset, at_us, bytes: bytes.into() };
            prop_assert_eq!(decode_frame(encode_frame(&frame)).unwrap(), Frame::Plain(frame));
        }
    }
}
