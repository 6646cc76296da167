//! Reads server-sent events.

use super::error::CliError;
use reqwest::Response;

/// A line of a stream is never longer; whatever sends one is no master.
const LONGEST_LINE: usize = 8 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Where to go on from after it.
    pub id: Option<String>,
    /// `message` where the stream names none.
    pub event: String,
    pub data: String,
}

/// A stream of events.
pub(super) struct Stream {
    response: Response,
    parser: Parser,
}

impl Stream {
    pub(super) fn new(response: Response) -> Self {
        Self { response, parser: Parser::default() }
    }

    /// The next event; `None` where the stream has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, CliError> {
        loop {
            if let Some(message) = self.parser.next() {
                return Ok(Some(message));
            }
            match self.response.chunk().await.map_err(CliError::Transport)? {
                Some(chunk) => self.parser.feed(&chunk)?,
                None => return Ok(None),
            }
        }
    }
}

#[derive(Default)]
struct Parser {
    buffer: Vec<u8>,
    begun: Message,
    has_data: bool,
    ready: std::collections::VecDeque<Message>,
}

impl Parser {
    fn next(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(end) = memchr::memchr(b'\n', &self.buffer[start..]) {
            let line = String::from_utf8_lossy(&self.buffer[start..start + end]).into_owned();
            start += end + 1;
            self.line(line.strip_suffix('\r').unwrap_or(&line));
        }
        self.buffer.drain(..start);
        if self.buffer.len() > LONGEST_LINE {
            return Err(anyhow::anyhow!("an event of the stream is longer than {LONGEST_LINE} bytes").into());
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            let message = std::mem::take(&mut self.begun);
            if std::mem::take(&mut self.has_data) {
                let event = if message.event.is_empty() { "message".to_owned() } else { message.event };
                self.ready.push_back(Message { event, ..message });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.begun.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.begun.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.begun.data.push('\n');
                }
                self.begun.data.push_str(value);
            }
            // A comment is a heartbeat.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cut() {
        let text =
            ": beat\n\nid: 7\nevent: build\ndata: {\"a\":\ndata: 1}\n\nid: 8\r\ndata:x\r\n\r\ndata: cut off";
        let whole = |id: &str, event: &str, data: &str| Message {
            id: Some(id.into()),
            event: event.into(),
            data: data.into(),
        };
        let expected = vec![whole("7", "build", "{\"a\":\n1}"), whole("8", "message", "x")];
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            parser.feed(&text.as_bytes()[..cut]).unwrap();
            parser.feed(&text.as_bytes()[cut..]).unwrap();
            let mut seen = Vec::new();
            while let Some(message) = parser.next() {
                seen.push(message);
            }
            assert_eq!(seen, expected, "cut at {cut}");
        }
    }
}
