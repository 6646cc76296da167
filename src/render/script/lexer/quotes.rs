//! Quotes of all kinds, what begins with `$`, and comments.

use super::{Command, Frame, Item, Lexer, Place, Step, TemplateFault, WAY_ROUND, unclosed_fault};

impl Lexer {
    /// A backslash and what it protects. Outside quotes a backslash and a newline are nothing at all.
    pub(super) fn backslash(&mut self, in_command: bool) -> Step {
        if let Some((offset, length)) = self.hole_follows() {
            let fault = TemplateFault::new(offset, length, "a backslash stands before this value");
            return Err(fault.help("remove it; the value is quoted anyway"));
        }
        match self.peek(1) {
            Some('\n') => {}
            Some(c) => {
                if !in_command && !matches!(c, '$' | '`' | '"' | '\\') {
                    self.literal('\\');
                }
                self.literal(c);
            }
            None => {}
        }
        self.at += 2;
        Ok(())
    }

    pub(super) fn dollar(&mut self, offset: usize) -> Step {
        if let Some((offset, length)) = self.hole_follows() {
            let fault = TemplateFault::new(offset, length, "a `$` stands before this value");
            return Err(fault.help("write `{{ … }}` without the `$`"));
        }
        let in_command = matches!(self.stack.last(), Some(Frame::Command(_)));
        let quoted = match self.stack.last() {
            Some(Frame::Double { .. } | Frame::Body) => true,
            Some(Frame::Parameter { quoted, .. }) => *quoted,
            _ => false,
        };
        self.expansion(in_command);
        match self.peek(1) {
            Some('(') if self.peek(2) == Some('(') => {
                self.stack.push(Frame::Arithmetic { opened: offset, depth: 2, close: ')' });
                self.at += 3;
            }
            Some('(') => {
                let command = Command { opened: Some(offset), ..Command::default() };
                self.stack.push(Frame::Command(command));
                self.at += 2;
            }
            Some('{') => {
                if self.peek(2).is_none_or(|c| c.is_whitespace() || c == '|' || c == '(') {
                    self.doubt(offset, "shells differ on `${ …}`");
                }
                self.stack.push(Frame::Parameter { opened: offset, quoted });
                self.at += 2;
            }
            Some('[') => {
                self.stack.push(Frame::Arithmetic { opened: offset, depth: 1, close: ']' });
                self.at += 2;
            }
            Some('\'') if !quoted => {
                self.at += 1;
                return self.ansi_quotes(offset);
            }
            Some('"') if in_command => self.at += 1,
            _ => {
                self.literal('$');
                self.at += 1;
            }
        }
        Ok(())
    }

    fn expansion(&mut self, bare: bool) {
        if let Some(word) = self.word() {
            word.expands |= bare;
        }
    }

    pub(super) fn single_quotes(&mut self, opened: usize) -> Step {
        self.at += 1;
        while self.at < self.limit {
            match self.items[self.at] {
                (_, Item::Char('\'')) => {
                    self.at += 1;
                    return Ok(());
                }
                (_, Item::Char(c)) => self.literal(c),
                (offset, Item::Hole(length)) => {
                    return Err(TemplateFault::new(
                        offset,
                        length,
                        "a value cannot be put within single quotes, where the shell replaces nothing",
                    )
                    .help("use double quotes, or set a variable by `env:`"));
                }
            }
            self.at += 1;
        }
        Err(unclosed_fault(opened, "single quotes"))
    }

    /// `$'…'`: bash and newer shells take `\'` for a quote within it, others for its end.
    pub(super) fn ansi_quotes(&mut self, opened: usize) -> Step {
        self.at += 1;
        while self.at < self.limit {
            match self.items[self.at] {
                (_, Item::Char('\'')) => {
                    self.at += 1;
                    return Ok(());
                }
                (offset, Item::Char('\\')) => {
                    if self.peek(1) == Some('\'') && !self.bash {
                        self.doubt(offset, "shells differ on `\\'` within `$'…'`");
                    }
                    self.at += 1;
                    if let Some(c) = self.peek(0) {
                        self.literal(c);
                        self.at += 1;
                    }
                    continue;
                }
                (_, Item::Char(c)) => self.literal(c),
                (offset, Item::Hole(length)) => {
                    let message = "a value cannot be put within `$'…'`, where the shell replaces nothing";
                    return Err(TemplateFault::new(offset, length, message).help(WAY_ROUND));
                }
            }
            self.at += 1;
        }
        Err(unclosed_fault(opened, "`$'…'`"))
    }

    /// Shells look for the closing backtick first and read what is inside afterwards.
    pub(super) fn backticks(&mut self, opened: usize) -> Step {
        self.expansion(matches!(self.stack.last(), Some(Frame::Command(_))));
        self.at += 1;
        while self.at < self.limit {
            match self.items[self.at] {
                (_, Item::Char('`')) => {
                    self.at += 1;
                    return Ok(());
                }
                (_, Item::Char('\\')) => self.at += 1,
                (offset, Item::Char('\'' | '"' | '#')) => {
                    self.doubt(offset, "quotes and comments within backticks are read twice");
                }
                (_, Item::Char(_)) => {}
                (offset, Item::Hole(length)) => {
                    return Err(TemplateFault::new(offset, length, "a value cannot be put within backticks")
                        .help("write `$(…)` instead of the backticks"));
                }
            }
            self.at += 1;
        }
        Err(unclosed_fault(opened, "backticks"))
    }

    /// To the end of the line; holes stay as they are written.
    pub(super) fn comment(&mut self) {
        while self.at < self.limit {
            match self.items[self.at].1 {
                Item::Char('\n') => return,
                Item::Char(_) => {}
                Item::Hole(_) => self.places.push(Place::Comment),
            }
            self.at += 1;
        }
    }
}
