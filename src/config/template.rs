//! What can be said of a template before there is a build: whether it parses, and whether what it names exists. Values come later,
//! in `render`; this must not know any.

use super::suggest::did_you_mean;
use minijinja::value::{Enumerator, Object, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// What templates see that is one value.
pub const VALUES: [&str; 4] = ["project", "codebase", "branch", "revision"];
/// What templates see that has attributes; `worker` only where there is one already.
pub const OBJECTS: [&str; 4] = ["builder", "matrix", "props", "worker"];
/// Filters beside MiniJinja's own.
pub const FILTERS: [&str; 1] = ["tag"];
/// Functions that a condition may call.
pub const CONDITION_FUNCTIONS: [&str; 1] = ["changed"];

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFault {
    /// Lower case.
    pub message: String,
    pub help: Option<String>,
    /// Where in the text, in bytes.
    pub at: Option<Range<usize>>,
}

/// Checks text in which `{{ … }}` is filled in.
///
/// # Errors
/// Where it does not parse, or names a variable or filter that does not exist.
pub fn check_template(text: &str) -> Result<(), TemplateFault> {
    if !text.contains('{') {
        return Ok(());
    }
    let env = environment();
    let template = env.template_from_str(text).map_err(|error| syntax(&error, text))?;
    unknown_variable(text, template.undeclared_variables(false), &[])?;
    unknown_filter(template.render(Value::from_object(Anything)).err(), text)
}

/// Checks a script.
///
/// # Errors
/// As [`check_template`].
pub fn check_script(text: &str) -> Result<(), TemplateFault> {
    check_template(text)
}

/// Checks an expression that is true or false.
///
/// # Errors
/// As [`check_template`].
pub fn check_condition(text: &str) -> Result<(), TemplateFault> {
    if text.trim_start().starts_with("{{") {
        let help = "write the expression alone, without `{{ }}`".to_owned();
        return Err(TemplateFault {
            message: "a condition is an expression, not a template".to_owned(),
            help: Some(help),
            at: None,
        });
    }
    let mut env = environment();
    for function in CONDITION_FUNCTIONS {
        env.add_function(function, |_: &mut minijinja::State, _: minijinja::value::Rest<Value>| {
            Ok(Value::from(true))
        });
    }
    let expression = env.compile_expression(text).map_err(|error| syntax(&error, text))?;
    unknown_variable(text, expression.undeclared_variables(false), &CONDITION_FUNCTIONS)?;
    unknown_filter(expression.eval(Value::from_object(Anything)).err(), text)
}

fn environment<'a>() -> Environment<'a> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Chainable);
    env.set_fuel(Some(10_000));
    for filter in FILTERS {
        env.add_filter(filter, |value: Value| value);
    }
    env
}

/// Has every attribute, so that evaluation reaches as many filters as it can.
#[derive(Debug)]
struct Anything;

impl Object for Anything {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        if OBJECTS.contains(&key) {
            return Some(Value::from_object(Texts));
        }
        VALUES.contains(&key).then(|| Value::from("x"))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

#[derive(Debug)]
struct Texts;

impl Object for Texts {
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from("1"))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

fn place(error: &Error, text: &str) -> Option<Range<usize>> {
    let range = error.range()?;
    let within = range.start < range.end && range.end <= text.len();
    (within && text.is_char_boundary(range.start) && text.is_char_boundary(range.end)).then_some(range)
}

fn syntax(error: &Error, text: &str) -> TemplateFault {
    let why = error.detail().unwrap_or("it does not parse");
    TemplateFault { message: format!("not a template: {why}"), help: None, at: place(error, text) }
}

fn unknown_variable(
    text: &str,
    used: HashSet<String>,
    functions: &[&'static str],
) -> Result<(), TemplateFault> {
    let globals = Environment::new();
    let known = || VALUES.iter().chain(&OBJECTS).chain(functions).copied();
    let mut unknown: Vec<_> = used
        .into_iter()
        .filter(|name| !known().any(|k| k == name) && !globals.globals().any(|(g, _)| g == name))
        .collect();
    unknown.sort_by_key(|name| word(text, name).map_or(usize::MAX, |at| at.start));
    let Some(name) = unknown.into_iter().next() else { return Ok(()) };
    let help = did_you_mean(&name, known()).unwrap_or_else(|| {
        format!(
            "templates see: {}; a property `{name}` is `props.{name}`",
            known().collect::<Vec<_>>().join(", ")
        )
    });
    Err(TemplateFault {
        message: format!("nothing is called `{name}` here"),
        help: Some(help),
        at: word(text, &name),
    })
}

fn unknown_filter(error: Option<Error>, text: &str) -> Result<(), TemplateFault> {
    // Whatever else may go wrong with made-up values says nothing of the real ones.
    let Some(error) = error.filter(|e| matches!(e.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest))
    else {
        return Ok(());
    };
    let detail = error.detail().unwrap_or("a filter is unknown").to_owned();
    Err(TemplateFault { message: detail, help: None, at: place(&error, text) })
}

/// The first place after an opening brace where `name` stands as a word of its own.
fn word(text: &str, name: &str) -> Option<Range<usize>> {
    let from = text.find('{').unwrap_or(0);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text[from..].match_indices(name).map(|(at, _)| from + at..from + at + name.len()).find(|at| {
        !text[..at.start].ends_with(|c: char| is_word(c) || c == '.') && !text[at.end..].starts_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_templates_pass() {
        for text in [
            "plain",
            "a { b } c",
            "{{ project }}:{{ branch | tag }}",
            "{{ props.os | upper }}-{{ worker.cpus }}",
            "{% if branch == 'main' %}a{% else %}{{ props.x | default('y') }}{% endif %}",
            "{% for i in range(3) %}{{ i }}{% endfor %}",
        ] {
            assert_eq!(check_template(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn bad_templates_say_where() {
        let fault = check_template("a {{ bransh }}").expect_err("unknown");
        assert_eq!(fault.message, "nothing is called `bransh` here");
        assert_eq!((fault.help.as_deref(), fault.at), (Some("did you mean `branch`?"), Some(5..11)));
        let fault = check_template("{{ version }}").expect_err("unknown");
        assert!(fault.help.is_some_and(|h| h.contains("props.version")));
        let fault = check_template("{{ branch | tga }}").expect_err("unknown filter");
        assert!(fault.message.contains("tga"), "{}", fault.message);
        assert!(check_template("{{ branch").is_err());
        assert!(check_template("{% if %}").is_err());
    }

    #[test]
    fn conditions_are_expressions() {
        for text in ["changed(\"src/**\")", "branch == 'main' and props.full", "not changed('docs/**')"] {
            assert_eq!(check_condition(text), Ok(()), "{text}");
        }
        assert!(check_condition("{{ branch }}").is_err_and(|f| f.help.is_some()));
        assert!(
            check_condition("chnged('a')")
                .is_err_and(|f| f.help.as_deref() == Some("did you mean `changed`?"))
        );
        assert!(check_condition("branch ==").is_err());
        // A function of conditions alone.
        assert!(check_template("{{ changed('a') }}").is_err());
    }

    #[test]
    fn a_template_that_never_ends_is_not_run_for_ever() {
        let text = "{% for a in range(10000) %}{% for b in range(10000) %}{{ a }}{% endfor %}{% endfor %}";
        assert_eq!(check_template(text), Ok(()));
    }
}
