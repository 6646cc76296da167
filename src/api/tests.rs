//! The API as a whole, on a real SQLite file with a seeded past.

mod approving;
mod auth;
mod bodies;
mod faults;
mod live;
mod machines;
pub(crate) mod seed;
pub(crate) mod world;
mod writes;

use super::*;

#[test]
fn the_document_in_the_docs_is_this_apis() {
    let kept = include_str!("../../docs/reference/openapi.json");
    assert!(
        kept == openapi_json(),
        "docs/reference/openapi.json is behind; write it anew: cargo xtask generate"
    );
}
