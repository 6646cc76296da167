//! Parameters of `force`: what is asked of the person who starts a build, each with its type. The same rules judge the defaults here
//! and the answers later.

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::RegexText;
use super::suggest::did_you_mean;
use super::tree::Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One question; its type is the key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Parameter")]
pub(crate) enum RawParameter {
    /// A line of text.
    String(RawText),
    /// Text of several lines.
    Text(RawText),
    /// A whole number.
    Int(RawInt),
    /// Yes or no.
    Bool(RawBool),
    /// One of several.
    Choice(RawChoice),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Text")]
pub(crate) struct RawText {
    /// What a form shows. Default: the parameter's name.
    label: Option<String>,
    /// A sentence of help.
    help: Option<String>,
    /// Must be answered, and not with nothing. Default: `false`.
    #[serde(default)]
    required: bool,
    /// A regular expression that all of the answer must match.
    pattern: Option<RegexText>,
    /// The answer of whoever gives none. Default: the empty text.
    default: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Int")]
pub(crate) struct RawInt {
    /// What a form shows. Default: the parameter's name.
    label: Option<String>,
    /// A sentence of help.
    help: Option<String>,
    /// Must be answered. Default: `false`.
    #[serde(default)]
    required: bool,
    /// The smallest that is taken.
    min: Option<i64>,
    /// The largest that is taken.
    max: Option<i64>,
    /// The answer of whoever gives none. Default: 0, or the nearest that is taken.
    default: Option<i64>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bool")]
pub(crate) struct RawBool {
    /// What a form shows. Default: the parameter's name.
    label: Option<String>,
    /// A sentence of help.
    help: Option<String>,
    /// The answer of whoever gives none. Default: `false`.
    #[serde(default)]
    default: bool,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Choice")]
pub(crate) struct RawChoice {
    /// What a form shows. Default: the parameter's name.
    label: Option<String>,
    /// A sentence of help.
    help: Option<String>,
    /// What there is to choose from.
    #[schemars(length(min = 1))]
    of: Vec<String>,
    /// Must be answered. Default: `false`.
    #[serde(default)]
    required: bool,
    /// The answer of whoever gives none. Default: the first.
    default: Option<String>,
}

/// One question to the person who starts a build.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParameterConfig {
    pub label: Option<String>,
    pub help: Option<String>,
    pub required: bool,
    pub kind: ParameterKind,
    /// The answer of whoever gives none; `None` where one is required.
    pub default: Option<Value>,
}

/// What answers are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    String { pattern: Option<RegexText> },
    Text { pattern: Option<RegexText> },
    Int { min: Option<i64>, max: Option<i64> },
    Bool,
    Choice { of: Vec<String> },
}

/// Why an answer is not taken: a message, and perhaps a suggestion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AnswerFault {
    /// Lower case; follows "parameter `NAME`: ".
    pub message: String,
    pub help: Option<String>,
}

impl AnswerFault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }
}

impl ParameterConfig {
    /// Judges one answer, given as JSON or (from a command line or a form) as text, and gives the property's value.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn answer(&self, given: Option<&Value>) -> Result<Value, AnswerFault> {
        let missing = || AnswerFault { message: "an answer is required".into(), help: Some(self.taken()) };
        let Some(given) = given else { return self.default.clone().ok_or_else(missing) };
        if self.required && given.as_str().is_some_and(str::is_empty) {
            return Err(missing());
        }
        self.judge(given)
            .map_err(|fault| AnswerFault { help: Some(fault.help.unwrap_or_else(|| self.taken())), ..fault })
    }

    fn judge(&self, given: &Value) -> Result<Value, AnswerFault> {
        match &self.kind {
            ParameterKind::String { pattern } => text(given, pattern.as_ref(), false),
            ParameterKind::Text { pattern } => text(given, pattern.as_ref(), true),
            ParameterKind::Int { min, max } => int(given, *min, *max),
            ParameterKind::Bool => match (given, given.as_str()) {
                (Value::Bool(_), _) => Ok(given.clone()),
                (_, Some("true")) => Ok(Value::Bool(true)),
                (_, Some("false")) => Ok(Value::Bool(false)),
                _ => Err(AnswerFault::new(format!("{given} is neither `true` nor `false`"))),
            },
            ParameterKind::Choice { of } => choice(given, of),
        }
    }

    /// What would be taken, for whoever gave something else; with the configuration's own words where it has some.
    fn taken(&self) -> String {
        let matching = |pattern: &Option<RegexText>| match pattern {
            Some(pattern) => format!(" that matches `{pattern}`"),
            None => String::new(),
        };
        let mut taken = match &self.kind {
            ParameterKind::String { pattern } => format!("give a line of text{}", matching(pattern)),
            ParameterKind::Text { pattern } => format!("give a text{}", matching(pattern)),
            ParameterKind::Int { min: Some(min), max: Some(max) } => {
                format!("give a whole number from {min} to {max}")
            }
            ParameterKind::Int { min: Some(min), max: None } => format!("give a whole number from {min} on"),
            ParameterKind::Int { min: None, max: Some(max) } => format!("give a whole number up to {max}"),
            ParameterKind::Int { min: None, max: None } => "give a whole number".into(),
            ParameterKind::Bool => "give `true` or `false`".into(),
            ParameterKind::Choice { of } => format!("choices: {}", of.join(", ")),
        };
        if let Some(help) = &self.help {
            taken.push_str(&format!("; {help}"));
        }
        taken
    }
}

fn text(given: &Value, pattern: Option<&RegexText>, lines: bool) -> Result<Value, AnswerFault> {
    let text = given.as_str().ok_or_else(|| AnswerFault::new(format!("{given} is no text")))?;
    if !lines && text.contains(['\n', '\r']) {
        return Err(AnswerFault::new("only one line is taken"));
    }
    if let Some(pattern) = pattern {
        let whole = regex::Regex::new(&format!("^(?:{})$", pattern.as_str()));
        if !whole.is_ok_and(|whole| whole.is_match(text)) {
            return Err(AnswerFault::new(format!("`{text}` does not match `{pattern}`")));
        }
    }
    Ok(given.clone())
}

fn int(given: &Value, min: Option<i64>, max: Option<i64>) -> Result<Value, AnswerFault> {
    let number = given.as_i64().or_else(|| given.as_str().and_then(|text| text.trim().parse().ok()));
    let number = number.ok_or_else(|| AnswerFault::new(format!("{given} is no whole number")))?;
    if let Some(min) = min.filter(|min| number < *min) {
        return Err(AnswerFault::new(format!("{number} is less than {min}")));
    }
    if let Some(max) = max.filter(|max| number > *max) {
        return Err(AnswerFault::new(format!("{number} is more than {max}")));
    }
    Ok(number.into())
}

fn choice(given: &Value, of: &[String]) -> Result<Value, AnswerFault> {
    if of.iter().any(|choice| given.as_str() == Some(choice)) {
        return Ok(given.clone());
    }
    let shown = given.as_str().map_or_else(|| given.to_string(), |text| format!("`{text}`"));
    let near = did_you_mean(given.as_str().unwrap_or_default(), of.iter().map(String::as_str));
    let help = near.unwrap_or_else(|| format!("choices: {}", of.join(", ")));
    Err(AnswerFault { message: format!("{shown} is not among the choices"), help: Some(help) })
}

impl RawParameter {
    pub(crate) fn check(&self, cx: &mut Context<'_>, path: &Path) -> Option<ParameterConfig> {
        let config = self.config();
        let at = path.join(self.key()).join("default");
        if let ParameterKind::Int { min: Some(min), max: Some(max) } = config.kind
            && min > max
        {
            let message = format!("`min` {min} is above `max` {max} in {}", cx.place(path));
            cx.push(Fault::new(Code::OutOfRange, cx.value(&path.join("int").join("min")), message));
            return None;
        }
        if config.required && self.has_default() {
            let message = format!("`default` has no effect in {}, which is required", cx.place(path));
            cx.push(Fault::warning(Code::Useless, cx.key(&at), message));
        }
        if let Some(Err(fault)) = config.default.as_ref().map(|default| config.answer(Some(default))) {
            let span = if self.has_default() { cx.value(&at) } else { cx.key(path) };
            let message = format!("the default of {} is refused: {}", cx.place(path), fault.message);
            let note = "write a `default` that fits, or `required: true`";
            cx.push(
                Fault::new(Code::BadDefault, span, message).label(fault.help.unwrap_or_default()).note(note),
            );
        }
        Some(config)
    }

    fn key(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Text(_) => "text",
            Self::Int(_) => "int",
            Self::Bool(_) => "bool",
            Self::Choice(_) => "choice",
        }
    }

    fn has_default(&self) -> bool {
        match self {
            Self::String(raw) | Self::Text(raw) => raw.default.is_some(),
            Self::Int(raw) => raw.default.is_some(),
            Self::Bool(_) => false,
            Self::Choice(raw) => raw.default.is_some(),
        }
    }

    fn config(&self) -> ParameterConfig {
        let (label, help, required, kind, default): (_, _, _, _, Value) = match self.clone() {
            Self::String(raw) => {
                let kind = ParameterKind::String { pattern: raw.pattern };
                (raw.label, raw.help, raw.required, kind, raw.default.unwrap_or_default().into())
            }
            Self::Text(raw) => {
                let kind = ParameterKind::Text { pattern: raw.pattern };
                (raw.label, raw.help, raw.required, kind, raw.default.unwrap_or_default().into())
            }
            Self::Int(raw) => {
                let nearest = 0.max(raw.min.unwrap_or(i64::MIN)).min(raw.max.unwrap_or(i64::MAX));
                let kind = ParameterKind::Int { min: raw.min, max: raw.max };
                (raw.label, raw.help, raw.required, kind, raw.default.unwrap_or(nearest).into())
            }
            Self::Bool(raw) => (raw.label, raw.help, false, ParameterKind::Bool, raw.default.into()),
            Self::Choice(raw) => {
                let first = raw.of.first().cloned().unwrap_or_default();
                let default = raw.default.unwrap_or(first).into();
                (raw.label, raw.help, raw.required, ParameterKind::Choice { of: raw.of }, default)
            }
        };
        ParameterConfig { label, help, required, kind, default: (!required).then_some(default) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parameter(value: Value) -> ParameterConfig {
        serde_json::from_value::<RawParameter>(value).expect("a parameter").config()
    }

    #[test]
    fn answers_are_judged_by_type() {
        let version = parameter(json!({"string": {"required": true, "pattern": "[0-9.]+"}}));
        assert_eq!(version.answer(Some(&json!("1.2"))), Ok(json!("1.2")));
        for bad in [None, Some(json!("")), Some(json!("v1")), Some(json!("1.2\n")), Some(json!(1))] {
            assert!(version.answer(bad.as_ref()).is_err(), "{bad:?}");
        }
        let jobs = parameter(json!({"int": {"min": 1, "max": 8}}));
        assert_eq!(jobs.answer(None), Ok(json!(1)));
        assert_eq!(jobs.answer(Some(&json!("4"))), Ok(json!(4)));
        for bad in [json!(0), json!(9), json!("x"), json!(1.5)] {
            assert!(jobs.answer(Some(&bad)).is_err(), "{bad:?}");
        }
        let sign = parameter(json!({"bool": {}}));
        assert_eq!(sign.answer(None), Ok(json!(false)));
        assert_eq!(sign.answer(Some(&json!("true"))), Ok(json!(true)));
        assert!(sign.answer(Some(&json!("yes"))).is_err());
        let os = parameter(json!({"choice": {"of": ["debian", "alpine"]}}));
        assert_eq!(os.answer(None), Ok(json!("debian")));
        let fault = os.answer(Some(&json!("alpin"))).expect_err("no such choice");
        assert_eq!(fault.help.as_deref(), Some("did you mean `alpine`?"));
        let notes = parameter(json!({"text": {}}));
        assert_eq!(notes.answer(Some(&json!("a\nb"))), Ok(json!("a\nb")));
    }
}
