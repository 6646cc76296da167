//! Types of a schema, in words.

use crate::config::leaf;
use crate::config::tree::{Data, Node};
use rouse_contract::units::{Rate, Tariff};
use serde_json::Value;

/// `a whole number`, `text or a list`.
pub(super) fn expected(schemas: &[&Value]) -> String {
    let mut words: Vec<String> = Vec::new();
    let constants: Vec<&str> = schemas.iter().flat_map(|schema| super::constants(schema)).collect();
    for schema in schemas.iter().filter(|schema| super::constants(schema).is_empty()) {
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for name in types {
            let word = match (name, schema.get("format").and_then(Value::as_str)) {
                ("string", Some(format)) if leaf::wants_unit(format) => "a length of time",
                ("string", Some(Rate::FORMAT)) => "a rate of calls",
                ("string", Some(Tariff::FORMAT)) => "an amount of money in a length of time",
                ("string", _) => "text",
                ("integer", _) => "a whole number",
                ("number", _) => "a number",
                ("boolean", _) => "`true` or `false`",
                ("array", _) => "a list",
                ("object", _) => "a map",
                _ => continue,
            };
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
    }
    words.extend(constants.iter().map(|word| format!("`{word}`")));
    match words.split_last() {
        None => "something else".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
    }
}

/// What to do about the usual mistakes.
pub(super) fn hint(schemas: &[&Value], node: &Node) -> String {
    let takes = |name: &str| {
        schemas.iter().any(|schema| match schema.get("type") {
            Some(Value::String(one)) => one == name,
            Some(Value::Array(many)) => many.iter().any(|one| one == name),
            _ => false,
        })
    };
    let unit = schemas.iter().any(|s| s.get("format").and_then(Value::as_str).is_some_and(leaf::wants_unit));
    let is = |format: &str| schemas.iter().any(|s| s.get("format").and_then(Value::as_str) == Some(format));
    let (rate, money) = (is(Rate::FORMAT), is(Tariff::FORMAT));
    match &node.data {
        Data::Number(_, text) if money && !takes("integer") => {
            format!("write the currency and the time: `{text} USD/h`, `{text} USD/day`")
        }
        Data::Number(_, text) if rate => format!("write the unit: `{text}/s`, `{text}/m`, `{text}/h`"),
        Data::Number(_, text) if unit => format!("write the unit: `{text}s`, `{text}m`, `{text}h`"),
        _ if schemas.iter().any(|schema| !super::constants(schema).is_empty()) => String::new(),
        Data::Number(_, text) if takes("string") => format!("write it in quotes: `\"{text}\"`"),
        Data::Bool(yes) if takes("string") => format!("write it in quotes: `\"{yes}\"`"),
        Data::Text(text) if takes("boolean") => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" | "1" | "true" => "write `true`".to_owned(),
            "no" | "off" | "n" | "0" | "false" => "write `false`".to_owned(),
            _ => String::new(),
        },
        Data::Text(text) if takes("number") && text.parse::<f64>().is_ok() => without_quotes(),
        Data::Text(text) if takes("integer") && text.parse::<i64>().is_ok() => without_quotes(),
        Data::Text(_) if takes("array") => "write it as a list: `[…]`".to_owned(),
        _ => String::new(),
    }
}

fn without_quotes() -> String {
    "write it without quotes".to_owned()
}
