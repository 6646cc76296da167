//! The fake provider passes the contract's suite, and goes wrong as its script says.

mod bench;
mod layered;
mod own;

rouse_contract::conformance_suite!(bench::bench);

mod in_batches {
    rouse_contract::conformance_suite!(super::bench::in_batches);
}
