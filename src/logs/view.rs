//! What readers are given: lines, ranges of them, a live tail, the bytes as they came, and the text without colours.

use super::frames::Frame;
use super::lines::{Line, Splitter};
use super::read::{Got, Reader, Target};
use super::{LogError, Logs, escapes};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use rouse_agent_protocol::Channel;
use rouse_model::LogId;
use serde::Serialize;
use std::collections::VecDeque;

/// How much is cut into lines at once.
const BITE: u64 = 16 * 1024;
/// Most bytes in one page of lines.
const PAGE_BYTES: usize = 4 << 20;
/// Pieces of a download.
const CHUNK: usize = 64 * 1024;

/// A range of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinesPage {
    pub lines: Vec<Line>,
    /// Where the next page begins.
    pub next: i64,
    /// Sealed, and these were the last.
    pub end: bool,
}

/// How far a log has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogStatus {
    pub bytes: u64,
    /// Those that have ended; when it is sealed, all.
    pub lines: i64,
    pub sealed: bool,
    pub note: Option<String>,
}

/// Whether to wait at the end of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    UntilNow,
    Follow,
}

/// A log as lines.
struct Lines {
    reader: Reader,
    splitter: Splitter,
    from: i64,
    frames: VecDeque<Frame>,
    ready: VecDeque<Line>,
    /// The open line as it was last said: its number and length.
    said: Option<(i64, usize)>,
    ended: bool,
    sealed: bool,
}

impl Lines {
    async fn begin(logs: &Logs, log: LogId, target: Target) -> Result<Self, LogError> {
        let (reader, splitter) = Reader::begin(logs, log, target).await?;
        let from = if let Target::Line(n) = target { n } else { 0 };
        let (frames, ready) = (VecDeque::new(), VecDeque::new());
        Ok(Self { reader, splitter, from, frames, ready, said: None, ended: false, sealed: false })
    }

    async fn next(&mut self, mode: Mode) -> Result<Option<Line>, LogError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            if let Some(frame) = self.frames.pop_front() {
                self.bite(frame);
                continue;
            }
            match self.reader.next().await? {
                Got::Frames(frames) => self.frames = frames.into(),
                Got::End => {
                    self.sealed = true;
                    self.finish();
                }
                Got::Nothing if mode == Mode::UntilNow => self.finish(),
                Got::Nothing => match self.open_line() {
                    Some(line) => return Ok(Some(line)),
                    None => self.reader.wait().await,
                },
            }
        }
    }

    /// A frame of line ends alone must not become a frame's length of lines at once.
    fn bite(&mut self, frame: Frame) {
        let cut = frame.offset + BITE;
        if let Some(rest) = frame.within(cut, u64::MAX) {
            self.frames.push_front(rest);
        }
        if let Some(now) = frame.within(0, cut) {
            let Self { splitter, ready, from, .. } = self;
            splitter.push(now.channel, now.at, &now.bytes, &mut |line| {
                if line.n >= *from {
                    ready.push_back(line.owned(false));
                }
            });
        }
    }

    fn finish(&mut self) {
        let Self { splitter, ready, from, sealed, .. } = self;
        splitter.finish(&mut |line| {
            if line.n >= *from {
                ready.push_back(line.owned(!*sealed));
            }
        });
        self.ended = true;
    }

    /// The line that has begun, where it was not said so before.
    fn open_line(&mut self) -> Option<Line> {
        let line = self.splitter.open_line().filter(|line| line.n >= self.from)?;
        let said = Some((line.n, line.bytes.len()));
        if self.said == said {
            return None;
        }
        self.said = said;
        Some(line)
    }
}

impl Logs {
    /// At most `limit` lines from number `from` on; a negative number counts from the end. A growing log's open line comes last, marked as such.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn lines(&self, log: LogId, from: i64, limit: usize) -> Result<LinesPage, LogError> {
        let from = if from < 0 { (self.status(log).await?.lines + from).max(0) } else { from };
        let mut all = Lines::begin(self, log, Target::Line(from)).await?;
        let mut page = LinesPage { lines: Vec::new(), next: from, end: false };
        let mut bytes = 0;
        while page.lines.len() < limit && bytes < PAGE_BYTES {
            let Some(line) = all.next(Mode::UntilNow).await? else {
                page.end = all.sealed;
                break;
            };
            bytes += line.bytes.len();
            if !line.open {
                page.next = line.n + 1;
            }
            page.lines.push(line);
        }
        Ok(page)
    }

    /// Lines from number `from` on as they come, until the log is sealed. A line that is still open is said with what it has, and again when it
    /// has more: the same number replaces it.
    pub fn follow(&self, log: LogId, from: i64) -> BoxStream<'static, Result<Line, LogError>> {
        self.stream_lines(log, Target::Line(from.max(0)), Mode::Follow)
    }

    fn stream_lines(
        &self,
        log: LogId,
        target: Target,
        mode: Mode,
    ) -> BoxStream<'static, Result<Line, LogError>> {
        let begun = (None, self.clone());
        stream::try_unfold(begun, move |(lines, logs)| async move {
            let mut lines: Lines = match lines {
                Some(lines) => lines,
                None => Lines::begin(&logs, log, target).await?,
            };
            Ok(lines.next(mode).await?.map(|line| (line, (Some(lines), logs))))
        })
        .boxed()
    }

    /// The bytes from `from` on as they came; `follow` goes on until the log is sealed.
    pub fn raw(&self, log: LogId, from: u64, follow: bool) -> BoxStream<'static, Result<Bytes, LogError>> {
        let begun = (None, VecDeque::new(), self.clone());
        stream::try_unfold(begun, move |(reader, mut frames, logs)| async move {
            let mut reader: Reader = match reader {
                Some(reader) => reader,
                None => {
                    let mut reader = Reader::begin(&logs, log, Target::Byte(from)).await?.0;
                    reader.offset = reader.offset.max(from);
                    reader
                }
            };
            loop {
                if let Some(frame) = frames.pop_front() {
                    let frame: Frame = frame;
                    return Ok(Some((frame.bytes, (Some(reader), frames, logs))));
                }
                match reader.next().await? {
                    Got::Frames(more) => frames = more.into(),
                    Got::Nothing if follow => reader.wait().await,
                    Got::Nothing | Got::End => return Ok(None),
                }
            }
        })
        .boxed()
    }

    /// The text as it is now: without escape sequences, of each line what a carriage return left.
    pub fn plain(&self, log: LogId) -> BoxStream<'static, Result<Bytes, LogError>> {
        let begun = (None, self.clone());
        stream::try_unfold(begun, move |(lines, logs)| async move {
            let mut lines: Lines = match lines {
                Some(lines) => lines,
                None => Lines::begin(&logs, log, Target::Line(0)).await?,
            };
            let mut out = Vec::new();
            while out.len() < CHUNK {
                let Some(line) = lines.next(Mode::UntilNow).await? else { break };
                out.extend_from_slice(&escapes::plain(&line.bytes));
                if line.ended {
                    out.push(b'\n');
                }
            }
            Ok((!out.is_empty()).then(|| (Bytes::from(out), (Some(lines), logs))))
        })
        .boxed()
    }

    /// The last lines of at most so many bytes in all, without escape sequences.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn plain_tail(&self, log: LogId, bytes: usize) -> Result<String, LogError> {
        let end = self.status(log).await?.bytes;
        let target = Target::Byte(end.saturating_sub(bytes as u64));
        let mut lines = Lines::begin(self, log, target).await?;
        let (mut kept, mut size) = (VecDeque::new(), 0);
        while let Some(line) = lines.next(Mode::UntilNow).await? {
            let mut text = escapes::plain(&line.bytes).into_owned();
            if line.ended {
                text.push(b'\n');
            }
            size += text.len();
            kept.push_back(text);
            while size > bytes
                && let Some(first) = kept.pop_front()
            {
                size -= first.len();
            }
        }
        let all: Vec<u8> = kept.into_iter().flatten().collect();
        Ok(String::from_utf8_lossy(&all).into_owned())
    }

    /// How many lines there are now that `matches`, in the text as [`Logs::plain`] gives it.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn count(&self, log: LogId, matches: impl Fn(&str) -> bool) -> Result<usize, LogError> {
        let mut lines = Lines::begin(self, log, Target::Line(0)).await?;
        let mut count = 0;
        while let Some(line) = lines.next(Mode::UntilNow).await? {
            count += usize::from(matches(&line.plain()));
        }
        Ok(count)
    }

    /// What was written to standard output, or to a terminal, without escape sequences; `None` where that is longer than `most` bytes.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn output(&self, log: LogId, most: usize) -> Result<Option<String>, LogError> {
        let mut lines = Lines::begin(self, log, Target::Line(0)).await?;
        let mut text = String::new();
        while let Some(line) = lines.next(Mode::UntilNow).await? {
            if line.channel == Channel::Err {
                continue;
            }
            text.push_str(&line.plain());
            if line.ended {
                text.push('\n');
            }
            if text.len() > most {
                return Ok(None);
            }
        }
        Ok(Some(text))
    }

    /// How far a log has come, what is in memory included.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn status(&self, log: LogId) -> Result<LogStatus, LogError> {
        if let Some(entry) = self.known(log)
            && self.load(&entry).await.is_ok()
        {
            let run = {
                let state = entry.lock();
                let live = matches!(state.phase, super::entry::Phase::Open | super::entry::Phase::Sealing);
                live.then(|| state.run())
            };
            if let Some(run) = run {
                return Ok(LogStatus {
                    bytes: run.end(),
                    lines: run.lines().next,
                    sealed: false,
                    note: None,
                });
            }
        }
        let row = self.inner.store.log(log).await?.ok_or(LogError::Unknown(log))?;
        Ok(LogStatus {
            bytes: row.bytes.cast_unsigned(),
            lines: row.lines,
            sealed: row.sealed,
            note: row.note,
        })
    }
}
