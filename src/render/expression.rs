//! One expression: what is between `{{` and `}}`, or the whole of an `if:`.

use std::sync::PoisonError;

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, Value};

use super::fault::{RenderError, TemplateFault};
use super::filters::{FILTERS, TESTS};
use super::scope::{Asked, ROOTS, Scope, context};

/// A piece of an expression, as far as the checks need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Text,
    Sign(u8),
}

/// Splits an expression into words, texts and signs, each with its offset.
fn tokens(source: &str) -> Vec<(usize, Token<'_>)> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at = end_of_text(bytes, at, quote).unwrap_or(bytes.len());
                found.push((start, Token::Text));
            }
            b if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 => {
                while at < bytes.len()
                    && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] >= 0x80)
                {
                    at += 1;
                }
                found.push((start, Token::Word(&source[start..at])));
            }
            b => {
                at += 1;
                if !b.is_ascii_whitespace() {
                    found.push((start, Token::Sign(b)));
                }
            }
        }
    }
    found
}

/// The offset just past a quoted text that starts at `at`.
pub(super) fn end_of_text(bytes: &[u8], at: usize, quote: u8) -> Option<usize> {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b if b == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Checks an expression; offsets in the fault are relative to `source`.
pub(super) fn check(
    engine: &Environment<'_>,
    source: &str,
    functions: &[&str],
) -> Result<Vec<String>, TemplateFault> {
    if source.trim().is_empty() {
        return Err(TemplateFault::new(0, source.len(), "there is nothing between the braces"));
    }
    let tokens = tokens(source);
    let compiled =
        engine.compile_expression_owned(source.to_owned()).map_err(|e| syntax_fault(source, &e))?;
    check_filters_and_tests(&tokens)?;
    let mut names: Vec<String> = compiled.undeclared_variables(false).into_iter().collect();
    names.sort();
    for name in &names {
        if ROOTS.contains(&name.as_str()) || functions.contains(&name.as_str()) {
            continue;
        }
        let offset = tokens.iter().find(|(_, t)| *t == Token::Word(name)).map_or(0, |(offset, _)| *offset);
        let fault = TemplateFault::new(offset, name.len(), format!("unknown name `{name}`"));
        let known = ROOTS.iter().chain(functions).copied();
        return Err(match nearest(name, known) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => fault
                .help(format!("templates see {}; a property is written `props.{name}`", ROOTS.join(", "))),
        });
    }
    Ok(names)
}

fn syntax_fault(source: &str, error: &minijinja::Error) -> TemplateFault {
    let range = error.range().filter(|r| r.start < r.end && r.end <= source.len());
    let (offset, length) = match range {
        Some(range) => (range.start, range.len()),
        None => (0, source.len()),
    };
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let fault = TemplateFault::new(offset, length, format!("this is not an expression: {detail}"));
    fault.help("braces that are not meant for Rouse stand between `{% raw %}` and `{% endraw %}`")
}

/// The engine looks these up only when it runs; a typo should not wait for a build.
fn check_filters_and_tests(tokens: &[(usize, Token<'_>)]) -> Result<(), TemplateFault> {
    for (i, (_, token)) in tokens.iter().enumerate() {
        let next = |n: usize| tokens.get(i + n).copied();
        let after_dot = i > 0 && tokens[i - 1].1 == Token::Sign(b'.');
        match token {
            Token::Sign(b'|') => {
                if let Some((offset, Token::Word(name))) = next(1) {
                    known("filter", offset, name, &FILTERS)?;
                }
            }
            Token::Word("is") if !after_dot => {
                let named = match next(1) {
                    Some((_, Token::Word("not"))) => next(2),
                    other => other,
                };
                if let Some((offset, Token::Word(name))) = named {
                    known("test", offset, name, &TESTS)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn known(kind: &str, offset: usize, name: &str, list: &[&str]) -> Result<(), TemplateFault> {
    if list.contains(&name) {
        return Ok(());
    }
    let fault = TemplateFault::new(offset, name.len(), format!("unknown {kind} `{name}`"));
    Err(match nearest(name, list.iter().copied()) {
        Some(near) => fault.help(format!("did you mean `{near}`?")),
        None => fault.help(format!("there are: {}", list.join(", "))),
    })
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The result of an expression and whether an untrusted build had a hand in it.
pub(super) struct Evaluated {
    pub value: Value,
    pub tainted: bool,
}

/// Evaluates a checked expression.
pub(super) fn evaluate(
    engine: &Environment<'_>,
    source: &str,
    scope: &Scope,
) -> Result<Evaluated, RenderError> {
    let expression = source.trim().to_owned();
    let compiled = engine
        .compile_expression_owned(source.to_owned())
        .map_err(|e| RenderError::Template(syntax_fault(source, &e)))?;
    let (root, record) = context(scope);
    let result = compiled.eval(root);
    let asked = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
    match result {
        Ok(value) if value.is_undefined() => Err(absent(expression, asked, None)),
        Ok(value) => Ok(Evaluated { value, tainted: asked.tainted }),
        Err(e) if e.kind() == ErrorKind::UndefinedError => Err(absent(expression, asked, Some(e))),
        Err(e) => Err(RenderError::Evaluate { expression, reason: reason(&e) }),
    }
}

fn absent(expression: String, asked: Asked, error: Option<minijinja::Error>) -> RenderError {
    if asked.no_worker {
        return RenderError::NoWorker { expression };
    }
    match asked.missing {
        Some((what, there)) => RenderError::Missing { expression, what, there },
        None => RenderError::Evaluate {
            expression,
            reason: error.map_or_else(|| "it has no value".to_owned(), |e| reason(&e)),
        },
    }
}

/// The engine's message without its template names and line numbers, which mean nothing here.
fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

impl Evaluated {
    /// The value as text; lists, maps and nothing have no one way to be text.
    pub(super) fn into_text(self, expression: &str) -> Result<String, RenderError> {
        match self.value.kind() {
            ValueKind::String | ValueKind::Number => Ok(self.value.to_string()),
            // as YAML, JSON and the shell's users write it, not as the engine does
            ValueKind::Bool => Ok(self.value.is_true().to_string()),
            _ => Err(wrong_kind(
                expression,
                &self.value,
                "a text, a number, true or false (`join` and `json` make a text)",
            )),
        }
    }
}

pub(super) fn wrong_kind(expression: &str, value: &Value, wanted: &'static str) -> RenderError {
    let kind = match value.kind() {
        ValueKind::None => "nothing (null)".to_owned(),
        ValueKind::Seq | ValueKind::Iterable => "a list".to_owned(),
        ValueKind::Map => "a map".to_owned(),
        ValueKind::String => format!("the text {:?}", value.to_string()),
        ValueKind::Number => format!("the number {value}"),
        ValueKind::Bool => format!("the value {value}"),
        other => format!("of kind {other}"),
    };
    RenderError::WrongKind { expression: expression.trim().to_owned(), kind, wanted }
}
