//! Finds out how a shell reads each place of a script where a value is wanted.
//!
//! It follows quotes, substitutions, here-documents and comments as POSIX shells and bash agree on
//! them. Where they do not agree, or the text gives no certainty, it remembers the doubt and refuses
//! holes from there on: a refused template has a way round, a wrongly quoted one is a hole in the wall.
//! A script without holes never comes here.

mod arithmetic;
mod heredoc;
mod quotes;

use super::super::fault::TemplateFault;
use super::super::template::Piece;
use super::readers::{self, Word};
use heredoc::Heredoc;

/// How the reference to a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Unquoted,
    /// Within double quotes or an unquoted here-document.
    Quoted,
    Comment,
}

const WAY_ROUND: &str = "set a variable by `env:` and use that variable here";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Char(char),
    /// Length of the hole in the template.
    Hole(usize),
}

/// What the lexer is inside of. The stack's first frame is the script itself.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a script nests few frames, and most are commands")]
enum Frame {
    Command(Command),
    Double {
        opened: usize,
    },
    /// `${…}`; `quoted` when it stands within double quotes or a here-document.
    Parameter {
        opened: usize,
        quoted: bool,
    },
    /// `$((…))`, `((…))`, `$[…]`.
    Arithmetic {
        opened: usize,
        depth: usize,
        close: char,
    },
    /// The body of an unquoted here-document.
    Body,
}

/// Command text: the script, or the inside of `$(…)`.
#[derive(Debug, Default)]
struct Command {
    /// Where `$(` stands; `None` for the script itself.
    opened: Option<usize>,
    /// Open parentheses; true for those of `name=(…)`.
    parentheses: Vec<bool>,
    word: Option<Word>,
    words: Vec<Word>,
    /// What the next word is, where it is no word of the command.
    aside: Option<Aside>,
    /// The word of a here-string.
    fed: Option<Word>,
    pending: Vec<Heredoc>,
    /// A hole in an earlier member of this pipeline.
    piped: Option<(usize, usize)>,
    /// A command on this line reads its input as code.
    line_reads_code: bool,
    hole: Option<(usize, usize)>,
}

/// A word that belongs to a redirection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aside {
    File,
    HereString,
}

impl Command {
    /// Whether a `[` here begins an array's index, which bash reads to its end whatever stands in it.
    fn indexes(&self) -> bool {
        match &self.word {
            Some(word) => readers::at_command(&self.words) && readers::is_name(&word.text),
            None => self.in_list(),
        }
    }

    /// Within `name=(…)`.
    fn in_list(&self) -> bool {
        self.parentheses.last() == Some(&true)
    }
}

struct Lexer {
    items: Vec<(usize, Item)>,
    at: usize,
    limit: usize,
    bash: bool,
    stack: Vec<Frame>,
    places: Vec<Place>,
    /// The first hole that the shell reads.
    hole: Option<(usize, usize)>,
    doubt: Option<(usize, &'static str)>,
}

type Step = Result<(), TemplateFault>;

/// The place of each hole, in order; or the first that cannot be written safely.
pub(super) fn places(pieces: &[Piece], bash: bool) -> Result<Vec<Place>, TemplateFault> {
    let mut items = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Literal { offset, text } => {
                items.extend(text.char_indices().map(|(at, c)| (offset + at, Item::Char(c))));
            }
            Piece::Hole { offset, length, .. } => items.push((*offset, Item::Hole(*length))),
        }
    }
    let limit = items.len();
    let stack = vec![Frame::Command(Command::default())];
    let mut lexer = Lexer { items, at: 0, limit, bash, stack, places: Vec::new(), hole: None, doubt: None };
    lexer.run()?;
    lexer.finish()?;
    Ok(lexer.places)
}

impl Lexer {
    fn run(&mut self) -> Step {
        while self.at < self.limit {
            let (offset, item) = self.items[self.at];
            match item {
                Item::Hole(length) => self.hole(offset, length)?,
                Item::Char(c) => match self.stack.last() {
                    Some(Frame::Command(_)) | None => self.in_command(offset, c)?,
                    Some(Frame::Double { .. }) => self.in_double(offset, c)?,
                    Some(Frame::Parameter { quoted, .. }) => self.in_parameter(offset, c, *quoted)?,
                    Some(Frame::Arithmetic { close, .. }) => self.in_arithmetic(offset, c, *close)?,
                    Some(Frame::Body) => self.in_body(offset, c)?,
                },
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Step {
        let unclosed = match self.stack.last() {
            Some(Frame::Double { opened }) => Some((*opened, "double quotes")),
            Some(Frame::Parameter { opened, .. }) => Some((*opened, "`${…}`")),
            Some(Frame::Arithmetic { opened, .. }) => Some((*opened, "arithmetic")),
            Some(Frame::Command(Command { opened: Some(opened), .. })) => Some((*opened, "`$(…)`")),
            _ => None,
        };
        match unclosed {
            Some((opened, what)) => Err(unclosed_fault(opened, what)),
            None => self.end_command(false),
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        let at = self.at + ahead;
        match self.items.get(at).filter(|_| at < self.limit) {
            Some((_, Item::Char(c))) => Some(*c),
            _ => None,
        }
    }

    fn hole_follows(&self) -> Option<(usize, usize)> {
        let at = self.at + 1;
        match self.items.get(at).filter(|_| at < self.limit) {
            Some((offset, Item::Hole(length))) => Some((*offset, *length)),
            _ => None,
        }
    }

    fn doubt(&mut self, offset: usize, why: &'static str) {
        self.doubt.get_or_insert((offset, why));
    }

    /// The innermost command text.
    fn command(&mut self) -> Option<&mut Command> {
        self.stack.iter_mut().rev().find_map(|frame| match frame {
            Frame::Command(command) => Some(command),
            _ => None,
        })
    }

    /// The word that literal characters belong to: none within `${…}`, arithmetic or a body.
    fn word(&mut self) -> Option<&mut Word> {
        for frame in self.stack.iter_mut().rev() {
            match frame {
                Frame::Double { .. } => {}
                Frame::Command(command) => return Some(command.word.get_or_insert_default()),
                _ => return None,
            }
        }
        None
    }

    fn literal(&mut self, c: char) {
        if let Some(word) = self.word() {
            word.text.push(c);
        } else if let Some(word) = self.command().and_then(|command| command.word.as_mut()) {
            word.inside.push(c);
        }
    }

    fn hole(&mut self, offset: usize, length: usize) -> Step {
        let fault = |message: &str| Err(TemplateFault::new(offset, length, message).help(WAY_ROUND));
        if let Some((_, why)) = self.doubt {
            return fault(&format!("it is not certain how a shell reads this place: {why}"));
        }
        for frame in &self.stack {
            match frame {
                Frame::Arithmetic { .. } => {
                    return fault("a value cannot be put into arithmetic, where the shell evaluates it");
                }
                Frame::Parameter { .. } => return fault("a value cannot be put within `${…}`"),
                _ => {}
            }
        }
        self.hole.get_or_insert((offset, length));
        self.places.push(match self.stack.last() {
            Some(Frame::Command(_)) => Place::Unquoted,
            _ => Place::Quoted,
        });
        if let Some(word) = self.word() {
            let before = word.text.len();
            word.hole.get_or_insert((offset, length, before));
        }
        if let Some(command) = self.command() {
            command.hole.get_or_insert((offset, length));
        }
        self.at += 1;
        Ok(())
    }

    fn in_command(&mut self, offset: usize, c: char) -> Step {
        if ";&|<>(".contains(c) && self.command().is_some_and(|c| c.in_list()) {
            self.doubt(offset, "bash breaks off a list at such a sign and goes on with the next line");
        }
        match c {
            '\\' => return self.backslash(true),
            '\'' => {
                self.word();
                return self.single_quotes(offset);
            }
            '"' => {
                self.word();
                self.stack.push(Frame::Double { opened: offset });
            }
            '$' => return self.dollar(offset),
            '`' => return self.backticks(offset),
            '#' if self.command().is_some_and(|c| c.word.is_none()) => {
                self.comment();
                return Ok(());
            }
            ' ' | '\t' => self.end_word(offset),
            '\n' => {
                self.end_command(false)?;
                self.at += 1;
                return self.bodies(offset);
            }
            ';' | '&' | '|' => return self.operator(c),
            '(' => return self.open_parenthesis(offset),
            '[' if self.command().is_some_and(|c| c.indexes()) => {
                self.literal('[');
                self.stack.push(Frame::Arithmetic { opened: offset, depth: 1, close: ']' });
            }
            ')' => self.close_parenthesis(offset)?,
            '<' if self.peek(1) == Some('<') => return self.here(offset),
            '<' | '>' if self.peek(1) == Some('(') => {
                self.word();
                self.stack.push(Frame::Command(Command { opened: Some(offset), ..Command::default() }));
                self.at += 1;
            }
            '<' | '>' => self.redirection(offset),
            c => self.literal(c),
        }
        self.at += 1;
        Ok(())
    }

    fn redirection(&mut self, offset: usize) {
        let Some(command) = self.command() else { return };
        // the number in `2>file`
        if command
            .word
            .as_ref()
            .is_some_and(|w| w.hole.is_none() && w.text.bytes().all(|b| b.is_ascii_digit()))
        {
            command.word = None;
        }
        self.end_word(offset);
        if let Some(command) = self.command() {
            command.aside = Some(Aside::File);
        }
        // `>&` and `>|` are one sign
        if matches!(self.peek(1), Some('&' | '|')) {
            self.at += 1;
        }
    }

    fn operator(&mut self, c: char) -> Step {
        // `&>file` redirects and ends nothing
        let redirects = c == '&' && self.peek(1) == Some('>');
        let doubled = self.peek(1) == Some(c);
        if !redirects {
            self.end_command(c == '|' && !doubled)?;
        }
        self.at += if doubled { 2 } else { 1 };
        Ok(())
    }

    fn open_parenthesis(&mut self, offset: usize) -> Step {
        let first = self.command().is_some_and(|c| c.word.is_none() && readers::at_command(&c.words));
        if first && self.peek(1) == Some('(') {
            self.stack.push(Frame::Arithmetic { opened: offset, depth: 2, close: ')' });
            self.at += 2;
            return Ok(());
        }
        let list = self.command().is_some_and(|c| c.word.as_ref().is_some_and(readers::opens_list));
        if list && !self.command().is_some_and(|c| readers::takes_list(&c.words)) {
            self.doubt(offset, "it is in a list that is an argument of a command, which may evaluate it");
        }
        self.end_command(false)?;
        if let Some(command) = self.command() {
            command.parentheses.push(list);
        }
        self.at += 1;
        Ok(())
    }

    fn close_parenthesis(&mut self, offset: usize) -> Step {
        self.end_command(false)?;
        let Some(command) = self.command() else { return Ok(()) };
        if command.parentheses.pop().is_some() {
            // a subshell or a list ended
        } else if command.opened.is_some() {
            let (hole, pending) = (command.hole, !command.pending.is_empty());
            self.stack.pop();
            if pending {
                self.doubt(offset, "a here-document begins within `$(…)` and not on a line of its own");
            }
            // what a substitution gives is as little trusted as what went into it
            if let (Some((offset, length)), Some(outer)) = (hole, self.command()) {
                outer.hole.get_or_insert((offset, length));
                let word = outer.word.get_or_insert_default();
                let before = word.text.len();
                word.hole.get_or_insert((offset, length, before));
            }
        }
        Ok(())
    }

    fn end_word(&mut self, offset: usize) {
        let Some(command) = self.command() else { return };
        let Some(word) = command.word.take() else { return };
        match command.aside.take() {
            Some(Aside::File) => return,
            Some(Aside::HereString) => return command.fed = Some(word),
            None => {}
        }
        let case = command.opened.is_some() && word.text == "case" && readers::at_command(&command.words);
        command.words.push(word);
        if case {
            self.doubt(offset, "shells differ on `case` within `$(…)`");
        }
    }

    fn end_command(&mut self, pipes: bool) -> Step {
        let offset = self.items.get(self.at.min(self.items.len().saturating_sub(1))).map_or(0, |i| i.0);
        self.end_word(offset);
        let Some(command) = self.command() else { return Ok(()) };
        let words = std::mem::take(&mut command.words);
        let fed = command.fed.take();
        command.aside = None;
        if let Some(reading) = readers::judge(&words, fed.as_ref()) {
            let message = format!("this value would be read as {}", reading.what);
            return Err(TemplateFault::new(reading.offset, reading.length, message).help(WAY_ROUND));
        }
        if readers::reads_input_as_code(&words) {
            command.line_reads_code = true;
            if let Some((offset, length)) = command.piped {
                let message = "this value would reach a command that reads its input as code";
                return Err(TemplateFault::new(offset, length, message).help(WAY_ROUND));
            }
        }
        let hole = words.iter().chain(&fed).find_map(|w| w.hole).map(|(offset, length, _)| (offset, length));
        command.piped = if pipes { command.piped.or(hole) } else { None };
        if readers::makes_integers(&words) {
            // in a loop or a function, what comes before is run after it too
            if let Some((offset, length)) = self.hole {
                let message = "this script declares an integer, and bash evaluates what is assigned to it";
                return Err(TemplateFault::new(offset, length, message).help(WAY_ROUND));
            }
            self.doubt(offset, "what is assigned to an integer is evaluated, and one was declared before");
        }
        Ok(())
    }

    fn in_double(&mut self, offset: usize, c: char) -> Step {
        match c {
            '\\' => return self.backslash(false),
            '"' => {
                self.stack.pop();
            }
            '$' => return self.dollar(offset),
            '`' => return self.backticks(offset),
            c => {
                let nested = self.stack.iter().any(|f| matches!(f, Frame::Parameter { quoted: true, .. }));
                if c == '\'' && nested {
                    self.doubt(offset, "shells differ on quotes within a quoted `${…}`");
                }
                self.literal(c);
            }
        }
        self.at += 1;
        Ok(())
    }

    fn in_parameter(&mut self, offset: usize, c: char, quoted: bool) -> Step {
        match c {
            '\\' => return self.backslash(false),
            '\'' if !quoted => return self.single_quotes(offset),
            '\'' => self.doubt(offset, "shells differ on quotes within a quoted `${…}`"),
            '"' => self.stack.push(Frame::Double { opened: offset }),
            '$' => return self.dollar(offset),
            '`' => return self.backticks(offset),
            '}' => {
                self.stack.pop();
            }
            c => self.literal(c),
        }
        self.at += 1;
        Ok(())
    }

    fn in_body(&mut self, offset: usize, c: char) -> Step {
        match c {
            '\\' => return self.backslash(false),
            '$' => return self.dollar(offset),
            '`' => return self.backticks(offset),
            _ => {}
        }
        self.at += 1;
        Ok(())
    }
}

fn unclosed_fault(opened: usize, what: &str) -> TemplateFault {
    TemplateFault::new(opened, 1, format!("the script ends within {what} opened here"))
}
