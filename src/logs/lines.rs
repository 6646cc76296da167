//! Lines: output cut at line ends, each channel by itself, counted in the order in which they end.
//!
//! One splitter serves the intake, which counts, and the readers, which show; what it does depends on the bytes of each channel alone and not on
//! how they were cut into frames, so both count alike. It keeps at most [`MAX_LINE`] bytes of an open line: a longer one is
//! shown as several, and its bytes stay as they are.

use super::escapes::{self, Style};
use rouse_agent_protocol::Channel;
use rouse_model::Timestamp;
use serde::{Serialize, Serializer};

/// Most bytes of one shown line.
pub(super) const MAX_LINE: usize = rouse_agent_protocol::MAX_LINE_BYTES;
/// How many bytes past the limit are looked at to find a good cut.
const MARGIN: usize = 4;

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 0.
    pub n: i64,
    /// When its first byte came.
    pub at: Timestamp,
    pub channel: Channel,
    /// Without the line end.
    pub bytes: Vec<u8>,
    /// A line end followed; else it goes on as the next line of its channel, or the log ended here.
    pub ended: bool,
    /// It may still grow: the same number will be said again.
    pub open: bool,
    pub(super) style: Style,
}

impl Line {
    /// As a terminal shows it in the end: colours alone, beginning with those in force.
    #[must_use]
    pub fn text(&self) -> String {
        escapes::for_display(self.style, &self.bytes)
    }

    /// Without colours.
    #[must_use]
    pub fn plain(&self) -> String {
        String::from_utf8_lossy(&escapes::plain(&self.bytes)).into_owned()
    }
}

/// As the API says it.
impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            n: i64,
            at: Timestamp,
            channel: &'a str,
            text: String,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            open: bool,
        }
        let channel = channel_word(self.channel);
        Shown { n: self.n, at: self.at, channel, text: self.text(), open: self.open }.serialize(serializer)
    }
}

/// A channel in the API's words.
#[must_use]
pub fn channel_word(channel: Channel) -> &'static str {
    match channel {
        Channel::Out => "out",
        Channel::Err => "err",
        Channel::Pty => "pty",
    }
}

/// A line as it is found; borrowed, for those who only count.
pub(super) struct Found<'a> {
    pub n: i64,
    pub at: Timestamp,
    pub channel: Channel,
    pub style: Style,
    pub bytes: &'a [u8],
    pub ended: bool,
}

impl Found<'_> {
    pub(super) fn owned(&self, open: bool) -> Line {
        let bytes = self.bytes.to_vec();
        Line {
            n: self.n,
            at: self.at,
            channel: self.channel,
            bytes,
            ended: self.ended,
            open,
            style: self.style,
        }
    }
}

/// Where a log's lines stand at one offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Splitter {
    /// Number of the next line to end.
    pub next: i64,
    pub lanes: [Lane; Channel::ALL.len()],
    /// The channel that wrote last.
    pub touched: usize,
}

/// One channel's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lane {
    /// At the start of the open line.
    pub style: Style,
    pub open: Option<Open>,
}

/// A line that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub at: Timestamp,
    pub head: Vec<u8>,
}

impl Splitter {
    /// Takes more of a channel; says each line that ends.
    pub(super) fn push(
        &mut self,
        channel: Channel,
        at: Timestamp,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Found<'_>),
    ) {
        self.touched = channel as usize;
        while !bytes.is_empty() {
            let (part, ended, rest) = match memchr::memchr(b'\n', bytes) {
                Some(end) => (&bytes[..end], true, &bytes[end + 1..]),
                None => (bytes, false, &[][..]),
            };
            self.add(channel, at, part, ended, sink);
            bytes = rest;
        }
    }

    /// Whether what comes next on a channel begins a line.
    pub(super) fn at_line_start(&self, channel: Channel) -> bool {
        self.lanes[channel as usize].open.is_none()
    }

    /// Takes lines of a channel as counted: whole ones, none of them long or with an escape sequence.
    pub(super) fn skip(&mut self, channel: Channel, lines: u32) {
        self.touched = channel as usize;
        self.next += i64::from(lines);
    }

    fn add(
        &mut self,
        channel: Channel,
        at: Timestamp,
        mut part: &[u8],
        ended: bool,
        sink: &mut impl FnMut(Found<'_>),
    ) {
        let Self { next, lanes, .. } = self;
        let lane = &mut lanes[channel as usize];
        let mut say = |style: &mut Style, at: Timestamp, bytes: &[u8], ended: bool| {
            sink(Found { n: *next, at, channel, style: *style, bytes, ended });
            *style = style.after(bytes);
            *next += 1;
        };
        if ended && lane.open.is_none() && part.len() <= MAX_LINE {
            say(&mut lane.style, at, part, true);
            return;
        }
        let mut open = lane.open.take().unwrap_or_else(|| Open { at, head: Vec::new() });
        while open.head.len() + part.len() > MAX_LINE {
            let taken = part.len().min(MAX_LINE + MARGIN - open.head.len());
            open.head.extend_from_slice(&part[..taken]);
            part = &part[taken..];
            let cut = escapes::cut_before(&open.head, MAX_LINE);
            say(&mut lane.style, open.at, &open.head[..cut], false);
            open.head.drain(..cut);
            open.at = at;
        }
        open.head.extend_from_slice(part);
        if ended {
            say(&mut lane.style, open.at, &open.head, true);
        } else {
            lane.open = Some(open);
        }
    }

    /// The log ends: what is open ends with it, first begun first.
    pub(super) fn finish(&mut self, sink: &mut impl FnMut(Found<'_>)) {
        let mut open: Vec<(Open, Channel)> =
            Channel::ALL.iter().filter_map(|c| Some((self.lanes[*c as usize].open.take()?, *c))).collect();
        open.sort_by_key(|(open, channel)| (open.at, *channel));
        for (open, channel) in open {
            let style = self.lanes[channel as usize].style;
            sink(Found { n: self.next, at: open.at, channel, style, bytes: &open.head, ended: false });
            self.next += 1;
        }
    }

    /// The line that was written to last and has not ended.
    pub(super) fn open_line(&self) -> Option<Line> {
        let lane = &self.lanes[self.touched];
        let open = lane.open.as_ref()?;
        let channel = Channel::ALL[self.touched];
        let found =
            Found { n: self.next, at: open.at, channel, style: lane.style, bytes: &open.head, ended: false };
        Some(found.owned(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: Timestamp = Timestamp(7);

    fn split(parts: &[(Channel, &[u8])]) -> Vec<(i64, Channel, String, bool)> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        let mut sink = |l: Found<'_>| {
            lines.push((l.n, l.channel, String::from_utf8_lossy(l.bytes).into_owned(), l.ended))
        };
        for (channel, bytes) in parts {
            splitter.push(*channel, T, bytes, &mut sink);
        }
        splitter.finish(&mut sink);
        lines
    }

    #[test]
    fn channels_do_not_tear_each_others_lines() {
        let lines =
            split(&[(Channel::Out, b"half a "), (Channel::Err, b"warning\n"), (Channel::Out, b"line\nrest")]);
        let expected = [
            (0, Channel::Err, "warning".to_owned(), true),
            (1, Channel::Out, "half a line".to_owned(), true),
            (2, Channel::Out, "rest".to_owned(), false),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_has_the_colour_that_was_in_force() {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        splitter.push(Channel::Out, T, b"\x1b[31mred\nstill\x1b[0m\nplain\n", &mut |l| {
            lines.push(l.owned(false).text())
        });
        assert_eq!(lines, ["\x1b[31mred", "\x1b[31mstill\x1b[0m", "plain"]);
    }

    #[test]
    fn a_long_line_is_shown_as_several_and_never_kept_whole() {
        let mut splitter = Splitter::default();
        let mut bytes = 0;
        let mut count = 0;
        for _ in 0..1600 {
            splitter.push(Channel::Out, T, &[b'x'; 64 * 1024], &mut |l| {
                bytes += l.bytes.len();
                count += 1;
            });
            let kept = splitter.lanes[0].open.as_ref().map_or(0, |o| o.head.len());
            assert!(kept <= MAX_LINE + MARGIN);
        }
        splitter.finish(&mut |l| {
            bytes += l.bytes.len();
            count += 1;
        });
        assert_eq!((bytes, count), (1600 * 64 * 1024, 1600 * 4));
    }

    proptest! {
        #[test]
        fn how_output_was_cut_into_frames_does_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b"\n".to_vec()), Just(b"\x1b[31m".to_vec()), Just("é".as_bytes().to_vec()), Just(vec![b'a'; 9000])], 0..30),
            cuts in proptest::collection::vec(1usize..20_000, 0..12),
        ) {
            let text = text.concat();
            let whole = split(&[(Channel::Out, &text)]);
            let mut parts: Vec<(Channel, &[u8])> = Vec::new();
            let mut rest = &text[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                parts.push((Channel::Out, now));
                rest = later;
            }
            parts.push((Channel::Out, rest));
            prop_assert_eq!(split(&parts), whole);
        }
    }
}
