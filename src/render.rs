//! Properties into text: interpolation and escaping per sink.
//!
//! Used before a build exists (image, names) and within it (steps, conditions). Pure: no I/O, no
//! clock, no state of its own. A document is parsed first and its leaves are rendered here, one at a
//! time; a value can never add structure to the document, to a command line or to a script.
//!
//! Two phases. *Check* looks at a template without values and finds what can be found early: syntax,
//! unknown names and filters, a place in a script where a value would not stay text. *Render*
//! fills it from a [`Scope`]; it checks first, so an unchecked template is never evaluated.
//!
//! The language: `{{ expression }}` with MiniJinja's expressions, strict about what is not there, and
//! `{% raw %}…{% endraw %}` around text that contains braces itself. There are no other statements:
//! `{{ a if b else c }}` and a step's `if:` cover what they would be used for, and a loop in a
//! script is the shell's own business.
//!
//! It must not know the configuration's shape, the store, or how a build runs.

mod condition;
mod document;
mod engine;
mod expression;
mod fault;
mod filters;
mod leaf;
mod scope;
mod script;
mod template;

#[cfg(test)]
mod tests;

pub use condition::{check_condition, condition};
pub use document::{RenderedValue, document, environment, environment_value};
pub use fault::{RenderError, TemplateFault};
pub use leaf::{Rendered, argument, image, path, pattern, text};
pub use scope::Scope;
pub use script::{RenderedScript, Shell, VARIABLE_PREFIX, script};

/// Where a rendered value ends up; it decides what is allowed and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// A name, a message, the value of an environment variable.
    Text,
    /// One element of an argument vector.
    Argument,
    /// A path below a root that the caller joins it to.
    Path,
    /// The reference of a container image. Chosen before there is a worker.
    Image,
    /// A script for the given shell.
    Script(Shell),
}

/// Checks a template without values.
pub fn check_template(text: &str, sink: &Sink) -> Result<(), TemplateFault> {
    let template = template::Template::parse(text)?;
    match sink {
        Sink::Text => Ok(()),
        Sink::Argument => leaf::check_argument(&template),
        Sink::Path => leaf::check_path(&template),
        Sink::Image => leaf::check_image(&template),
        Sink::Script(shell) => script::check(&template, shell),
    }
}

/// Whether a text contains anything to render; without it the text is used as it stands.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}
