//! Faults on a terminal, in a file, or as JSON.

use super::fault::{Code, Fault, Severity};
use super::source::SourceFile;
use super::tree::Span;
use codespan_reporting::diagnostic::{Diagnostic, Label, Severity as Level};
use codespan_reporting::files::SimpleFiles;
use codespan_reporting::term;
use codespan_reporting::term::termcolor::{Buffer, WriteColor};
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// More than these are counted and not shown: nobody reads on.
const MAX_SHOWN: usize = 200;

/// Longer lines are not repeated in messages: nobody wrote them by hand.
const MAX_LINE: usize = 500;

/// All that is wrong with a configuration, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Where the main file lies; put before names where they are shown.
    pub folder: PathBuf,
    pub sources: Vec<SourceFile>,
    pub list: Vec<Fault>,
}

/// One fault for machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultRecord {
    /// `C012`.
    pub code: String,
    pub severity: Severity,
    pub message: String,
    pub file: Option<String>,
    /// Counted from 1, as `column`, which counts characters.
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// The place just after.
    pub end: Option<Position>,
    /// What to do about it.
    pub help: Vec<String>,
}

/// A place in a file, counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Faults {
    pub(crate) fn new(folder: &Path, mut sources: Vec<SourceFile>, mut list: Vec<Fault>) -> Self {
        list.iter()
            .filter(|fault| fault.code == Code::SecretInText)
            .for_each(|fault| mask(&mut sources, fault));
        list.sort_by_key(|fault| fault.span);
        // A step that several builders inherit is checked for each, and said once.
        list.dedup();
        Self { folder: folder.to_owned(), sources, list }
    }

    #[must_use]
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|fault| fault.severity == Severity::Error).count()
    }

    #[must_use]
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// `2 errors, 0 warnings`.
    #[must_use]
    pub fn counts(&self) -> String {
        let count =
            |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        format!("{}, {}", count(self.errors(), "error"), count(self.warnings(), "warning"))
    }

    /// Each fault with its frame; in colour for a terminal.
    #[must_use]
    pub fn text(&self, colour: bool) -> String {
        let mut files = SimpleFiles::new();
        let ids: Vec<usize> = self
            .sources
            .iter()
            .map(|source| files.add(self.shown(&source.name), source.text.as_str()))
            .collect();
        let config = term::Config::default();
        let mut text = String::new();
        let shown = |fault: &Fault| fault.span.map(|span| self.first_line(span));
        for fault in self.list.iter().take(MAX_SHOWN) {
            if fault.span.is_some_and(|span| self.line_length(span) > MAX_LINE) {
                text.push_str(&self.unframed(fault));
                continue;
            }
            let mut buffer = if colour { Buffer::ansi() } else { Buffer::no_color() };
            let writer: &mut dyn WriteColor = &mut buffer;
            if term::emit_to_write_style(writer, &config, &files, &diagnostic(fault, shown(fault), &ids))
                .is_err()
            {
                text.push_str(&format!("{}: {}\n", fault.code, fault.message));
                continue;
            }
            let framed = String::from_utf8_lossy(buffer.as_slice()).into_owned();
            framed.lines().filter(|line| !is_padding(line)).for_each(|line| {
                text.push_str(line.trim_end());
                text.push('\n');
            });
        }
        if self.list.len() > MAX_SHOWN {
            text.push_str(&format!("… and {} more\n", self.list.len() - MAX_SHOWN));
        }
        text
    }

    /// For machines.
    #[must_use]
    pub fn records(&self) -> Vec<FaultRecord> {
        self.list.iter().map(|fault| self.record(fault)).collect()
    }

    fn record(&self, fault: &Fault) -> FaultRecord {
        let source = fault.span.and_then(|span| Some((span, self.sources.get(span.file)?)));
        let start = source.map(|(span, source)| position(&source.text, span.start));
        let label = Some(&fault.label).filter(|label| !label.is_empty()).cloned();
        FaultRecord {
            code: fault.code.as_str().to_owned(),
            severity: fault.severity,
            message: fault.message.clone(),
            file: source.map(|(_, source)| self.shown(&source.name)),
            line: start.map(|start| start.line),
            column: start.map(|start| start.column),
            end: source.map(|(span, source)| position(&source.text, span.end)),
            help: label.into_iter().chain(fault.notes.iter().cloned()).collect(),
        }
    }

    fn line_length(&self, span: Span) -> usize {
        let text = self.sources.get(span.file).map_or("", |source| source.text.as_str());
        let before =
            text.get(..span.start).and_then(|text| text.rfind('\n')).map_or(0, |newline| newline + 1);
        let after =
            text.get(span.start..).and_then(|text| text.find('\n')).map_or(text.len(), |at| span.start + at);
        after - before
    }

    /// A fault without the line that it stands in.
    fn unframed(&self, fault: &Fault) -> String {
        let FaultRecord { code, message, file, line, column, help, .. } = self.record(fault);
        let severity = if fault.severity == Severity::Error { "error" } else { "warning" };
        let mut text = format!("{severity}[{code}]: {message}\n");
        if let Some(((file, line), column)) = file.zip(line).zip(column) {
            text.push_str(&format!("  ┌─ {file}:{line}:{column}\n"));
        }
        help.iter().for_each(|help| text.push_str(&format!("  = {help}\n")));
        text
    }

    /// A map of many lines is pointed at where it begins.
    fn first_line(&self, span: Span) -> Span {
        let text = self.sources.get(span.file).and_then(|source| source.text.get(span.start..span.end));
        let end = text.and_then(|text| text.find('\n')).map_or(span.end, |newline| span.start + newline);
        Span { end, ..span }
    }

    fn shown(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}; nothing was changed", self.text(false), self.counts())
    }
}

impl std::error::Error for Faults {}

/// A secret that stands in the text by mistake is not repeated in messages, which end up in logs.
fn mask(sources: &mut [SourceFile], fault: &Fault) {
    let Some(span) = fault.span else { return };
    let Some(source) = sources.get_mut(span.file) else { return };
    if source.text.is_char_boundary(span.start) && source.text.is_char_boundary(span.end) {
        source.text.replace_range(span.start..span.end, &"*".repeat(span.end - span.start));
    }
}

/// Whether a line holds nothing but a border: the frame is read as well without it.
fn is_padding(line: &str) -> bool {
    let mut in_escape = false;
    line.chars().all(|c| match (in_escape, c) {
        (true, c) => {
            in_escape = c != 'm';
            true
        }
        (false, '\u{1b}') => {
            in_escape = true;
            true
        }
        (false, c) => c == ' ' || c == '│',
    })
}

fn diagnostic(fault: &Fault, span: Option<Span>, ids: &[usize]) -> Diagnostic<usize> {
    let level = match fault.severity {
        Severity::Error => Level::Error,
        Severity::Warning => Level::Warning,
    };
    let id = |span: &Span| ids.get(span.file).copied();
    let primary = span.and_then(|span| {
        let label = Label::primary(id(&span)?, span.start..span.end);
        Some(label.with_message(&fault.label))
    });
    let related = fault.related.iter().filter_map(|(span, word)| {
        Some(Label::secondary(id(span)?, span.start..span.end).with_message(word))
    });
    Diagnostic::new(level)
        .with_code(fault.code)
        .with_message(&fault.message)
        .with_labels(primary.into_iter().chain(related).collect())
        .with_notes(fault.notes.clone())
}

fn position(text: &str, at: usize) -> Position {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> Faults {
        let text = "version: 1\npools:\n  é: {dokcer: {}}\n";
        let at = text.find("dokcer").expect("there");
        let span = Span { file: 0, start: at, end: at + 6 };
        let fault = Fault::new(Code::UnknownKey, span, "unknown key `dokcer` in pool `é`")
            .label("did you mean `docker`?")
            .note("pools take: docker");
        Faults::new(Path::new(""), vec![SourceFile::new("rouse.yaml", text)], vec![fault])
    }

    #[test]
    fn a_fault_has_a_frame() {
        insta::assert_snapshot!(faults().to_string(), @r"
        error[C012]: unknown key `dokcer` in pool `é`
          ┌─ rouse.yaml:3:7
        3 │   é: {dokcer: {}}
          │       ^^^^^^ did you mean `docker`?
          = pools take: docker
        1 error, 0 warnings; nothing was changed
        ");
    }

    #[test]
    fn colour_is_only_for_terminals() {
        assert!(faults().text(true).contains("\u{1b}["));
        assert!(!faults().text(false).contains('\u{1b}'));
        let plain = |text: &str| text.lines().count();
        assert_eq!(plain(&faults().text(true)), plain(&faults().text(false)));
    }

    #[test]
    fn a_line_that_no_screen_holds_is_not_shown() {
        let mut faults = faults();
        faults.sources[0].text.insert_str(19, &" ".repeat(1000));
        let fault = &mut faults.list[0];
        fault.span = fault.span.map(|span| Span { start: span.start + 1000, end: span.end + 1000, ..span });
        insta::assert_snapshot!(faults.to_string(), @r"
        error[C012]: unknown key `dokcer` in pool `é`
          ┌─ rouse.yaml:3:1007
          = did you mean `docker`?
          = pools take: docker
        1 error, 0 warnings; nothing was changed
        ");
    }

    #[test]
    fn records_count_characters_from_one() {
        let record = &faults().records()[0];
        assert_eq!(
            (record.line, record.column, record.end),
            (Some(3), Some(7), Some(Position { line: 3, column: 13 }))
        );
        assert_eq!(record.help, ["did you mean `docker`?", "pools take: docker"]);
    }
}
