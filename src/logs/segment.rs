//! Segments: immutable objects of one or more compressed blocks, with an index at the end that says where each begins.
//!
//! ```text
//! segment = block (one or more zstd frames) … | index entry … | number of entries u32 | "ROUSELG1"
//! entry   = first byte u64 | number of the first line u64 | time i64 | position u64 | length u32 | length before compression u32
//! ```
//! All big endian. Whoever wants a byte or a line reads the index and one block.

use super::LogError;
use super::frames::{Block, Damaged};
use super::lines::Splitter;
use super::pieces::Packed;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, PutPayloadMut};
use rouse_model::Timestamp;
use zstd::bulk::Compressor;

const MAGIC: &[u8; 8] = b"ROUSELG1";
const ENTRY: usize = 40;
const TRAILER: usize = 12;
/// What is fetched at first: the index of some 1,600 blocks.
const END: u64 = 64 * 1024;
/// Most bytes of output in a block: what a reader of one line unpacks.
pub(super) const BLOCK: u64 = 1024 * 1024;
/// A block's frames and the open lines before them are small beside its bytes; more than this is no block of ours.
const MAX_UNPACKED: u32 = 64 * 1024 * 1024;

/// Where one block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub first_byte: u64,
    pub first_line: i64,
    pub at: Timestamp,
    pub position: u64,
    pub length: u32,
    pub unpacked: u32,
}

/// A segment in the making.
#[derive(Default)]
pub(super) struct Builder {
    /// In parts, as they came: copied into one piece that grows, they were two thirds of the master's page faults.
    body: PutPayloadMut,
    index: Vec<Entry>,
    /// Kept from block to block: making one costs more than a small block's compression.
    compressor: Option<Compressor<'static>>,
}

impl Builder {
    /// Compressed size so far.
    pub(super) fn size(&self) -> usize {
        self.body.content_length()
    }

    pub(super) fn add(&mut self, block: &Block, level: i32) -> std::io::Result<()> {
        let unpacked = block.encode();
        let packed = self.compress(&unpacked, level)?.into();
        self.add_packed(
            Entry {
                first_byte: block.first_byte,
                first_line: block.start.next,
                at: block.frames.first().map_or(Timestamp(0), |f| f.at),
                position: 0,
                length: 0,
                unpacked: u32::try_from(unpacked.len()).map_err(std::io::Error::other)?,
            },
            [packed],
        );
        Ok(())
    }

    /// A block of packed lines: what stands before them and the lines as they came, two zstd frames that unpack as one.
    pub(super) fn add_lines(&mut self, start: &Splitter, lines: &Packed, level: i32) -> std::io::Result<()> {
        let length = lines.length as usize;
        let before = Block::encode_before(lines.offset, start, (lines.channel, lines.at), length);
        let packed = self.compress(&before, level)?.into();
        self.add_packed(
            Entry {
                first_byte: lines.offset,
                first_line: start.next,
                at: lines.at,
                position: 0,
                length: 0,
                unpacked: u32::try_from(before.len() + length).map_err(std::io::Error::other)?,
            },
            [packed, lines.bytes.clone()],
        );
        Ok(())
    }

    fn compress(&mut self, bytes: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(level)?),
        };
        compressor.set_compression_level(level)?;
        compressor.compress(bytes)
    }

    /// A block as another segment holds it, in one part or more.
    pub(super) fn add_packed(&mut self, entry: Entry, parts: impl IntoIterator<Item = Bytes>) {
        let position = self.size();
        parts.into_iter().for_each(|part| self.body.push(part));
        let length = u32::try_from(self.size() - position).expect("a block is far smaller than 4 GiB");
        self.index.push(Entry { position: position as u64, length, ..entry });
    }

    pub(super) fn finish(mut self) -> PutPayload {
        let mut end = Vec::with_capacity(self.index.len() * ENTRY + TRAILER);
        for entry in &self.index {
            end.extend_from_slice(&entry.first_byte.to_be_bytes());
            end.extend_from_slice(&entry.first_line.to_be_bytes());
            end.extend_from_slice(&entry.at.0.to_be_bytes());
            end.extend_from_slice(&entry.position.to_be_bytes());
            end.extend_from_slice(&entry.length.to_be_bytes());
            end.extend_from_slice(&entry.unpacked.to_be_bytes());
        }
        let count = u32::try_from(self.index.len()).expect("a segment has few blocks");
        end.extend_from_slice(&count.to_be_bytes());
        end.extend_from_slice(MAGIC);
        self.body.push(end.into());
        self.body.freeze()
    }
}

/// An open segment: its index, and what of its bytes came with it.
#[derive(Debug)]
pub(super) struct Segment {
    key: Path,
    index: Vec<Entry>,
    /// The end of the object, from `end_from` on.
    end: Bytes,
    end_from: u64,
}

impl Segment {
    pub(super) async fn open(objects: &dyn ObjectStore, key: &str) -> Result<Self, LogError> {
        let key = Path::from(key);
        let mut fetched = fetch_end(objects, &key, END).await?;
        let count = entries(&fetched.0).ok_or(Damaged)?;
        let whole = (count * ENTRY + TRAILER) as u64;
        if whole > fetched.0.len() as u64 {
            fetched = fetch_end(objects, &key, whole).await?;
        }
        let (end, end_from) = fetched;
        let from = end.len().checked_sub(count * ENTRY + TRAILER).ok_or(Damaged)?;
        let index = end[from..end.len() - TRAILER].chunks_exact(ENTRY).map(entry).collect();
        Ok(Self { key, index, end, end_from })
    }

    pub(super) fn index(&self) -> &[Entry] {
        &self.index
    }

    /// The last block that begins at or before this offset.
    pub(super) fn at_byte(&self, offset: u64) -> Option<Entry> {
        self.index.iter().rev().find(|e| e.first_byte <= offset).copied()
    }

    /// The last block that begins at or before this line's end.
    pub(super) fn at_line(&self, n: i64) -> Option<Entry> {
        self.index.iter().rev().find(|e| e.first_line <= n).copied()
    }

    pub(super) async fn packed(&self, objects: &dyn ObjectStore, entry: Entry) -> Result<Bytes, LogError> {
        let (from, to) = (entry.position, entry.position + u64::from(entry.length));
        if from >= self.end_from {
            let at = |offset: u64| usize::try_from(offset - self.end_from).unwrap_or(usize::MAX);
            if at(to) > self.end.len() {
                return Err(Damaged.into());
            }
            return Ok(self.end.slice(at(from)..at(to)));
        }
        Ok(objects.get_range(&self.key, from..to).await?)
    }

    pub(super) async fn block(&self, objects: &dyn ObjectStore, entry: Entry) -> Result<Block, LogError> {
        unpack(entry, &self.packed(objects, entry).await?)
    }
}

/// The block of an entry.
pub(super) fn unpack(entry: Entry, packed: &[u8]) -> Result<Block, LogError> {
    if entry.unpacked > MAX_UNPACKED {
        return Err(Damaged.into());
    }
    let bytes = zstd::bulk::decompress(packed, entry.unpacked as usize).map_err(|_| Damaged)?;
    Ok(Block::decode(bytes.into())?)
}

async fn fetch_end(objects: &dyn ObjectStore, key: &Path, length: u64) -> Result<(Bytes, u64), LogError> {
    let options = GetOptions { range: Some(GetRange::Suffix(length)), ..GetOptions::default() };
    let found = objects.get_opts(key, options).await?;
    let from = found.range.start;
    Ok((found.bytes().await?, from))
}

fn entries(end: &[u8]) -> Option<usize> {
    let body = end.strip_suffix(MAGIC)?;
    let (_, count) = body.split_last_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*count)).ok()
}

fn entry(bytes: &[u8]) -> Entry {
    let eight = |at: usize| {
        let mut out = [0; 8];
        out.copy_from_slice(&bytes[at..at + 8]);
        u64::from_be_bytes(out)
    };
    let both = eight(32);
    Entry {
        first_byte: eight(0),
        first_line: eight(8).cast_signed(),
        at: Timestamp(eight(16).cast_signed()),
        position: eight(24),
        length: (both >> 32) as u32,
        unpacked: (both & u64::from(u32::MAX)) as u32,
    }
}
