//! Escape sequences in output: the colours in force at a line's start, so that it can be shown alone, and the text without them.
//!
//! It knows bytes only, neither lines nor logs. A sequence that its line does not end is dropped with the rest of that line.

use std::borrow::Cow;
use std::fmt::Write;

const ESC: u8 = 0x1b;

/// Colours and attributes in force (SGR).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// Bit n: attribute n (1 bold … 9 struck through).
    attributes: u16,
    foreground: Colour,
    background: Colour,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Colour {
    #[default]
    Default,
    /// The sixteen named ones; 8 and above are bright.
    Named(u8),
    Palette(u8),
    Rgb(u8, u8, u8),
}

impl Style {
    /// What `bytes` leave in force.
    pub(super) fn after(mut self, bytes: &[u8]) -> Self {
        if memchr::memchr(ESC, bytes).is_some() {
            for piece in Pieces(bytes) {
                if let Piece::Sgr(parameters) = piece {
                    self.apply(parameters);
                }
            }
        }
        self
    }

    /// The sequence that brings it into force; empty where nothing is.
    pub(super) fn prefix(self) -> String {
        if self == Self::default() {
            return String::new();
        }
        let mut out = String::from("\x1b[");
        for attribute in (1..=9).filter(|n| self.attributes & (1 << n) != 0) {
            // Writing to a string cannot fail.
            let _ = write!(out, "{attribute};");
        }
        self.foreground.write(&mut out, 30);
        self.background.write(&mut out, 40);
        out.pop();
        out.push('m');
        out
    }

    fn apply(&mut self, parameters: &[u8]) {
        let mut numbers = parameters.split(|b| matches!(b, b';' | b':')).map(|digits| {
            digits
                .iter()
                .fold(0u16, |n, d| n.saturating_mul(10).saturating_add(u16::from(d.wrapping_sub(b'0'))))
        });
        // `38:2::r:g:b` names a colour space between; nobody does with `;`.
        let spaced = parameters.contains(&b':');
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                n @ 1..=9 => self.attributes |= 1 << n,
                21 | 22 => self.attributes &= !(1 << 1 | 1 << 2),
                25 => self.attributes &= !(1 << 5 | 1 << 6),
                n @ (23 | 24 | 27 | 28 | 29) => self.attributes &= !(1 << (n - 20)),
                n @ 30..=37 => self.foreground = Colour::Named(low(n - 30)),
                n @ 90..=97 => self.foreground = Colour::Named(low(n - 90 + 8)),
                n @ 40..=47 => self.background = Colour::Named(low(n - 40)),
                n @ 100..=107 => self.background = Colour::Named(low(n - 100 + 8)),
                39 => self.foreground = Colour::Default,
                49 => self.background = Colour::Default,
                n @ (38 | 48) => {
                    let Some(colour) = extended(&mut numbers, spaced) else { return };
                    if n == 38 { self.foreground = colour } else { self.background = colour }
                }
                _ => {}
            }
        }
    }
}

fn low(n: u16) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

fn extended(numbers: &mut dyn Iterator<Item = u16>, spaced: bool) -> Option<Colour> {
    match numbers.next()? {
        5 => Some(Colour::Palette(low(numbers.next()?))),
        2 => {
            let rest: Vec<u8> = numbers.take(if spaced { 4 } else { 3 }).map(low).collect();
            match rest[..] {
                [r, g, b] | [_, r, g, b] => Some(Colour::Rgb(r, g, b)),
                _ => None,
            }
        }
        _ => None,
    }
}

impl Colour {
    fn write(self, out: &mut String, base: u8) {
        let _ = match self {
            Self::Default => Ok(()),
            Self::Named(n) if n < 8 => write!(out, "{};", base + n),
            Self::Named(n) => write!(out, "{};", base + 60 + n - 8),
            Self::Palette(n) => write!(out, "{};5;{n};", base + 8),
            Self::Rgb(r, g, b) => write!(out, "{};2;{r};{g};{b};", base + 8),
        };
    }
}

enum Piece<'a> {
    Text(&'a [u8]),
    /// The parameters of a sequence that sets colours.
    Sgr(&'a [u8]),
    /// Any other sequence, whole or cut off by the end.
    Other,
}

/// Text and sequences in turn.
struct Pieces<'a>(&'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.0.is_empty() {
            return None;
        }
        if self.0[0] != ESC {
            let (text, rest) = self.0.split_at(memchr::memchr(ESC, self.0).unwrap_or(self.0.len()));
            self.0 = rest;
            return Some(Piece::Text(text));
        }
        let length = sequence_length(self.0).unwrap_or(self.0.len());
        let (sequence, rest) = self.0.split_at(length);
        self.0 = rest;
        let parameters = sequence.strip_prefix(b"\x1b[").and_then(|s| s.strip_suffix(b"m"));
        let plain = |p: &&[u8]| p.iter().all(|b| b.is_ascii_digit() || matches!(b, b';' | b':'));
        Some(parameters.filter(plain).map_or(Piece::Other, Piece::Sgr))
    }
}

/// The length of the sequence that `bytes` begin with; `None` where they end before it does.
fn sequence_length(bytes: &[u8]) -> Option<usize> {
    match *bytes.get(1)? {
        b'[' => {
            let at = 2 + bytes[2..].iter().position(|b| !(0x20..=0x3f).contains(b))?;
            // A control character breaks the sequence off and is no part of it.
            Some(if (0x40..=0x7e).contains(&bytes[at]) { at + 1 } else { at })
        }
        b']' | b'P' | b'X' | b'^' | b'_' => {
            let at = 2 + bytes[2..].iter().position(|b| matches!(*b, 0x07 | ESC))?;
            if bytes[at] == 0x07 {
                return Some(at + 1);
            }
            Some(if *bytes.get(at + 1)? == b'\\' { at + 2 } else { at })
        }
        0x20..=0x2f => Some(2 + bytes[2..].iter().position(|b| !(0x20..=0x2f).contains(b))? + 1),
        _ => Some(2),
    }
}

/// Where a line that must be cut before `to` is best cut: before a character or a sequence that would be torn.
pub(super) fn cut_before(bytes: &[u8], to: usize) -> usize {
    let mut cut = to;
    for _ in 0..3 {
        if cut > 0 && bytes.get(cut).is_some_and(|b| b & 0xc0 == 0x80) {
            cut -= 1;
        }
    }
    let near = cut.saturating_sub(64);
    match memchr::memrchr(ESC, &bytes[near..cut]) {
        Some(at) if near + at > 0 && sequence_length(&bytes[near + at..cut]).is_none() => near + at,
        _ => cut,
    }
}

/// What a terminal would show in the end of a line on which a carriage return went back to the start, and the style at its start.
fn last_writing(style: Style, line: &[u8]) -> (Style, &[u8]) {
    let end = line.iter().rposition(|b| *b != b'\r').map_or(0, |n| n + 1);
    match memchr::memrchr(b'\r', &line[..end]) {
        Some(at) => (style.after(&line[..at]), &line[at + 1..end]),
        None => (style, &line[..end]),
    }
}

fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| (*b >= 0x20 && *b != 0x7f) || *b == b'\t')
}

/// A line for a page: its text with colours alone, beginning with those in force. Invalid UTF-8 is replaced.
pub(super) fn for_display(style: Style, line: &[u8]) -> String {
    let (style, line) = last_writing(style, line);
    let mut out = style.prefix();
    if is_plain(line) {
        out.push_str(&String::from_utf8_lossy(line));
        return out;
    }
    for piece in Pieces(line) {
        match piece {
            Piece::Text(text) => out.push_str(&String::from_utf8_lossy(&without_controls(text))),
            Piece::Sgr(parameters) => {
                out.push_str("\x1b[");
                out.push_str(&String::from_utf8_lossy(parameters));
                out.push('m');
            }
            Piece::Other => {}
        }
    }
    out
}

/// A line's text alone. Bytes that are not UTF-8 stay as they are.
pub(super) fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    let (_, line) = last_writing(Style::default(), line);
    if is_plain(line) {
        return Cow::Borrowed(line);
    }
    let mut out = Vec::with_capacity(line.len());
    for piece in Pieces(line) {
        if let Piece::Text(text) = piece {
            out.extend_from_slice(&without_controls(text));
        }
    }
    Cow::Owned(out)
}

fn without_controls(text: &[u8]) -> Cow<'_, [u8]> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.iter().copied().filter(|b| (*b >= 0x20 && *b != 0x7f) || *b == b'\t').collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn style_of(text: &str) -> String {
        Style::default().after(text.as_bytes()).prefix()
    }

    #[test]
    fn styles_add_up_and_reset() {
        assert_eq!(style_of("plain"), "");
        assert_eq!(style_of("\x1b[1;31mred"), "\x1b[1;31m");
        assert_eq!(style_of("\x1b[1m\x1b[31m\x1b[44m\x1b[22m"), "\x1b[31;44m");
        assert_eq!(style_of("\x1b[91m\x1b[103m"), "\x1b[91;103m");
        assert_eq!(style_of("\x1b[38;5;200m\x1b[48;2;1;2;3m"), "\x1b[38;5;200;48;2;1;2;3m");
        assert_eq!(style_of("\x1b[38:2::9:8:7m"), "\x1b[38;2;9;8;7m");
        assert_eq!(style_of("\x1b[1;31m ok \x1b[0m"), "");
        assert_eq!(style_of("\x1b[31m\x1b[m"), "");
        // Not colours: a private mode, a cursor move, a title, one that never ends.
        assert_eq!(style_of("\x1b[?25l\x1b[2K\x1b]0;31m\x07\x1b[31"), "");
    }

    #[test]
    fn text_is_what_a_terminal_shows_in_the_end() {
        assert_eq!(&*plain(b"\x1b[32mok\x1b[0m done\r"), b"ok done");
        assert_eq!(&*plain(b"10%\r20%\r100%\r"), b"100%");
        assert_eq!(&*plain(b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x07"), b"link");
        assert_eq!(&*plain(b"a\x08b\0c\td"), b"abc\td");
        assert_eq!(&*plain(b"caf\xe9"), b"caf\xe9");
        assert_eq!(for_display(Style::default(), b"\x1b[31m1%\r\x1b[1m2%\x1b[K"), "\x1b[31m\x1b[1m2%");
        assert_eq!(for_display(Style::default().after(b"\x1b[7m"), b"x\xff"), "\x1b[7mx\u{fffd}");
    }

    #[test]
    fn cuts_spare_characters_and_sequences() {
        let text = "aaé".as_bytes();
        assert_eq!(cut_before(text, 3), 2);
        assert_eq!(cut_before(b"ab\x1b[31mcd", 5), 2);
        assert_eq!(cut_before(b"ab\x1b[31mcd", 7), 7);
        assert_eq!(cut_before(b"abcdef", 3), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(prop_oneof![Just(0x1bu8), Just(b'['), Just(b'm'), Just(b';'), any::<u8>()], 0..60)) {
            let style = Style::default().after(&bytes);
            // A prefix restores exactly what was in force.
            prop_assert_eq!(Style::default().after(style.prefix().as_bytes()), style);
            let text = plain(&bytes);
            prop_assert!(text.iter().all(|b| (*b >= 0x20 && *b != 0x7f) || *b == b'\t'));
            let _ = for_display(style, &bytes);
            let cut = cut_before(&bytes, bytes.len());
            prop_assert!(cut <= bytes.len());
        }
    }
}
