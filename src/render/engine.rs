//! MiniJinja as Rouse uses it: expressions only, strict, bounded.

use std::sync::LazyLock;

use minijinja::{Environment, UndefinedBehavior};

use super::filters;

/// Work one expression may cost: about six megabytes of text produced or read.
const FUEL: u64 = 100_000;

/// Made once: with all its filters it costs far more than most of what it evaluates.
pub(super) fn engine() -> &'static Environment<'static> {
    static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(make);
    &ENGINE
}

fn make() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_debug(true);
    engine.set_fuel(Some(FUEL));
    engine.set_recursion_limit(50);
    engine.add_filter("tag", |text: &str| filters::tag(text));
    engine.add_filter("json", |value: minijinja::Value| filters::json(&value));
    engine
}
