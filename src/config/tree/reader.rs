//! Events of the YAML parser → nodes. Caps depth and size, counts what aliases repeat, and collects what YAML allows and we do not take.

use super::{Data, Entry, Node, Span};
use crate::config::fault::{Code, Fault};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::Number;
use std::borrow::Cow;
use std::collections::HashMap;

const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 200_000;
const BYTES_OF_A_NODE: usize = 64;

/// Reads one source. `None` for an empty one, and where it cannot be read at all; faults say why.
pub(crate) fn read(file: usize, text: &str, faults: &mut Vec<Fault>) -> Option<Node> {
    let mut reader = Reader {
        file,
        text,
        offsets: Offsets::new(text),
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        faults: Vec::new(),
    };
    let node = reader.document();
    // `{{ x }}` without quotes is two maps to YAML, which then stumbles over what follows.
    let braces = reader.faults.iter().any(|fault| fault.code == Code::BadKey);
    faults.append(&mut reader.faults);
    match node {
        Ok(node) => node,
        Err(fault) if braces && fault.code == Code::NotYaml => None,
        Err(fault) => {
            faults.push(*fault);
            None
        }
    }
}

type Stop<T> = Result<T, Box<Fault>>;

struct Reader<'a> {
    file: usize,
    text: &'a str,
    offsets: Offsets,
    parser: Parser<'a, StrInput<'a>>,
    /// Anchors with their nodes' sizes.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Stop<(Event<'a>, Span)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.span(span.start.index(), span.end.index()))),
            Some(Err(error)) => {
                let at = self.offsets.byte(error.marker().index(), self.text);
                let end = self.text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
                let span = Span { file: self.file, start: at, end };
                if error.info().contains("recursion limit") {
                    return Err(Box::new(too_deep(span)));
                }
                let mut fault = Fault::new(Code::NotYaml, span, format!("not YAML: {}", error.info()));
                if self.text[..at]
                    .lines()
                    .last()
                    .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'))
                    || self.text[at..].starts_with('\t')
                {
                    fault = fault.label("YAML is indented with blanks, never with tabs");
                }
                Err(Box::new(fault))
            }
            None => Ok((Event::StreamEnd, self.span(0, 0))),
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let (start, end) = (self.offsets.byte(start, self.text), self.offsets.byte(end, self.text));
        Span { file: self.file, start, end: end.max(start) }
    }

    fn document(&mut self) -> Stop<Option<Node>> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    self.faults.push(
                        Fault::new(Code::UnusedYaml, span, "a second document in one file")
                            .note("put it in a file of its own under `rouse.d/`"),
                    );
                    return Ok(root);
                }
                Event::DocumentStart(_) => {}
                event => {
                    let node = self.node(event, span, 0)?;
                    root = (node.data != Data::Null).then_some(node);
                }
            }
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Stop<()> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, counting what aliases repeat");
            return Err(Box::new(Fault::new(Code::TooLarge, span, message)));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Stop<Node> {
        if depth > MAX_DEPTH {
            return Err(Box::new(too_deep(span)));
        }
        self.count(1, span)?;
        let before = self.nodes;
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                // A long text weighs as much as many short ones.
                self.count(text.len() / BYTES_OF_A_NODE, span)?;
                (anchor, self.scalar(text, style, span))
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                (anchor, self.list(span, depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                (anchor, self.map(span, depth)?)
            }
            Event::Alias(anchor) => return self.alias(anchor, span, depth),
            _ => (0, Node { span, data: Data::Null }),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    /// What an anchor has named before, once more. Depth and size are counted first.
    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Stop<Node> {
        let named = self.anchors.get(&anchor).map(|(node, size)| (node.height(), *size));
        let Some((height, size)) = named else {
            return Err(Box::new(Fault::new(Code::UnusedYaml, span, "an alias to what is not complete yet")));
        };
        if depth + height > MAX_DEPTH {
            return Err(Box::new(too_deep(span)));
        }
        self.count(size, span)?;
        Ok(self.anchors[&anchor].0.clone())
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if let Some(tag) = tag {
            self.faults.push(
                Fault::new(Code::UnusedYaml, span, format!("the tag `{}` is not taken", shown(tag)))
                    .note("quotes make any value a text"),
            );
        }
    }

    fn list(&mut self, mut span: Span, depth: usize) -> Stop<Node> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                span.end = end_of(items.last().map(|node: &Node| node.span), at, span);
                return Ok(Node { span, data: Data::List(items) });
            }
            items.push(self.node(event, at, depth + 1)?);
        }
    }

    fn map(&mut self, mut span: Span, depth: usize) -> Stop<Node> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<String, Span> = HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                span.end = end_of(entries.last().map(|entry| entry.value.span), at, span);
                return Ok(Node { span, data: Data::Map(entries) });
            }
            let key = self.node(event, at, depth + 1)?;
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            let Some(text) = key.text() else {
                self.faults.push(bad_key(&key));
                continue;
            };
            if text == "<<" {
                let fault = Fault::new(Code::UnusedYaml, key.span, "the merge key `<<` is not taken");
                self.faults.push(fault.note("a builder inherits from another with `like: NAME`"));
                continue;
            }
            if let Some(first) = places.get(&text) {
                let fault = Fault::new(
                    Code::DuplicateKey,
                    key.span,
                    format!("the key `{text}` stands twice in one map"),
                );
                self.faults.push(fault.label("again here").related(*first, "first here"));
                continue;
            }
            places.insert(text.clone(), key.span);
            entries.push(Entry { key: text, key_span: key.span, value });
        }
    }

    fn scalar(&self, text: Cow<'a, str>, style: ScalarStyle, span: Span) -> Node {
        let value = if style == ScalarStyle::Plain { plain(&text) } else { None };
        Node { span, data: value.unwrap_or_else(|| Data::Text(text.into_owned())) }
    }
}

/// As it is written, where it is one of YAML's own.
fn shown(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() }
}

fn too_deep(span: Span) -> Fault {
    Fault::new(Code::TooLarge, span, format!("nested deeper than {MAX_DEPTH} levels"))
}

/// What YAML's core schema makes of a plain scalar that is no text.
fn plain(text: &str) -> Option<Data> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Data::Null),
        "true" | "True" | "TRUE" => return Some(Data::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Data::Bool(false)),
        _ => {}
    }
    let integer = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) => i64::from_str_radix(hex, 16).ok(),
        (_, Some(octal)) => i64::from_str_radix(octal, 8).ok(),
        _ => text.parse::<i64>().ok(),
    };
    if let Some(integer) = integer {
        return Some(Data::Number(integer.into(), text.to_owned()));
    }
    // Rust reads `inf`, `nan` and `infinity` too, which YAML does not write so.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    let float = numeric.then(|| text.parse::<f64>().ok()).flatten().and_then(Number::from_f64)?;
    Some(Data::Number(float, text.to_owned()))
}

fn bad_key(key: &Node) -> Fault {
    let fault = Fault::new(Code::BadKey, key.span, format!("a key is a text, not {}", key.kind()));
    match key.data {
        Data::Map(_) => fault.label("a value that begins with `{{` wants quotes"),
        _ => fault,
    }
}

/// Where a block ends: with its last value, for the parser reports the end of the indentation, which may be lines below.
fn end_of(last: Option<Span>, end: Span, whole: Span) -> usize {
    match last {
        // A flow collection ends with its own bracket.
        _ if end.end > end.start => end.end,
        Some(last) if last.file == whole.file && last.end >= whole.start => last.end,
        _ => end.end.max(whole.end),
    }
}

/// The parser counts characters, spans count bytes.
struct Offsets(Option<Vec<usize>>);

impl Offsets {
    fn new(text: &str) -> Self {
        Self((!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect()))
    }

    fn byte(&self, index: usize, text: &str) -> usize {
        match &self.0 {
            None => index.min(text.len()),
            Some(offsets) => offsets.get(index).copied().unwrap_or(text.len()),
        }
    }
}
