//! The Docker provider against a daemon of the tests' own: the contract's suite, and what is its own.

mod bench;
mod own;

rouse_contract::conformance_suite!(bench::bench);
