//! Masking of secret values in output, split at any byte. Agent and master both do it, with the same code.
//!
//! Each byte that belongs to an occurrence of a secret value becomes `*`, so lengths and offsets stay. Occurrences may overlap;
//! the bytes of all of them are masked. A value of several lines is masked as a whole and also line by line, as a terminal or a
//! log prefix may break it up: of each line the part without blanks at its ends, if that is [`MIN_LINE`] bytes or longer (a value
//! with one such line only, such as a file that ends in a newline, whatever its length).
//!
//! What might be the beginning of a secret is held back until more arrives. The cut is always made where a masker that starts
//! afresh goes on with the same result, so the one fact to be kept across a restart is *how far* the output is settled: nothing
//! past that point may be called durable. At most twice the longest value is held back.

mod patterns;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use patterns::Patterns;
pub use stream::{GapError, StreamMasker};

/// Shortest line of a value of several lines that is masked by itself.
pub const MIN_LINE: usize = 4;

/// A set of secret values, compiled once per command; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Masks(Arc<Patterns>);

impl Masks {
    /// The values and the lines of those that have several. Empty values are ignored.
    pub fn new<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Self {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for value in values {
            let value = value.as_ref();
            all.push(value.to_vec());
            if value.contains(&b'\n') {
                let lines: Vec<&[u8]> =
                    value.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()).collect();
                let alone = lines.len() == 1;
                all.extend(lines.into_iter().filter(|l| alone || l.len() >= MIN_LINE).map(<[u8]>::to_vec));
            }
        }
        Self(Arc::new(Patterns::new(all)))
    }

    /// Nothing to mask: output may pass as it is.
    pub fn is_empty(&self) -> bool {
        self.0.all().is_empty()
    }

    /// Mask a text that is whole, such as a message.
    pub fn mask_text(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut masker = Masker::new(self.clone());
        let mut out = Vec::with_capacity(text.len());
        masker.push(text.as_bytes(), &mut out);
        masker.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Masks one sequence of bytes. Output lags behind input by [`Masker::held_back`] bytes.
#[derive(Debug)]
pub struct Masker {
    masks: Masks,
    /// Input that is not settled. Begins at a clean cut: no secret before it reaches into it, save by bytes that one within it covers too.
    held: Vec<u8>,
    /// So many bytes of `held` were already given out, as `*`: see [`Masker::conceal`].
    given: usize,
}

impl Masker {
    pub fn new(masks: Masks) -> Self {
        Self { masks, held: Vec::new(), given: 0 }
    }

    /// Bytes that were put in and have not come out.
    pub fn held_back(&self) -> usize {
        self.held.len() - self.given
    }

    /// Take more input; append what is settled to `out`.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        if self.masks.is_empty() {
            out.extend_from_slice(input);
            return;
        }
        self.held.extend_from_slice(input);
        let pending = self.masks.0.pending_from(&self.held);
        self.settle(pending, out);
    }

    /// The input is over: append the rest to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.settle(self.held.len(), out);
    }

    /// Give out what is held back as `*`, for when waiting longer would cost too much. It goes on being matched, so that no secret
    /// escapes; but a restart after it would not see the beginning.
    pub fn conceal(&mut self, out: &mut Vec<u8>) {
        out.resize(out.len() + self.held_back(), b'*');
        self.given = self.held.len();
    }

    /// Settle what lies before `pending`, as far as the cut is clean.
    ///
    /// A secret that lies across `pending` is complete, but may share its end with the beginning of another. Cut at the beginning
    /// of the one that reaches farthest: it covers all bytes after the cut that earlier ones cover.
    fn settle(&mut self, pending: usize, out: &mut Vec<u8>) {
        let base = out.len();
        out.extend_from_slice(&self.held);
        let mut cut = (pending, pending);
        self.masks.0.each_occurrence(&self.held, |start, end| {
            out[base + start..base + end].fill(b'*');
            if start < pending && (end > cut.1 || end == cut.1 && start > cut.0) {
                cut = (start, end);
            }
        });
        let (cut, _) = cut;
        out.truncate(base + cut);
        self.held.drain(..cut);
        let known = self.given.min(cut);
        out.drain(base..base + known);
        self.given -= known;
    }
}
