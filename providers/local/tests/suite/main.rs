//! The local provider on this host: the contract's suite, and what is its own.

mod bench;
mod own;

rouse_contract::conformance_suite!(bench::each_its_own_user);

/// As where the master is an ordinary user.
mod one_user {
    use crate::bench;
    rouse_contract::conformance_suite!(bench::one_user);
}
