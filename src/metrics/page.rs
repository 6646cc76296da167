//! The reference of the metrics, written from the book itself: `docs/reference/metrics.md`.

use super::book::Described;
use super::{Metrics, levels};
use std::fmt::Write;

const HEAD: &str = include_str!("page/head.md");

/// The page as it is kept in the docs.
#[must_use]
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let heading = "| metric | kind | labels | |\n|---|---|---|---|";
    let _ = writeln!(text, "\n## What is counted and measured\n\n{heading}");
    Metrics::default().book.described.iter().for_each(|described| row(described, &mut text));
    let _ = writeln!(text, "\n## How things stand\n\n{heading}");
    levels::described().iter().for_each(|described| row(described, &mut text));
    text
}

fn row(described: &Described, text: &mut String) {
    let labels: Vec<String> = described.labels.iter().map(|label| format!("`{label}`")).collect();
    let Described { name, kind, help, .. } = described;
    let _ = writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
}
