//! The end of what a container printed, fit to be read.

use crate::daemon::Daemon;
use crate::failure::Failed;
use bollard::query_parameters::LogsOptions;
use futures::TryStreamExt;

/// Lines that are read at most.
const LINES: usize = 1000;

/// `None` where it printed nothing.
pub(crate) async fn tail(
    daemon: &Daemon,
    container: &str,
    max_bytes: usize,
) -> Result<Option<String>, Failed> {
    let options = LogsOptions { tail: LINES.to_string(), ..Default::default() };
    let (text, _) = read(daemon, container, options, max_bytes).await?;
    Ok((!text.is_empty()).then_some(text))
}

/// The end of what a container has printed since a second of 1970, and whether something before that is missing.
pub(crate) async fn since(
    daemon: &Daemon,
    container: &str,
    since: i32,
    max_bytes: usize,
) -> Result<(String, bool), Failed> {
    let options = LogsOptions { tail: "all".into(), since, ..Default::default() };
    read(daemon, container, options, max_bytes).await
}

async fn read(
    daemon: &Daemon,
    container: &str,
    options: LogsOptions,
    max_bytes: usize,
) -> Result<(String, bool), Failed> {
    let options = LogsOptions { stdout: true, stderr: true, ..options };
    let mut lines = daemon.api().await?.logs(container, Some(options));
    let (mut text, mut cut) = (Vec::new(), false);
    while let Some(line) = lines.try_next().await? {
        text.extend_from_slice(&line.into_bytes());
        // Only the end is asked for: no more than twice of it is held.
        let surplus = text.len().saturating_sub(max_bytes.saturating_mul(2).max(64 * 1024));
        cut |= surplus > 0;
        text.drain(..surplus);
    }
    let text = clean(&String::from_utf8_lossy(&text));
    let end = last(&text, max_bytes);
    Ok((end.to_owned(), cut || end.len() < text.len()))
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
    fn what_is_shown_is_plain_text() {
        assert_eq!(clean("\u{1b}[1;31mred\u{1b}[0m\r\nnext\u{7}\tx\u{1b}"), "red\nnext\tx");
        assert_eq!(last("grün", 3), "ün");
        assert_eq!(last("grün", 2), "n");
        assert_eq!(last("abc", 10), "abc");
    }
}
