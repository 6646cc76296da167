//! YAML → a tree in which every node knows where it stands. Knows YAML and nothing of what the keys mean.

mod reader;

use serde_json::{Number, Value};
use std::fmt;
use std::ops::Range;

pub(crate) use reader::read;

/// A range of bytes in one of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Index of the source file.
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub(crate) fn contains(self, inner: Self) -> bool {
        self.file == inner.file && self.start <= inner.start && inner.end <= self.end
    }

    /// Where a part of the text that this span holds stands in the source: quotes, escapes and the indentation of a block lie between
    /// the two, so the part is counted by how often it occurred before. The whole span where it cannot be found.
    pub(crate) fn part(self, source: &str, text: &str, at: &Range<usize>) -> Self {
        let found = text.get(at.clone()).filter(|part| !part.is_empty()).and_then(|part| {
            let before = text.get(..at.end)?.matches(part).count().checked_sub(1)?;
            let (offset, _) = source.get(self.start..self.end)?.match_indices(part).nth(before)?;
            Some((self.start + offset, self.start + offset + part.len()))
        });
        found.map_or(self, |(start, end)| Self { file: self.file, start, end })
    }
}

/// One value, with where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub span: Span,
    pub data: Data,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    /// The number, and its text as it was written.
    Number(Number, String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    pub(crate) fn empty_map() -> Self {
        Self { span: Span::default(), data: Data::Map(Vec::new()) }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// How many levels it has below itself.
    fn height(&self) -> usize {
        match &self.data {
            Data::List(items) => items.iter().map(|item| item.height() + 1).max().unwrap_or(0),
            Data::Map(entries) => entries.iter().map(|entry| entry.value.height() + 1).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// What a person calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "`true` or `false`",
            Data::Number(number, _) if number.is_f64() => "a fraction",
            Data::Number(..) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }

    /// The scalar's text as it was written.
    pub(crate) fn text(&self) -> Option<String> {
        match &self.data {
            Data::Bool(yes) => Some(yes.to_string()),
            Data::Number(_, text) | Data::Text(text) => Some(text.clone()),
            Data::Null | Data::List(_) | Data::Map(_) => None,
        }
    }

    /// The plain value, without places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(yes) => Value::Bool(*yes),
            Data::Number(number, _) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => items.iter().map(Self::to_value).collect(),
            Data::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.value.to_value())).collect(),
        }
    }

    /// The node at a path.
    pub(crate) fn at(&self, path: &Path) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, part| match &node.data {
            Data::Map(_) => node.get(part),
            Data::List(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The node at a path, or the nearest above it that is there.
    fn nearest(&self, path: &Path) -> (&Self, Option<&Entry>) {
        let (mut node, mut last) = (self, None);
        for part in &path.0 {
            let next = match &node.data {
                Data::Map(_) => node.entry(part).map(|entry| (&entry.value, Some(entry))),
                Data::List(items) => {
                    part.parse::<usize>().ok().and_then(|i| items.get(i)).map(|item| (item, None))
                }
                _ => None,
            };
            let Some((value, entry)) = next else { break };
            (node, last) = (value, entry);
        }
        (node, last)
    }

    /// Where the value at a path stands.
    pub(crate) fn value_span(&self, path: &Path) -> Span {
        self.nearest(path).0.span
    }

    /// Where the key of the value at a path stands; the value itself within a list.
    pub(crate) fn key_span(&self, path: &Path) -> Span {
        let (node, entry) = self.nearest(path);
        entry.map_or(node.span, |entry| entry.key_span)
    }
}

/// The way from the root to a node: keys, and indices written as numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Path(pub Vec<String>);

impl Path {
    pub(crate) fn of<const N: usize>(parts: [&str; N]) -> Self {
        Self(parts.iter().map(|&part| part.to_owned()).collect())
    }

    pub(crate) fn join(&self, part: impl fmt::Display) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.to_string());
        Self(parts)
    }

    pub(crate) fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }
}
