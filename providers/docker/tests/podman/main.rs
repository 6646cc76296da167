//! The same against Podman, on the socket where it speaks as Docker does: `cargo xtask back-ends -- cargo test -p rouse-provider-docker --test podman`.
//!
//! Not among the tests of every run: in about one of five, Podman 4.3 has lost what an instance printed that dies at once.

#[path = "../suite/bench.rs"]
mod bench;
#[path = "../suite/own.rs"]
mod own;

rouse_contract::conformance_suite!(bench::bench);
