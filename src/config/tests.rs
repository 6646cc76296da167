//! Whole configurations: good ones, bad ones with their messages, and the schema.

mod bad;
mod diff;
mod examples;
mod files;
mod good;
mod kinds;
mod mangled;
mod reference;

use super::{Faults, Loaded, SourceFile, parse};

/// Checks one text.
fn check(text: &str) -> Result<Loaded, Faults> {
    parse(&[SourceFile::new("rouse.yaml", text)], &kinds::all())
}

/// A text that must be good.
fn good(text: &str) -> Loaded {
    check(text).unwrap_or_else(|faults| panic!("{faults}"))
}
