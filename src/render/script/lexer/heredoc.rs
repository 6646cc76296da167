//! Here-documents and here-strings.

use super::{Aside, Frame, Item, Lexer, Step, TemplateFault, WAY_ROUND, unclosed_fault};

/// A here-document whose body has not been reached yet.
#[derive(Debug)]
pub(super) struct Heredoc {
    delimiter: String,
    opened: usize,
    /// `<<-`: leading tabs do not count.
    strip_tabs: bool,
    /// Any part of the delimiter was quoted: nothing in the body is replaced.
    quoted: bool,
}

impl Lexer {
    /// At `<<`.
    pub(super) fn here(&mut self, opened: usize) -> Step {
        self.end_word(opened);
        if self.peek(2) == Some('<') {
            if let Some(command) = self.command() {
                command.aside = Some(Aside::HereString);
            }
            self.at += 3;
            return Ok(());
        }
        self.at += 2;
        let strip_tabs = self.peek(0) == Some('-');
        if strip_tabs {
            self.at += 1;
        }
        while matches!(self.peek(0), Some(' ' | '\t')) {
            self.at += 1;
        }
        let (delimiter, quoted) = self.delimiter(opened)?;
        if let Some(command) = self.command() {
            command.pending.push(Heredoc { delimiter, opened, strip_tabs, quoted });
        }
        Ok(())
    }

    fn delimiter(&mut self, opened: usize) -> Result<(String, bool), TemplateFault> {
        let (mut delimiter, mut quoted) = (String::new(), false);
        let mut within: Option<char> = None;
        while self.at < self.limit {
            let (offset, item) = self.items[self.at];
            match (item, within) {
                (Item::Hole(length), _) => {
                    let message = "the delimiter of a here-document cannot be a value";
                    return Err(TemplateFault::new(offset, length, message));
                }
                (Item::Char(c), Some(quote)) if c == quote => within = None,
                (Item::Char(c @ ('\'' | '"')), None) => (within, quoted) = (Some(c), true),
                (Item::Char('\\'), None | Some('"')) => {
                    quoted = true;
                    self.at += 1;
                    delimiter.extend(self.peek(0));
                }
                (Item::Char(c), None) if c.is_whitespace() || ";&|<>()".contains(c) => break,
                (Item::Char(c), _) => {
                    if matches!(c, '$' | '`' | '\n') {
                        self.doubt(offset, "shells differ on such delimiters of a here-document");
                    }
                    delimiter.push(c);
                }
            }
            self.at += 1;
        }
        match within {
            Some(_) => Err(unclosed_fault(opened, "the delimiter of a here-document")),
            None if delimiter.is_empty() && !quoted => Err(unclosed_fault(opened, "a here-document")),
            None => Ok((delimiter, quoted)),
        }
    }

    /// Just past a newline in command text: the bodies of the line's here-documents follow.
    pub(super) fn bodies(&mut self, offset: usize) -> Step {
        let Some(command) = self.command() else { return Ok(()) };
        let pending = std::mem::take(&mut command.pending);
        let reads_code = std::mem::take(&mut command.line_reads_code);
        let outer_waits = self
            .stack
            .iter()
            .any(|frame| matches!(frame, Frame::Command(command) if !command.pending.is_empty()));
        if outer_waits {
            self.doubt(offset, "a line ends within `$(…)` before a here-document's body");
        }
        for heredoc in pending {
            self.body(&heredoc, reads_code)?;
        }
        Ok(())
    }

    fn body(&mut self, heredoc: &Heredoc, reads_code: bool) -> Step {
        let (end, after) = self.extent(heredoc);
        let hole = self.items[self.at..end].iter().find_map(|(offset, item)| match item {
            Item::Hole(length) => Some((*offset, *length)),
            Item::Char(_) => None,
        });
        if let Some((offset, length)) = hole {
            let refused = if heredoc.quoted {
                Some(
                    "a value cannot be put into a here-document with a quoted delimiter, where the shell replaces nothing",
                )
            } else if reads_code {
                Some("this value would reach a command that reads its input as code")
            } else {
                None
            };
            if let Some(message) = refused {
                return Err(TemplateFault::new(offset, length, message).help(WAY_ROUND));
            }
        }
        if !heredoc.quoted {
            let depth = self.stack.len();
            let outer = std::mem::replace(&mut self.limit, end);
            self.stack.push(Frame::Body);
            self.run()?;
            self.limit = outer;
            if self.stack.len() != depth + 1 {
                self.doubt(heredoc.opened, "a here-document ends within a substitution");
            }
            self.stack.truncate(depth);
        }
        self.at = after;
        Ok(())
    }

    /// Where the body that starts here ends, and where the text goes on after the delimiter's line.
    fn extent(&mut self, heredoc: &Heredoc) -> (usize, usize) {
        let mut line_start = self.at;
        let mut continued = false;
        while line_start < self.limit {
            let newline = self.items[line_start..self.limit]
                .iter()
                .position(|(_, item)| *item == Item::Char('\n'))
                .map(|length| line_start + length);
            let line_end = newline.unwrap_or(self.limit);
            let mut line = String::new();
            let mut filled = false;
            for (_, item) in &self.items[line_start..line_end] {
                match item {
                    Item::Char(c) => line.push(*c),
                    Item::Hole(_) => filled = true,
                }
            }
            let shown = if heredoc.strip_tabs { line.trim_start_matches('\t') } else { &line };
            let next = newline.map_or(self.limit, |at| at + 1);
            if !filled && shown == heredoc.delimiter {
                if !continued {
                    return (line_start, next);
                }
                self.doubt(heredoc.opened, "a backslash joins the end of a here-document to its body");
            }
            let backslashes = line.len() - line.trim_end_matches('\\').len();
            continued = !heredoc.quoted && backslashes % 2 == 1;
            line_start = next;
        }
        (self.limit, self.limit)
    }
}
