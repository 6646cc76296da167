//! A text cut into what stands there and what is to be filled in.

use minijinja::Environment;

use super::engine::engine;
use super::expression::{self, Evaluated, end_of_text};
use super::fault::{RenderError, TemplateFault};
use super::scope::Scope;

/// A stretch of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Used as it stands. `offset` is where its first byte is in the template.
    Literal { offset: usize, text: String },
    /// `{{ expression }}`; the offset and length are of the whole, braces included.
    Hole { offset: usize, length: usize, expression: String },
}

/// A template whose expressions have been checked.
pub(super) struct Template {
    pub pieces: Vec<Piece>,
    /// The names at the root that its expressions use, with the offset of the first hole that does.
    pub names: Vec<(String, usize)>,
    engine: &'static Environment<'static>,
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Template, TemplateFault> {
        let pieces = cut(text)?;
        let engine = engine();
        let mut names: Vec<(String, usize)> = Vec::new();
        for piece in &pieces {
            let Piece::Hole { offset, expression, .. } = piece else { continue };
            let used =
                expression::check(engine, expression, &[]).map_err(|fault| fault.shifted(offset + 2))?;
            for name in used {
                if !names.iter().any(|(known, _)| *known == name) {
                    names.push((name, *offset));
                }
            }
        }
        Ok(Template { pieces, names, engine })
    }

    pub(super) fn has_holes(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Hole { .. }))
    }

    pub(super) fn evaluate(&self, expression: &str, scope: &Scope) -> Result<Evaluated, RenderError> {
        expression::evaluate(self.engine, expression, scope)
    }
}

fn cut(text: &str) -> Result<Vec<Piece>, TemplateFault> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    let literal = |from: usize, to: usize, pieces: &mut Vec<Piece>| {
        if from < to {
            pieces.push(Piece::Literal { offset: from, text: text[from..to].to_owned() });
        }
    };
    while at < bytes.len() {
        if bytes[at..].starts_with(b"{{") {
            let end = end_of_hole(text, at)?;
            literal(start, at, &mut pieces);
            let expression = text[at + 2..end - 2].to_owned();
            pieces.push(Piece::Hole { offset: at, length: end - at, expression });
            (start, at) = (end, end);
        } else if bytes[at..].starts_with(b"{%")
            && let Some(keyword) = statement(&text[at..])
        {
            let (inner, end) = raw_block(text, at, keyword)?;
            literal(start, at, &mut pieces);
            literal(inner.start, inner.end, &mut pieces);
            (start, at) = (end, end);
        } else {
            at += 1;
        }
    }
    literal(start, bytes.len(), &mut pieces);
    Ok(pieces)
}

/// The offset just past the `}}` that closes the hole at `at`.
fn end_of_hole(text: &str, at: usize) -> Result<usize, TemplateFault> {
    let bytes = text.as_bytes();
    if bytes.get(at + 2) == Some(&b'-') {
        return Err(TemplateFault::new(at, 3, "white space is not trimmed by `{{-` here")
            .help("write `{{`; a minus sign needs a space before it"));
    }
    let mut depth = 0_usize;
    let mut i = at + 2;
    while i < bytes.len() {
        match bytes[i] {
            quote @ (b'"' | b'\'') => match end_of_text(bytes, i, quote) {
                Some(end) => i = end,
                None => break,
            },
            b'}' if depth == 0 && bytes.get(i + 1) == Some(&b'}') => return Ok(i + 2),
            b'}' => {
                depth = depth.saturating_sub(1);
                i += 1;
            }
            b'{' => {
                depth += 1;
                i += 1;
            }
            _ => i += 1,
        }
    }
    Err(TemplateFault::new(at, 2, "`{{` is not closed by `}}`")
        .help("braces that are not meant for Rouse stand between `{% raw %}` and `{% endraw %}`"))
}

/// The statement's keyword, if one starts here. `{%` before anything else is plain text, as in
/// `printf '{%s}'`.
fn statement(rest: &str) -> Option<&str> {
    const KEYWORDS: [&str; 17] = [
        "raw", "endraw", "if", "elif", "else", "endif", "for", "endfor", "set", "endset", "block", "macro",
        "include", "import", "filter", "with", "do",
    ];
    let inner = rest.strip_prefix("{%")?.trim_start_matches(['-', '+']).trim_start();
    let end = inner.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(inner.len());
    let keyword = &inner[..end];
    // `printf '{%d}'` is no statement, `{%set x%}` is one: a keyword ends at white space or `%`
    let closed = inner[end..].starts_with(|c: char| c.is_whitespace() || c == '%' || c == '-');
    (closed && KEYWORDS.contains(&keyword)).then_some(keyword)
}

/// The inside of the raw block at `at`, and the offset just past it.
fn raw_block(text: &str, at: usize, keyword: &str) -> Result<(std::ops::Range<usize>, usize), TemplateFault> {
    let rest = &text[at..];
    let length = rest.find("%}").map_or(2, |end| end + 2);
    if keyword != "raw" {
        return Err(TemplateFault::new(at, length, format!("`{{% {keyword} %}}` is not available"))
            .help("templates have `{{ expression }}` and `{{ a if b else c }}`; a step takes `if:`"));
    }
    let from = at + length;
    let mut search = from;
    while let Some(found) = text[search..].find("{%") {
        let open = search + found;
        if statement(&text[open..]) == Some("endraw")
            && let Some(end) = text[open..].find("%}")
        {
            return Ok((from..open, open + end + 2));
        }
        search = open + 2;
    }
    Err(TemplateFault::new(at, length, "`{% raw %}` is not closed by `{% endraw %}`"))
}
