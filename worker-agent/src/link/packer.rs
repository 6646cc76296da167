//! Output on its way: many lines are packed, so that the master can store them as they come.

use bytes::Bytes;
use rouse_agent_protocol::{PackedFrame, StreamFrame, encode_frame, encode_packed};
use zstd::bulk::Compressor;

use crate::spool::Outgoing;

/// The master keeps what comes: speed counts for more than size, as the program that writes it waits for us.
const LEVEL: i32 = 1;

/// One connection's. Its memory is taken when there is something to pack.
#[derive(Default)]
pub struct Packer {
    compressor: Option<Compressor<'static>>,
}

impl Packer {
    /// The message that carries it.
    pub fn frame(&mut self, output: Outgoing) -> Bytes {
        match output {
            Outgoing::Frame(frame) => frame,
            Outgoing::Lines(frame, lines) => match self.pack(&frame, lines) {
                Some(packed) => encode_packed(&packed),
                None => encode_frame(&frame),
            },
        }
    }

    /// Nothing where that would save nothing.
    fn pack(&mut self, frame: &StreamFrame, lines: u32) -> Option<PackedFrame> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(LEVEL).ok()?),
        };
        let packed =
            compressor.compress(&frame.bytes).ok().filter(|packed| packed.len() < frame.bytes.len())?;
        let StreamFrame { stream, channel, offset, at_us, ref bytes } = *frame;
        let length = u32::try_from(bytes.len()).ok()?;
        Some(PackedFrame { stream, channel, offset, at_us, length, lines, packed: packed.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_agent_protocol::{Channel, Frame, StreamId, decode_frame};

    fn sent(bytes: Vec<u8>) -> Frame {
        let frame = StreamFrame {
            stream: StreamId(1),
            channel: Channel::Err,
            offset: 7,
            at_us: 9,
            bytes: bytes.into(),
        };
        decode_frame(Packer::default().frame(Outgoing::Lines(frame, 1))).unwrap()
    }

    #[test]
    fn what_is_packed_unpacks() {
        let bytes = [vec![b'x'; 50_000], b"\n".to_vec()].concat();
        let Frame::Packed(frame) = sent(bytes.clone()) else { panic!("it is packed") };
        assert_eq!((frame.offset, frame.length, frame.lines), (7, 50_001, 1));
        assert_eq!(zstd::bulk::decompress(&frame.packed, bytes.len()).unwrap(), bytes);
        let said = zstd::zstd_safe::get_frame_content_size(&frame.packed).unwrap();
        assert_eq!(said, Some(50_001), "a master looks at it");
    }

    #[test]
    fn what_cannot_be_made_smaller_stays_as_it_is() {
        let noise: Vec<u8> = std::iter::successors(Some(1u64), |n| {
            Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
        })
        .map(|n| (n >> 56) as u8)
        .take(50_000)
        .collect();
        assert!(matches!(sent(noise.clone()), Frame::Plain(frame) if frame.bytes == noise));
    }
}
