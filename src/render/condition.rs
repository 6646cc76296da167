//! Conditions: the expression of an `if:`.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind};

use super::engine::engine;
use super::expression::{self, wrong_kind};
use super::fault::{RenderError, TemplateFault};
use super::scope::Scope;
use crate::sources::Patterns;

const FUNCTIONS: [&str; 1] = ["changed"];

/// Checks a condition without values.
pub fn check_condition(source: &str) -> Result<(), TemplateFault> {
    if source.contains("{{") {
        return Err(TemplateFault::new(0, source.len(), "a condition is an expression already")
            .help("write it without the braces: `if: branch == \"main\"`"));
    }
    expression::check(engine(), source, &FUNCTIONS).map(drop)
}

/// Whether the condition holds.
///
/// Only true and false are answers: a text such as "false" would count as true by the engine's rules,
/// and nobody means that.
pub fn condition(source: &str, scope: &Scope) -> Result<bool, RenderError> {
    check_condition(source)?;
    let mut engine = engine().clone();
    add_changed(&mut engine, scope);
    let evaluated = expression::evaluate(&engine, source, scope)?;
    match evaluated.value.kind() {
        ValueKind::Bool => Ok(evaluated.value.is_true()),
        _ => Err(wrong_kind(source, &evaluated.value, "true or false (compare it: `… == \"yes\"`)")),
    }
}

/// `changed("src/**", "!src/doc/**")`: whether a changed file matches. Where the files are not known in
/// full (a forced build, a new branch) it says yes: to build too much is a delay, too little a bug.
fn add_changed(engine: &mut Environment<'static>, scope: &Scope) {
    let files = scope.changed_files.clone();
    engine.add_function("changed", move |globs: minijinja::value::Rest<String>| {
        if globs.is_empty() {
            return Err(Error::new(ErrorKind::MissingArgument, "changed() takes at least one pattern"));
        }
        let patterns =
            Patterns::paths(&globs).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))?;
        Ok(files.as_ref().is_none_or(|files| files.iter().any(|file| patterns.matches(file))))
    });
}
