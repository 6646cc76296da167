//! The filters and tests that templates may use: one list each, kept short on purpose.

use minijinja::{Error, ErrorKind};
use sha2::{Digest, Sha256};

pub(super) const FILTERS: [&str; 22] = [
    "abs", "bool", "d", "default", "first", "float", "int", "join", "json", "last", "length", "lower", "max",
    "min", "replace", "round", "sort", "split", "string", "tag", "trim", "upper",
];

pub(super) const TESTS: [&str; 19] = [
    "boolean",
    "defined",
    "endingwith",
    "eq",
    "even",
    "false",
    "in",
    "integer",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "divisibleby",
];

/// The longest tag that a registry takes.
const TAG_MAX: usize = 128;

/// A valid image tag from any text: `release/1.2` becomes `release-1.2`.
///
/// The same slug that people write by hand when they push an image for a branch, so it is not one to
/// one: `a/b` and `a-b` share a tag. Only what is cut for its length gets a hash, as nobody types those.
pub(super) fn tag(text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "an empty text makes no image tag"));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut tag: String = text.chars().map(|c| if valid(c) { c } else { '-' }).collect();
    if tag.starts_with(['.', '-']) {
        tag.insert(0, '_');
    }
    if tag.len() > TAG_MAX {
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        tag.truncate(TAG_MAX - 13);
        tag.push('-');
        tag.push_str(&digest[..12]);
    }
    Ok(tag)
}

/// The value as one line of JSON.
pub(super) fn json(value: &minijinja::Value) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, "no JSON for this value").with_source(e))
}
