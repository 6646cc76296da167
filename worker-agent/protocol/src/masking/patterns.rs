//! Finding many secrets in one text. A key of some dozen lines in all its forms is some hundred patterns, which nobody wants to seek one by one.

use memchr::memmem::Finder;

/// So many are sought one by one, which is quicker: each at some gigabytes a second, all together at some hundred megabytes.
const FEW: usize = 24;
/// Bytes by which a longer pattern is recognized.
const HEAD: usize = 4;

/// What is sought, in order, none empty and none twice.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    all: Vec<Pattern>,
    longest: usize,
    /// A bit for each [`slot`] that the head of a pattern falls into.
    heads: Vec<u64>,
}

pub(super) struct Pattern {
    pub(super) bytes: Vec<u8>,
    finder: Finder<'static>,
}

/// Says nothing of the secret.
impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Patterns {
    pub(super) fn new(mut all: Vec<Vec<u8>>) -> Self {
        all.retain(|value| !value.is_empty());
        all.sort_unstable();
        all.dedup();
        let longest = all.iter().map(Vec::len).max().unwrap_or(0);
        let mut heads = vec![0; if all.is_empty() { 0 } else { 1 << 10 }];
        for head in all.iter().filter_map(|bytes| bytes.first_chunk()) {
            heads[slot(head) / 64] |= 1 << (slot(head) % 64);
        }
        let pattern = |bytes: Vec<u8>| Pattern { finder: Finder::new(&bytes).into_owned(), bytes };
        Self { all: all.into_iter().map(pattern).collect(), longest, heads }
    }

    pub(super) fn all(&self) -> &[Pattern] {
        &self.all
    }

    /// Tells begin and end of every occurrence, in any order.
    pub(super) fn each_occurrence(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        let many = self.all.len() > FEW;
        for pattern in self.all.iter().filter(|p| !many || p.bytes.len() < HEAD) {
            let mut from = 0;
            while let Some(at) = pattern.finder.find(&text[from..]) {
                found(from + at, from + at + pattern.bytes.len());
                from += at + 1;
            }
        }
        if !many {
            return;
        }
        for at in 0..text.len().saturating_sub(HEAD - 1) {
            let Some(head) = text[at..].first_chunk().filter(|head| self.may_begin(head)) else { continue };
            for pattern in self.from(head).iter().take_while(|p| p.bytes.starts_with(head)) {
                if text[at..].starts_with(&pattern.bytes) {
                    found(at, at + pattern.bytes.len());
                }
            }
        }
    }

    /// Where the longest end of `text` begins that may yet grow into a secret.
    pub(super) fn pending_from(&self, text: &[u8]) -> usize {
        let earliest = (text.len() + 1).saturating_sub(self.longest);
        let grows = |at: &usize| {
            let tail = &text[*at..];
            // Those that begin with it and go on stand right behind it.
            tail.first_chunk().is_none_or(|head| self.may_begin(head))
                && self.from(tail).iter().find(|p| p.bytes != tail).is_some_and(|p| p.bytes.starts_with(tail))
        };
        (earliest..text.len()).find(grows).unwrap_or(text.len())
    }

    /// Whether a pattern may begin so; never `false` where one does.
    fn may_begin(&self, head: &[u8; HEAD]) -> bool {
        self.heads[slot(head) / 64] >> (slot(head) % 64) & 1 == 1
    }

    /// The patterns that stand at or behind `text` in the order.
    fn from(&self, text: &[u8]) -> &[Pattern] {
        &self.all[self.all.partition_point(|p| p.bytes.as_slice() < text)..]
    }
}

/// One of 2^16.
fn slot(head: &[u8; HEAD]) -> usize {
    (u32::from_le_bytes(*head).wrapping_mul(0x9E37_79B1) >> 16) as usize
}
