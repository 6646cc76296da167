//! Scripts. A value is never put into the text: each `{{ expression }}` becomes a reference to a
//! variable, `"${ROUSE_1}"`, and the value travels in the environment, where no shell parses it.
//!
//! What remains is to write the reference so that the shell takes it as one word: quoted where the
//! script has no quotes, bare within double quotes and unquoted here-documents. Where a reference
//! would not be text (single quotes, quoted here-documents, arithmetic, `${…}`, backticks, `sh -c "…"`,
//! another interpreter) the template is refused when the config is read, with the way round: set a
//! variable by `env:` and use that. In comments the braces stay as they are.
//!
//! This protects a script from the values that it is given. It cannot protect a script from itself:
//! what makes text into code later (`make V="$(…)"`, a file that is sourced) is the author's to know.

mod lexer;
mod readers;
mod shell;

use std::collections::BTreeMap;

use super::fault::{RenderError, TemplateFault};
use super::leaf::ARGUMENT_MAX;
use super::scope::Scope;
use super::template::{Piece, Template};
use lexer::Place;
pub use shell::Shell;

/// Variables that Rouse sets for scripts start with this; a config must not set such ones itself.
pub const VARIABLE_PREFIX: &str = "ROUSE_";

/// A script and the variables that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedScript {
    pub text: String,
    pub env: BTreeMap<String, String>,
    /// An untrusted build had a hand in a value.
    pub tainted: bool,
}

pub(super) fn check(template: &Template, shell: &Shell) -> Result<(), TemplateFault> {
    places(template, shell).map(drop)
}

/// Where each hole of the template stands, in order.
fn places(template: &Template, shell: &Shell) -> Result<Vec<Place>, TemplateFault> {
    let first = template.pieces.iter().find_map(|piece| match piece {
        Piece::Hole { offset, length, .. } => Some((*offset, *length)),
        Piece::Literal { .. } => None,
    });
    let Some((offset, length)) = first else { return Ok(Vec::new()) };
    let shebang = match template.pieces.first() {
        Some(Piece::Literal { text, .. }) => Shell::from_shebang(text),
        _ => None,
    };
    for shell in std::iter::once(shell).chain(&shebang) {
        if let Shell::Other(name) = shell {
            return Err(TemplateFault::new(
                offset,
                length,
                format!("values cannot be put into a script for `{name}`, only for sh and bash"),
            )
            .help("pass the value by `env:` and read that variable in the script"));
        }
    }
    lexer::places(&template.pieces, *shell == Shell::Bash && shebang != Some(Shell::Posix))
}

/// Renders a script for a shell.
pub fn script(source: &str, shell: &Shell, scope: &Scope) -> Result<RenderedScript, RenderError> {
    let template = Template::parse(source)?;
    let mut places = places(&template, shell)?.into_iter();
    let mut rendered = RenderedScript { text: String::new(), env: BTreeMap::new(), tainted: false };
    let mut names: Vec<(&str, String)> = Vec::new();
    for piece in &template.pieces {
        let (offset, length, expression) = match piece {
            Piece::Literal { text, .. } => {
                rendered.text.push_str(text);
                continue;
            }
            Piece::Hole { offset, length, expression } => (*offset, *length, expression.trim()),
        };
        let place = places.next().unwrap_or(Place::Comment);
        if place == Place::Comment {
            rendered.text.push_str(&source[offset..offset + length]);
            continue;
        }
        let name = match names.iter().find(|(known, _)| *known == expression) {
            Some((_, name)) => name.clone(),
            None => {
                let name = format!("{VARIABLE_PREFIX}{}", names.len() + 1);
                let evaluated = template.evaluate(expression, scope)?;
                rendered.tainted |= evaluated.tainted;
                let value = evaluated.into_text(expression)?;
                check_value(expression, &value)?;
                rendered.env.insert(name.clone(), value);
                names.push((expression, name.clone()));
                name
            }
        };
        match place {
            Place::Unquoted => rendered.text.push_str(&format!("\"${{{name}}}\"")),
            Place::Quoted | Place::Comment => rendered.text.push_str(&format!("${{{name}}}")),
        }
    }
    Ok(rendered)
}

fn check_value(expression: &str, value: &str) -> Result<(), RenderError> {
    let reason = if value.contains('\0') {
        format!("the value of `{{{{ {expression} }}}}` contains a NUL character")
    } else if value.len() > ARGUMENT_MAX {
        format!(
            "the value of `{{{{ {expression} }}}}` has {} bytes; an environment entry takes {ARGUMENT_MAX}",
            value.len()
        )
    } else {
        return Ok(());
    };
    Err(RenderError::refused("the script's value", value, reason))
}
