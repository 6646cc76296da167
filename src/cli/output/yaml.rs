//! JSON values as YAML. Texts stand plain only where no reader could take them for anything else.

use serde_json::Value;

/// A document, with its line end.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => array(items, 0, &mut out),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn object(map: &serde_json::Map<String, Value>, depth: usize, out: &mut String) {
    for (n, (key, value)) in map.iter().enumerate() {
        if n > 0 || out.ends_with('\n') || out.is_empty() {
            out.push_str(&"  ".repeat(depth));
        }
        out.push_str(&plain(key));
        out.push(':');
        below(value, depth, out);
    }
}

fn array(items: &[Value], depth: usize, out: &mut String) {
    for item in items {
        out.push_str(&"  ".repeat(depth));
        out.push('-');
        match item {
            Value::Object(map) if !map.is_empty() => {
                out.push(' ');
                object(map, depth + 1, out);
            }
            _ => below(item, depth, out),
        }
    }
}

/// What follows a `:` or a `-`.
fn below(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            object(map, depth + 1, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            array(items, depth + 1, out);
        }
        other => {
            out.push(' ');
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        // Empty maps and lists, numbers, booleans and null are the same in both languages.
        other => other.to_string(),
    }
}

/// A JSON string is a YAML string; plain words need no quotes.
fn plain(text: &str) -> String {
    const TAKEN: [&str; 12] =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "~"];
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./ ()".contains(c));
    let bare = first && rest && !text.ends_with(' ') && !TAKEN.contains(&text.to_ascii_lowercase().as_str());
    if bare { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saphyr::{LoadableYamlNode, Yaml};
    use serde_json::json;

    /// A reader's view of the text, as JSON again.
    fn back(yaml: &Yaml<'_>) -> Value {
        use saphyr::Scalar;
        match yaml {
            Yaml::Value(Scalar::Null) => Value::Null,
            Yaml::Value(Scalar::Boolean(b)) => json!(b),
            Yaml::Value(Scalar::Integer(i)) => json!(i),
            Yaml::Value(Scalar::FloatingPoint(f)) => json!(f.into_inner()),
            Yaml::Value(Scalar::String(s)) => json!(s),
            Yaml::Sequence(items) => items.iter().map(back).collect(),
            Yaml::Mapping(map) => {
                Value::Object(map.iter().map(|(k, v)| (k.as_str().unwrap().to_owned(), back(v))).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reader_gets_back_what_was_written() {
        let values = [
            json!({"id": 5, "name": "unit (gcc12)", "none": null, "list": [1, {"a": 1, "b": [true, []]}, [2, [3]], {}], "deep": {"x": {"y": "z"}}}),
            json!([{"at": "2026-11-22T22:24:06.123456Z", "text": "two\nlines: #1", "off": "off", "n": "12", "e": "", "sp": " a "}]),
            json!("yes"),
            json!([]),
            json!({"- odd": "- x", "key: with": "a: b", "tab": "\t", "ctl": "\u{1b}[31m"}),
        ];
        for value in values {
            let text = text(&value);
            let read = Yaml::load_from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(back(&read[0]), value, "{text}");
        }
    }
}
