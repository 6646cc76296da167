//! The same against Podman, on the socket where it speaks as Docker does.

#[path = "../suite/bench.rs"]
mod bench;
#[path = "../suite/own.rs"]
mod own;

rouse_contract::conformance_suite!(bench::bench);
