//! Masking of a whole stream with its channels interleaved: what a receiver of frames needs.

use std::collections::VecDeque;

use bytes::Bytes;
use thiserror::Error;

use super::{Masker, Masks};
use crate::{Channel, StreamFrame, StreamId};

/// One channel may hold back so many bytes of the others; then what it holds is given out as `*`.
const MAX_QUEUED: usize = 1024 * 1024;

#[derive(Debug, Error, PartialEq, Eq)]
#[error("frame begins at offset {got}, expected {expected}")]
pub struct GapError {
    pub expected: u64,
    pub got: u64,
}

/// Takes a stream's frames in order, gives them back masked, with the same offsets, channels and times. Each channel is masked by
/// itself. Frames of an agent that masks pass at once.
///
/// The owner may call bytes durable only up to [`StreamMasker::settled_to`]. After a restart a new one starts there.
#[derive(Debug)]
pub struct StreamMasker {
    maskers: [Masker; Channel::ALL.len()],
    /// Frames whose bytes have not all come out of their masker; the front is the next to be given out.
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    received_to: u64,
    settled_to: u64,
}

#[derive(Debug)]
struct Queued {
    channel: Channel,
    at_us: u64,
    length: usize,
    masked: Vec<u8>,
}

impl StreamMasker {
    /// For the bytes from `from` on.
    pub fn new(masks: &Masks, from: u64) -> Self {
        Self {
            maskers: Channel::ALL.map(|_| Masker::new(masks.clone())),
            queue: VecDeque::new(),
            queued_bytes: 0,
            received_to: from,
            settled_to: from,
        }
    }

    /// Offset after the last byte taken in.
    pub fn received_to(&self) -> u64 {
        self.received_to
    }

    /// Offset after the last byte given out.
    pub fn settled_to(&self) -> u64 {
        self.settled_to
    }

    /// Take the next frame. What is known already is trimmed off; a gap is an error and changes nothing.
    pub fn push(&mut self, frame: StreamFrame) -> Result<Vec<StreamFrame>, GapError> {
        if frame.offset > self.received_to {
            return Err(GapError { expected: self.received_to, got: frame.offset });
        }
        let Some(frame) = frame.trimmed_to(self.received_to) else { return Ok(Vec::new()) };
        self.received_to = frame.end();
        let mut masked = Vec::with_capacity(frame.bytes.len());
        self.maskers[frame.channel as usize].push(&frame.bytes, &mut masked);
        let (channel, at_us, length) = (frame.channel, frame.at_us, frame.bytes.len());
        self.queued_bytes += length;
        self.queue.push_back(Queued { channel, at_us, length, masked: Vec::new() });
        self.distribute(channel, &masked);
        while self.queued_bytes > MAX_QUEUED
            && let Some(blocked) = self.queue.iter().find(|queued| queued.masked.len() < queued.length)
        {
            let channel = blocked.channel;
            let mut masked = Vec::new();
            self.maskers[channel as usize].conceal(&mut masked);
            self.distribute(channel, &masked);
            if masked.is_empty() {
                break;
            }
        }
        Ok(self.give_out(frame.stream))
    }

    /// The stream is over: the rest.
    pub fn finish(&mut self, stream: StreamId) -> Vec<StreamFrame> {
        for channel in Channel::ALL {
            let mut masked = Vec::new();
            self.maskers[channel as usize].finish(&mut masked);
            self.distribute(channel, &masked);
        }
        self.give_out(stream)
    }

    /// A channel's masker gives bytes in the order of its frames.
    fn distribute(&mut self, channel: Channel, mut masked: &[u8]) {
        for queued in self.queue.iter_mut().filter(|queued| queued.channel == channel) {
            let (now, rest) = masked.split_at(masked.len().min(queued.length - queued.masked.len()));
            queued.masked.extend_from_slice(now);
            masked = rest;
        }
        debug_assert!(masked.is_empty(), "a masker gives no more than it was given");
    }

    fn give_out(&mut self, stream: StreamId) -> Vec<StreamFrame> {
        let mut out = Vec::new();
        while let Some(front) = self.queue.front_mut() {
            let (bytes, offset) = (std::mem::take(&mut front.masked), self.settled_to);
            let (channel, at_us) = (front.channel, front.at_us);
            front.length -= bytes.len();
            let whole = front.length == 0;
            self.queued_bytes -= bytes.len();
            self.settled_to += bytes.len() as u64;
            if !bytes.is_empty() {
                out.push(StreamFrame { stream, channel, offset, at_us, bytes: Bytes::from(bytes) });
            }
            if !whole {
                break;
            }
            self.queue.pop_front();
        }
        out
    }
}
