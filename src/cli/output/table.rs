//! Tables without borders: columns as wide as what they hold, the last one cut at the edge of the terminal.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// One cell: text, and how it looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(in crate::cli) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new() }
    }
}

/// A heading and rows of as many cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

const GAP: usize = 2;

impl Table {
    pub(in crate::cli) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    pub(in crate::cli) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.heading.len());
        self.rows.push(cells);
    }

    /// For a terminal of so many columns, or for a pipe.
    pub(in crate::cli) fn text(&self, width: Option<usize>) -> String {
        let clean = |text: &str| text.lines().next().unwrap_or_default().replace(char::is_control, " ");
        let mut lines: Vec<Vec<Cell>> = Vec::with_capacity(self.rows.len() + 1);
        lines.push(self.heading.iter().map(|word| Cell::styled(word.to_uppercase(), super::DIM)).collect());
        for row in &self.rows {
            lines.push(row.iter().map(|cell| Cell { text: clean(&cell.text), style: cell.style }).collect());
        }
        let widths: Vec<usize> = (0..self.heading.len())
            .map(|n| {
                lines.iter().filter_map(|line| line.get(n)).map(|cell| cell.text.width()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for line in lines {
            text.push_str(&print_line(&line, &widths, width));
            text.push('\n');
        }
        text
    }
}

fn print_line(line: &[Cell], widths: &[usize], limit: Option<usize>) -> String {
    let mut text = String::new();
    let mut at = 0;
    for (n, (cell, width)) in line.iter().zip(widths).enumerate() {
        let is_last = n + 1 == line.len();
        let shown = match limit {
            Some(limit) if is_last => cut(&cell.text, limit.saturating_sub(at).max(8)),
            _ => cell.text.clone(),
        };
        let style = cell.style;
        if shown.is_empty() || style == Style::new() {
            text.push_str(&shown);
        } else {
            text.push_str(&format!("{style}{shown}{style:#}"));
        }
        if !is_last {
            let fill = width + GAP - shown.width();
            text.push_str(&" ".repeat(fill));
            at += width + GAP;
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_last_is_cut() {
        let mut table = Table::new(&["id", "what"]);
        table.row(vec!["1".into(), "a long story of many words".into()]);
        table.row(vec!["100".into(), "two\nlines".into()]);
        let plain = anstream::adapter::strip_str(&table.text(None)).to_string();
        assert_eq!(plain, "ID   WHAT\n1    a long story of many words\n100  two\n");
        let narrow = anstream::adapter::strip_str(&table.text(Some(15))).to_string();
        assert_eq!(narrow, "ID   WHAT\n1    a long st…\n100  two\n");
    }

    #[test]
    fn wide_characters_count_as_they_are_seen() {
        assert_eq!(cut("日本語日本語", 5), "日本…");
    }
}
