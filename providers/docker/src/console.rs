//! The end of what a container printed, fit to be read.

use crate::daemon::Daemon;
use crate::failure::Failed;
use bollard::query_parameters::LogsOptions;
use futures::TryStreamExt;
use rouse_model::Timestamp;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Lines that are read at most.
const LINES: usize = 1000;
/// A daemon that has had nothing for so long has nothing more.
const QUIET: Duration = Duration::from_millis(250);
/// How long one that always has something is listened to, where its clock is behind ours.
const LISTENED: Duration = Duration::from_secs(2);

/// `None` where it printed nothing.
pub(crate) async fn tail(
    daemon: &Daemon,
    container: &str,
    max_bytes: usize,
) -> Result<Option<String>, Failed> {
    // Podman leaves out lines that came in pieces where it is asked for the last ones. A log has no more than a few MiB.
    let lines = if daemon.is_podman().await? { "all".to_owned() } else { LINES.to_string() };
    let options = LogsOptions { tail: lines, ..Default::default() };
    let (text, _) = read(daemon, container, options, max_bytes).await?;
    Ok((!text.is_empty()).then_some(text))
}

/// The end of what a container has printed since a moment, by its daemon's clock, and whether something before that is missing.
///
/// A daemon writes down what is printed a little later than it is, so it is listened to until nothing has come for a while.
pub(crate) async fn since(
    daemon: &Daemon,
    container: &str,
    since: Option<Timestamp>,
    max_bytes: usize,
) -> Result<(String, bool), Failed> {
    let asked = Timestamp(chrono::Utc::now().timestamp_micros());
    let second = since.and_then(|at| i32::try_from(at.0 / 1_000_000).ok()).unwrap_or(0);
    let options = LogsOptions {
        tail: "all".into(),
        since: second,
        follow: true,
        timestamps: true,
        ..Default::default()
    };
    let mut lines = daemon.api().await?.logs(container, Some(of_both(options)));
    let (mut end, until) = (End::of(max_bytes), Instant::now() + LISTENED);
    while let Ok(line) = timeout_at(until.min(Instant::now() + QUIET), lines.try_next()).await {
        let Some(line) = line? else { break };
        let line = line.into_bytes();
        let (at, text) = stamped(&line);
        // The daemon knows whole seconds only.
        if since.zip(at).is_none_or(|(since, at)| at >= since) {
            end.push(text);
        }
        if at.is_some_and(|at| at > asked) {
            break;
        }
    }
    Ok(end.text())
}

/// A line and when it was printed, where the daemon says so before it.
fn stamped(line: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let Some(space) = line.iter().position(|byte| *byte == b' ') else { return (None, line) };
    let stamp = str::from_utf8(&line[..space]).ok();
    match stamp.and_then(|stamp| chrono::DateTime::parse_from_rfc3339(stamp).ok()) {
        Some(at) => (Some(Timestamp(at.timestamp_micros())), &line[space + 1..]),
        None => (None, line),
    }
}

async fn read(
    daemon: &Daemon,
    container: &str,
    options: LogsOptions,
    max_bytes: usize,
) -> Result<(String, bool), Failed> {
    let mut lines = daemon.api().await?.logs(container, Some(of_both(options)));
    let mut end = End::of(max_bytes);
    while let Some(line) = lines.try_next().await? {
        end.push(&line.into_bytes());
    }
    Ok(end.text())
}

fn of_both(options: LogsOptions) -> LogsOptions {
    LogsOptions { stdout: true, stderr: true, ..options }
}

/// Only the end is asked for: no more than twice of it is held.
struct End {
    text: Vec<u8>,
    max_bytes: usize,
    cut: bool,
}

impl End {
    fn of(max_bytes: usize) -> Self {
        Self { text: Vec::new(), max_bytes, cut: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        let surplus = self.text.len().saturating_sub(self.max_bytes.saturating_mul(2).max(64 * 1024));
        self.cut |= surplus > 0;
        self.text.drain(..surplus);
    }

    /// Fit to be read, and whether something before it is missing.
    fn text(self) -> (String, bool) {
        let text = clean(&String::from_utf8_lossy(&self.text));
        let end = last(&text, self.max_bytes);
        (end.to_owned(), self.cut || end.len() < text.len())
    }
}

/// Without colours and other control characters.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                // `ESC [ … letter`, or ESC and one character.
                if chars.next() == Some('[') {
                    chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\n' | '\t' => clean.push(c),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

/// The last so many bytes, whole characters only.
fn last(text: &str, max_bytes: usize) -> &str {
    let from = text.len().saturating_sub(max_bytes);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_moment_before_it() {
        let at = Timestamp(1_795_717_476_836_433);
        assert_eq!(stamped(b"2026-11-26T18:24:36.836433900Z url:/ it\n"), (Some(at), &b"url:/ it\n"[..]));
        assert_eq!(stamped(b"2026-11-26T19:24:36.836433+01:00 \n"), (Some(at), &b"\n"[..]));
        assert_eq!(stamped(b"no moment\n"), (None, &b"no moment\n"[..]));
    }

    #[test]
    fn what_is_shown_is_plain_text() {
        assert_eq!(clean("\u{1b}[1;31mred\u{1b}[0m\r\nnext\u{7}\tx\u{1b}"), "red\nnext\tx");
        assert_eq!(last("grün", 3), "ün");
        assert_eq!(last("grün", 2), "n");
        assert_eq!(last("abc", 10), "abc");
    }
}
