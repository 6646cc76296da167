//! Stream frames: output on its way to the master, one WebSocket binary message each.
//!
//! ```text
//! kind u8 = 1 | channel u8 | stream i64 | offset u64 | at_us u64 | bytes (1 … 256 KiB)      all big endian
//! ```

use bytes::Bytes;
use thiserror::Error;

use crate::{MAX_FRAME_BYTES, StreamId};

const KIND_STREAM: u8 = 1;
/// Bytes before the bytes of output.
pub const FRAME_HEADER_BYTES: usize = 1 + 1 + 8 + 8 + 8;

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
    let mut out = [0; FRAME_HEADER_BYTES];
    out[0] = KIND_STREAM;
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

/// The frame in a message, sharing its memory. Any input gives an answer; `Kind` may be skipped, as a later version may add kinds.
pub fn decode_frame(message: Bytes) -> Result<StreamFrame, FrameError> {
    let Some((header, _)) = message.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(FrameError::Short(message.len()));
    };
    if header[0] != KIND_STREAM {
        return Err(FrameError::Kind(header[0]));
    }
    let channel = Channel::from_u8(header[1]).ok_or(FrameError::Channel(header[1]))?;
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&header[at..at + 8]);
        u64::from_be_bytes(eight)
    };
    let (stream, offset, at_us) = (StreamId(number(2).cast_signed()), number(10), number(18));
    let bytes = message.slice(FRAME_HEADER_BYTES..);
    if bytes.is_empty() || bytes.len() > MAX_FRAME_BYTES {
        return Err(FrameError::Length(bytes.len()));
    }
    if offset.checked_add(bytes.len() as u64).is_none() {
        return Err(FrameError::Offset(offset));
    }
    Ok(StreamFrame { stream, channel, offset, at_us, bytes })
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
        good[0] = 2;
        assert_eq!(decode_frame(good.into()), Err(FrameError::Kind(2)));
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
            prop_assert_eq!(decode_frame(encode_frame(&frame)).unwrap(), frame);
        }
    }
}
