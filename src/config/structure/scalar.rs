//! Texts, numbers and truth values.

use super::{Structure, constants};
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{self, LeafFault};
use crate::config::place::placed;
use crate::config::tree::{Data, Node, Path};
use serde_json::{Number, Value};

impl<'a> Structure<'a> {
    pub(super) fn scalar(&mut self, schema: &'a Value, node: &Node, path: &Path) -> Option<Value> {
        // What takes texts and numbers alike wants the text as it was written: `1.10` is not `1.1`.
        let text = match &node.data {
            Data::Text(text) => Some(text.clone()),
            _ if takes_texts(schema) => node.text(),
            _ => None,
        };
        match (text, &node.data) {
            (Some(text), _) => self.text(schema, text, node, path),
            (None, Data::Number(number, _)) => self.number(schema, number, node, path),
            (None, _) => Some(node.to_value()),
        }
    }

    fn text(&mut self, schema: &'a Value, text: String, node: &Node, path: &Path) -> Option<Value> {
        let words = constants(schema);
        if !words.is_empty() && !words.contains(&text.as_str()) {
            self.unknown_choice(&text, &words, node, path);
            return None;
        }
        if let Err(fault) = check_text(schema, &text) {
            let source = self.sources.get(node.span.file).map_or("", |source| source.text.as_str());
            let span = fault.at.as_ref().map_or(node.span, |at| node.span.part(source, &text, at));
            let message = placed(&fault.message, &self.what(path));
            self.push(path, Fault::new(fault.code, span, message).label(fault.help.unwrap_or_default()));
            return None;
        }
        Some(Value::String(text))
    }

    fn number(&mut self, schema: &'a Value, number: &Number, node: &Node, path: &Path) -> Option<Value> {
        if let Some(wanted) = schema.get("const").filter(|wanted| wanted.as_number() != Some(number)) {
            let fault =
                Fault::new(Code::UnknownChoice, node.span, format!("{} must be {wanted}", self.what(path)));
            self.push(path, fault);
            return None;
        }
        let Some(why) = out_of_range(schema, number.as_f64().unwrap_or_default()) else {
            return Some(Value::Number(number.clone()));
        };
        let fault = Fault::new(Code::OutOfRange, node.span, format!("{} must be {why}", self.what(path)));
        self.push(path, fault);
        None
    }
}

/// What a number would have to be.
fn out_of_range(schema: &Value, value: f64) -> Option<String> {
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    // Schemas of Rust's types name their size, and no maximum.
    let of_type = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => Some(f64::from(u8::MAX)),
        Some("uint16") => Some(f64::from(u16::MAX)),
        Some("uint32") => Some(f64::from(u32::MAX)),
        Some("int32") => Some(f64::from(i32::MAX)),
        _ => None,
    };
    let max = limit("maximum").into_iter().chain(of_type).reduce(f64::min);
    let broken = [
        limit("minimum").filter(|min| value < *min).map(|min| format!("at least {min}")),
        limit("exclusiveMinimum").filter(|min| value <= *min).map(|min| format!("more than {min}")),
        max.filter(|max| value > *max).map(|max| format!("at most {max}")),
        limit("exclusiveMaximum").filter(|max| value >= *max).map(|max| format!("less than {max}")),
    ];
    broken.into_iter().flatten().next()
}

fn takes_texts(schema: &Value) -> bool {
    schema
        .get("type")
        .and_then(Value::as_array)
        .is_some_and(|types| types.iter().any(|name| name == "string"))
}

fn check_text(schema: &Value, text: &str) -> Result<(), LeafFault> {
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        leaf::check_format(format, text)?;
    }
    let length = text.chars().count() as u64;
    if schema.get("minLength").and_then(Value::as_u64).is_some_and(|min| length < min) {
        return Err(LeafFault::new(Code::Empty, "an empty text"));
    }
    if schema.get("maxLength").and_then(Value::as_u64).is_some_and(|max| length > max) {
        return Err(LeafFault::new(Code::OutOfRange, "a text that is too long"));
    }
    // Texts with a format of ours are judged by their parser, which says more than a pattern.
    let pattern = schema.get("pattern").and_then(Value::as_str).filter(|_| schema.get("format").is_none());
    let pattern = pattern.and_then(|pattern| regex::Regex::new(pattern).ok());
    if pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
        let example = schema.get("examples").and_then(|e| e.get(0)).and_then(Value::as_str);
        let fault = LeafFault::new(Code::WrongType, format!("`{text}` is not of the form that is wanted"));
        return Err(match example {
            Some(example) => fault.help(format!("as in `{example}`")),
            None => fault,
        });
    }
    Ok(())
}
