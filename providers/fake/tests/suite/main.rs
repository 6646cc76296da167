//! The fake provider passes the contract's suite, and goes wrong as its script says.

mod bench;
mod own;

rouse_contract::conformance_suite!(bench::bench);
