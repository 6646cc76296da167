//! What can be wrong with a template, before and while it is filled.

use std::fmt;

/// A fault that is there whatever the values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFault {
    /// Byte offset in the template's text.
    pub offset: usize,
    /// Length in bytes of what is wrong; at least 1 unless the fault is at the end.
    pub length: usize,
    pub message: String,
    pub help: Option<String>,
}

impl TemplateFault {
    pub(super) fn new(offset: usize, length: usize, message: impl Into<String>) -> Self {
        TemplateFault { offset, length, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn shifted(mut self, by: usize) -> Self {
        self.offset += by;
        self
    }
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(out, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TemplateFault {}

/// A template that cannot be filled from the values at hand.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("the template is not valid: {0}")]
    Template(#[from] TemplateFault),

    /// The message names what there is, as the reader's next question is "then what can I use?".
    #[error("`{{{{ {expression} }}}}`: there is no {what}; {}{}", listed(.there), mended(.what))]
    Missing { expression: String, what: String, there: Vec<String> },

    #[error(
        "`{{{{ {expression} }}}}`: there is no worker yet; `worker` can be used once a build runs on one"
    )]
    NoWorker { expression: String },

    #[error("`{{{{ {expression} }}}}` cannot be evaluated: {reason}")]
    Evaluate { expression: String, reason: String },

    #[error("`{{{{ {expression} }}}}` is {kind}, and this place takes {wanted}")]
    WrongKind { expression: String, kind: String, wanted: &'static str },

    /// The value is text, but not one that this sink can take.
    #[error("{sink} `{value}` is refused: {reason}")]
    Refused { sink: &'static str, value: String, reason: String },
}

impl RenderError {
    pub(super) fn refused(sink: &'static str, value: &str, reason: impl Into<String>) -> Self {
        const SHOWN: usize = 200;
        let mut shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if value.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        RenderError::Refused { sink, value: shown, reason: reason.into() }
    }
}

/// What to do about a property that is not there; for the other names the list says it all.
fn mended(what: &str) -> String {
    let Some(name) = what.strip_prefix("property `").and_then(|rest| rest.strip_suffix('`')) else {
        return String::new();
    };
    format!("; set it before, or say what to take without it: `props.{name} | default(\"…\")`")
}

fn listed(there: &[String]) -> String {
    const SHOWN: usize = 20;
    if there.is_empty() {
        return "there are none".to_owned();
    }
    let mut out = format!("there are: {}", there[..there.len().min(SHOWN)].join(", "));
    if there.len() > SHOWN {
        out.push_str(&format!(" and {} more", there.len() - SHOWN));
    }
    out
}
