//! What goes to stdout: tables for people, JSON and YAML for programs, both of the API's own views.

pub(super) mod human;
mod table;
mod yaml;

pub(super) use table::{Cell, Table};

use super::client::as_view;
use super::error::CliError;
use super::exit::Exit;
use crate::api::views::{BuildPhase, BuildResult};
use crate::ctx::{Clock, SystemClock};
use anstream::ColorChoice;
use anstyle::{AnsiColor, Effects, Style};
use rouse_model::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

pub(super) const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
pub(super) const HINT: Style = AnsiColor::Cyan.on_default();
pub(super) const DIM: Style = Style::new().effects(Effects::DIMMED);
pub(super) const BOLD: Style = Style::new().effects(Effects::BOLD);
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const ODD: Style = AnsiColor::Yellow.on_default();
pub(super) const ACTIVE: Style = AnsiColor::Blue.on_default();

/// How data is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// The API's own objects.
    Json,
    /// The same, as YAML.
    Yaml,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    #[default]
    Auto,
    Always,
    Never,
}

impl Colour {
    pub(super) fn apply(self) {
        match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        }
        .write_global();
    }
}

/// Where verbs write to.
pub(crate) struct Out {
    format: Format,
    /// Text for stdout; whoever reads it decides on colours.
    data: Box<dyn Write>,
    /// Bytes for stdout as they are.
    bytes: Box<dyn Write>,
    /// Lines for a person.
    notes: Mutex<Box<dyn Write>>,
    /// The moment that `ago` is told from.
    now: Timestamp,
}

impl Out {
    /// To this process's own streams.
    pub(super) fn new(format: Format) -> Self {
        let (data, bytes, notes) = (anstream::stdout(), std::io::stdout(), anstream::stderr());
        Self::to(format, Box::new(data), Box::new(bytes), Box::new(notes), SystemClock.now())
    }

    /// To other writers, as at another moment.
    pub(super) fn to(
        format: Format,
        data: Box<dyn Write>,
        bytes: Box<dyn Write>,
        notes: Box<dyn Write>,
        now: Timestamp,
    ) -> Self {
        Self { format, data, bytes, notes: Mutex::new(notes), now }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Text to stdout.
    pub(super) fn print(&mut self, text: &str) -> Result<(), CliError> {
        self.data.write_all(text.as_bytes())?;
        self.data.flush()?;
        Ok(())
    }

    /// Bytes to stdout as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.bytes.write_all(bytes)?;
        self.bytes.flush()?;
        Ok(())
    }

    /// A line to stderr, for a person.
    pub(super) fn note(&self, text: &str) {
        let mut notes = self.notes.lock().expect("nothing panics while it is held");
        // Nobody is left to be told that stderr is closed.
        let _ = writeln!(notes, "{text}");
    }

    /// What to do next.
    pub(super) fn hint(&self, text: &str) {
        self.note(&format!("{HINT}hint:{HINT:#} {text}"));
    }

    /// An object: as data, or as a person reads it.
    pub(super) fn show<T: DeserializeOwned>(
        &mut self,
        value: Value,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        self.show_at(value, |view, _| text(view))
    }

    /// The same, for those who tell how long ago something was.
    pub(super) fn show_at<T: DeserializeOwned>(
        &mut self,
        value: Value,
        text: impl FnOnce(&T, Timestamp) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Table => {
                let view = as_view(value)?;
                self.print(&text(&view, self.now))
            }
            Format::Json | Format::Yaml => self.data(&value),
        }
    }

    /// A list: as data, or as a table; `empty` teaches whoever has nothing yet.
    pub(super) fn list<T: DeserializeOwned>(
        &mut self,
        items: Vec<Value>,
        empty: &str,
        table: impl FnOnce(&[T], Timestamp) -> Table,
    ) -> Result<(), CliError> {
        if self.format != Format::Table {
            return self.data(&Value::Array(items));
        }
        if items.is_empty() {
            self.note(empty);
            return Ok(());
        }
        let views: Vec<T> = as_view(Value::Array(items))?;
        let text = table(&views, self.now).text(width());
        self.print(&text)
    }

    /// One field of each, a line each: for `-q`.
    pub(super) fn ids(&mut self, items: &[Value], field: &str) -> Result<Exit, CliError> {
        let ids = items.iter().filter_map(|item| item.get(field));
        let lines: String =
            ids.map(|id| id.as_str().map_or_else(|| format!("{id}\n"), |text| format!("{text}\n"))).collect();
        self.print(&lines)?;
        Ok(Exit::Success)
    }

    /// JSON or YAML; JSON also for whoever asked for a table of what has none.
    pub(super) fn data(&mut self, value: &Value) -> Result<(), CliError> {
        let text = match self.format {
            Format::Yaml => yaml::text(value),
            Format::Json | Format::Table => {
                let mut text = serde_json::to_string_pretty(value).map_err(CliError::Answer)?;
                text.push('\n');
                text
            }
        };
        self.print(&text)
    }
}

/// Columns of the terminal; `None` where stdout is none.
fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    named.or_else(terminal_width)
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

pub(super) fn result_style(result: BuildResult) -> Style {
    match result {
        BuildResult::Success => GOOD,
        BuildResult::Warnings | BuildResult::Cancelled | BuildResult::Retry => ODD,
        BuildResult::Failure | BuildResult::Exception => BAD,
        BuildResult::Skipped => DIM,
    }
}

/// How a build stands, in one word: its result, or what it is doing.
pub(super) fn standing(result: Option<BuildResult>, phase: BuildPhase) -> Cell {
    match result {
        Some(result) => Cell::styled(result.as_str(), result_style(result)),
        None => Cell::styled(phase.as_str(), ACTIVE),
    }
}

/// `✓`, `✗` and their like, always beside a word.
pub(super) fn mark(result: Option<BuildResult>) -> String {
    let Some(result) = result else { return format!("{ACTIVE}●{ACTIVE:#}") };
    let style = result_style(result);
    let mark = match result {
        BuildResult::Success => '✓',
        BuildResult::Warnings => '!',
        BuildResult::Failure | BuildResult::Exception => '✗',
        BuildResult::Skipped => '–',
        BuildResult::Retry => '↻',
        BuildResult::Cancelled => '⊘',
    };
    format!("{style}{mark}{style:#}")
}
