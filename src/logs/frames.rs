//! How output is stored: blocks of frames. A block is complete by itself: it begins with where the lines stood, so any range of lines can be shown
//! from the block that it begins in, and channels and times are kept.
//!
//! ```text
//! block = version u8 | first byte | number of the next line | time
//!         | for each channel: colours (length, text) | open line (0, or 1, time, length, bytes)
//!         | frames: channel u8, time, length, bytes …
//! ```
//! Numbers are LEB128; times are µs, each as the difference to the one before, zig-zag.

use super::escapes::Style;
use super::lines::{Open, Splitter};
use bytes::Bytes;
use rouse_agent_protocol::Channel;
use rouse_model::Timestamp;

const VERSION: u8 = 1;

/// A piece of output as the master keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub offset: u64,
    pub channel: Channel,
    pub at: Timestamp,
    pub bytes: Bytes,
}

impl Frame {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// The part within `[from, to)`.
    pub(super) fn within(&self, from: u64, to: u64) -> Option<Self> {
        let (start, end) = (self.offset.max(from), self.end().min(to));
        if start >= end {
            return None;
        }
        let at = |offset: u64| usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
        Some(Self { offset: start, bytes: self.bytes.slice(at(start)..at(end)), ..self.clone() })
    }
}

/// A run of frames, and where the lines stood before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub first_byte: u64,
    pub start: Splitter,
    pub frames: Vec<Frame>,
}

/// Stored bytes that are not what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored block is damaged")]
pub struct Damaged;

impl Block {
    pub(super) fn end(&self) -> u64 {
        self.frames.last().map_or(self.first_byte, Frame::end)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let size: usize = self.frames.iter().map(|f| f.bytes.len() + 8).sum();
        let mut out = Vec::with_capacity(size + 64);
        let mut clock = self.frames.first().map_or(Timestamp(0), |f| f.at);
        head(&mut out, self.first_byte, &self.start, clock);
        for frame in &self.frames {
            frame_head(&mut out, frame.channel, frame.at.0.wrapping_sub(clock.0), frame.bytes.len());
            clock = frame.at;
            out.extend_from_slice(&frame.bytes);
        }
        out
    }

    /// All of a block of one frame but the frame's bytes, which follow it.
    pub(super) fn encode_before(
        first_byte: u64,
        start: &Splitter,
        (channel, at): (Channel, Timestamp),
        length: usize,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        head(&mut out, first_byte, start, at);
        frame_head(&mut out, channel, 0, length);
        out
    }

    /// Shares the memory of `bytes`.
    pub(super) fn decode(bytes: Bytes) -> Result<Self, Damaged> {
        let mut reader = Cursor { bytes };
        if reader.byte()? != VERSION {
            return Err(Damaged);
        }
        let first_byte = reader.number()?;
        let mut start = Splitter { next: reader.number()?.cast_signed(), ..Splitter::default() };
        let mut clock = unzigzag(reader.number()?);
        for lane in &mut start.lanes {
            lane.style = Style::default().after(&reader.text()?);
            if reader.byte()? == 1 {
                lane.open =
                    Some(Open { at: Timestamp(unzigzag(reader.number()?)), head: reader.text()?.to_vec() });
            }
        }
        let (mut frames, mut offset) = (Vec::new(), first_byte);
        while !reader.bytes.is_empty() {
            let channel = Channel::from_u8(reader.byte()?).ok_or(Damaged)?;
            clock = clock.wrapping_add(unzigzag(reader.number()?));
            let frame = Frame { offset, channel, at: Timestamp(clock), bytes: reader.text()? };
            offset = offset.checked_add(frame.bytes.len() as u64).ok_or(Damaged)?;
            frames.push(frame);
        }
        Ok(Self { first_byte, start, frames })
    }
}

fn head(out: &mut Vec<u8>, first_byte: u64, start: &Splitter, clock: Timestamp) {
    out.push(VERSION);
    number(out, first_byte);
    number(out, start.next.cast_unsigned());
    number(out, zigzag(clock.0));
    for lane in &start.lanes {
        text(out, lane.style.prefix().as_bytes());
        match &lane.open {
            None => out.push(0),
            Some(open) => {
                out.push(1);
                number(out, zigzag(open.at.0));
                text(out, &open.head);
            }
        }
    }
}

fn frame_head(out: &mut Vec<u8>, channel: Channel, after_us: i64, length: usize) {
    out.push(channel as u8);
    number(out, zigzag(after_us));
    number(out, length as u64);
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

struct Cursor {
    bytes: Bytes,
}

impl Cursor {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = *self.bytes.first().ok_or(Damaged)?;
        let _ = self.bytes.split_to(1);
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    fn text(&mut self) -> Result<Bytes, Damaged> {
        let length = usize::try_from(self.number()?).map_err(|_| Damaged)?;
        if length > self.bytes.len() {
            return Err(Damaged);
        }
        Ok(self.bytes.split_to(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            first_byte in 0u64..1 << 50, next in 0i64..1 << 40, before in proptest::collection::vec(any::<u8>(), 0..200),
            pieces in proptest::collection::vec((0u8..3, any::<i64>(), proptest::collection::vec(any::<u8>(), 1..300)), 0..10),
        ) {
            let mut start = Splitter { next, ..Splitter::default() };
            start.push(Channel::Err, Timestamp(5), &before, &mut |_| {});
            // Which channel wrote last is not kept: it only chooses the open line that is shown first.
            start.push(Channel::Out, Timestamp(6), b"", &mut |_| {});
            let mut frames: Vec<Frame> = Vec::new();
            for (channel, at, bytes) in pieces {
                let offset = frames.last().map_or(first_byte, Frame::end);
                frames.push(Frame { offset, channel: Channel::from_u8(channel).unwrap(), at: Timestamp(at), bytes: bytes.into() });
            }
            let block = Block { first_byte, start, frames };
            prop_assert_eq!(Block::decode(block.encode().into()), Ok(block));
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut with_version = vec![VERSION];
            with_version.extend(&bytes);
            let _ = Block::decode(bytes.into());
            let _ = Block::decode(with_version.into());
        }
    }
}
