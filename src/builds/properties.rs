//! Properties that a build sets itself: from a file, or from what a command prints.

use rouse_agent_protocol::masking::Masks;
use rouse_agent_protocol::{MAX_PROPERTIES, MAX_PROPERTY_BYTES, MAX_PROPERTY_NAME};
use rouse_model::property::Properties;
use serde_json::Value;

/// Reads a JSON object, or `KEY=VALUE` lines; values of JSON keep their type.
///
/// # Errors
/// In words for a person: what is wrong, and where.
pub(super) fn parse(text: &str, source: &str, tainted: bool) -> Result<Properties, String> {
    let mut out = Properties::default();
    let trimmed = text.trim_start();
    if trimmed.starts_with('{') {
        let value: Value = serde_json::from_str(trimmed).map_err(|e| format!("not a JSON object: {e}"))?;
        let Value::Object(map) = value else { return Err("not a JSON object".into()) };
        for (name, value) in map {
            set(&mut out, &name, value, source, tainted)?;
        }
    } else {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| format!("line {}: expected NAME=VALUE, found `{line}`", number + 1))?;
            set(&mut out, name.trim(), Value::String(value.trim().to_owned()), source, tainted)?;
        }
    }
    Ok(out)
}

/// One named property from a command's output, without the last line end.
///
/// # Errors
/// In words for a person.
pub(super) fn single(name: &str, output: &str, source: &str, tainted: bool) -> Result<Properties, String> {
    let mut out = Properties::default();
    let value = output.strip_suffix('\n').unwrap_or(output);
    set(
        &mut out,
        name,
        Value::String(value.strip_suffix('\r').unwrap_or(value).to_owned()),
        source,
        tainted,
    )?;
    Ok(out)
}

/// The same with `*` for every secret in their values.
pub(super) fn masked(mut properties: Properties, masks: &Masks) -> Properties {
    fn mask(value: &mut Value, masks: &Masks) {
        match value {
            Value::String(text) => *text = masks.mask_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| mask(item, masks)),
            Value::Object(map) => map.values_mut().for_each(|item| mask(item, masks)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    properties.0.values_mut().for_each(|property| mask(&mut property.value, masks));
    properties
}

fn set(out: &mut Properties, name: &str, value: Value, source: &str, tainted: bool) -> Result<(), String> {
    let fits = !name.is_empty()
        && name.len() <= MAX_PROPERTY_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if !fits {
        let shown: String = name.chars().take(40).collect();
        return Err(format!(
            "`{shown}` is not a property's name (letters, digits, `_`, `-`, `.`; at most {MAX_PROPERTY_NAME})"
        ));
    }
    if value.to_string().len() > MAX_PROPERTY_BYTES {
        return Err(format!("the value of `{name}` is longer than {MAX_PROPERTY_BYTES} bytes"));
    }
    out.set(name, value, source, tainted);
    if out.0.len() > MAX_PROPERTIES { Err(format!("more than {MAX_PROPERTIES} properties")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read() {
        let json = parse(r#"{"version": "1.2", "count": 3}"#, "f", false).unwrap();
        assert_eq!(json.get("count").unwrap().value, 3);
        let lines = parse("# made by build\nversion = 1.2\n\nname=x=y\n", "f", true).unwrap();
        assert_eq!(lines.get("name").unwrap().value, "x=y");
        assert!(lines.get("version").unwrap().tainted);
    }

    #[test]
    fn secrets_in_values_are_masked_at_any_depth() {
        let found =
            parse(r#"{"a": "x-hunter2", "b": ["hunter2", {"c": "hunter2"}], "n": 3}"#, "f", false).unwrap();
        let masked = masked(found, &Masks::new(["hunter2"]));
        assert_eq!(masked.get("a").unwrap().value, "x-*******");
        assert_eq!(masked.get("b").unwrap().value, serde_json::json!(["*******", {"c": "*******"}]));
        assert_eq!(masked.get("n").unwrap().value, 3);
    }

    #[test]
    fn faults_name_the_line() {
        assert!(parse("good=1\nbad line\n", "f", false).unwrap_err().contains("line 2"));
        assert!(parse("{\"a b\": 1}", "f", false).unwrap_err().contains("a b"));
        assert!(parse("[1]", "f", false).unwrap_err().contains("line 1"));
    }

    #[test]
    fn output_loses_only_its_last_line_end() {
        assert_eq!(single("v", "1.2\n", "f", false).unwrap().get("v").unwrap().value, "1.2");
        assert_eq!(single("v", "a\n\n", "f", false).unwrap().get("v").unwrap().value, "a\n");
    }
}
