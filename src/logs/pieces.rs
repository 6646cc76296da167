//! Output as it waits in memory: plain, or packed by the agent and then stored as it came.
//!
//! Packed lines are not looked into on their way. An agent that packs nonsense, or says a wrong number of lines, harms its own log alone: what does not
//! unpack is refused where it shows, and is a damaged block to who reads it later.

use super::frames::{Block, Damaged, Frame};
use super::lines::Splitter;
use super::segment::{BLOCK, Builder};
use bytes::Bytes;
use rouse_agent_protocol::{Channel, PackedFrame};
use rouse_model::Timestamp;

/// Whole lines of one channel, as one zstd frame that says its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub offset: u64,
    pub channel: Channel,
    pub at: Timestamp,
    pub length: u32,
    pub lines: u32,
    pub bytes: Bytes,
}

impl Packed {
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Plain(Frame),
    Packed(Packed),
}

impl Piece {
    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::Plain(frame) => frame.offset,
            Self::Packed(packed) => packed.offset,
        }
    }

    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Plain(frame) => frame.end(),
            Self::Packed(packed) => packed.end(),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Plain(frame) => frame.bytes.len(),
            Self::Packed(packed) => packed.bytes.len(),
        }
    }

    /// Unpacked. What does not unpack is as many question marks: offsets stay as they were said.
    pub(super) fn frame(self) -> Frame {
        match self {
            Self::Plain(frame) => frame,
            Self::Packed(Packed { offset, channel, at, length, bytes, .. }) => {
                let length = length as usize;
                let bytes = unpack(&bytes, length).unwrap_or_else(|Damaged| vec![b'?'; length].into());
                Frame { offset, channel, at, bytes }
            }
        }
    }
}

/// What a packed frame holds.
pub(super) fn unpacked(frame: &PackedFrame) -> Result<Bytes, Damaged> {
    unpack(&frame.packed, frame.length as usize)
}

/// Whether it can be what it says, from its outside.
pub(super) fn is_sound(frame: &PackedFrame) -> bool {
    let length = zstd::zstd_safe::get_frame_content_size(&frame.packed).ok().flatten();
    let alone = zstd::zstd_safe::find_frame_compressed_size(&frame.packed).ok();
    length == Some(u64::from(frame.length)) && alone == Some(frame.packed.len())
}

fn unpack(packed: &[u8], length: usize) -> Result<Bytes, Damaged> {
    let bytes = zstd::bulk::decompress(packed, length).map_err(|_| Damaged)?;
    if bytes.len() == length { Ok(bytes.into()) } else { Err(Damaged) }
}

/// Pieces that follow each other, and where the lines stood before them.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub first_byte: u64,
    pub start: Splitter,
    pub pieces: Vec<Piece>,
}

impl From<Block> for Run {
    fn from(block: Block) -> Self {
        let pieces = block.frames.into_iter().map(Piece::Plain).collect();
        Self { first_byte: block.first_byte, start: block.start, pieces }
    }
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.pieces.last().map_or(self.first_byte, Piece::end)
    }

    /// Bytes that it holds in memory.
    pub(super) fn size(&self) -> usize {
        self.pieces.iter().map(Piece::size).sum()
    }

    /// Where the lines stand at its end.
    pub(super) fn lines(self) -> Splitter {
        let mut splitter = self.start;
        for piece in self.pieces {
            match piece {
                Piece::Packed(packed) if splitter.at_line_start(packed.channel) => {
                    splitter.skip(packed.channel, packed.lines)
                }
                piece => {
                    let frame = piece.frame();
                    splitter.push(frame.channel, frame.at, &frame.bytes, &mut |_| {});
                }
            }
        }
        splitter
    }

    /// As one block, and where the lines stand at its end.
    pub(super) fn block(self) -> (Block, Splitter) {
        let frames: Vec<Frame> = self.pieces.into_iter().map(Piece::frame).collect();
        let mut end = self.start.clone();
        for frame in &frames {
            end.push(frame.channel, frame.at, &frame.bytes, &mut |_| {});
        }
        (Block { first_byte: self.first_byte, start: self.start, frames }, end)
    }

    /// Adds it to a segment, in blocks of at most a mebibyte; answers where the lines stand at its end.
    pub(super) fn store(self, builder: &mut Builder, level: i32) -> std::io::Result<Splitter> {
        let mut splitter = self.start.clone();
        let mut current = Block { first_byte: self.first_byte, start: self.start, frames: Vec::new() };
        for piece in self.pieces {
            let frame = match piece {
                Piece::Packed(packed) if splitter.at_line_start(packed.channel) => {
                    if !current.frames.is_empty() {
                        builder.add(&current, level)?;
                    }
                    builder.add_lines(&splitter, &packed, level)?;
                    splitter.skip(packed.channel, packed.lines);
                    current = Block { first_byte: packed.end(), start: splitter.clone(), frames: Vec::new() };
                    continue;
                }
                piece => piece.frame(),
            };
            if frame.end() - current.first_byte > BLOCK && !current.frames.is_empty() {
                let next = Block { first_byte: frame.offset, start: splitter.clone(), frames: Vec::new() };
                builder.add(&std::mem::replace(&mut current, next), level)?;
            }
            splitter.push(frame.channel, frame.at, &frame.bytes, &mut |_| {});
            current.frames.push(frame);
        }
        // A log may end with an open line that is too long for its row, and no byte more.
        if !current.frames.is_empty() || builder.size() == 0 {
            builder.add(&current, level)?;
        }
        Ok(splitter)
    }
}
