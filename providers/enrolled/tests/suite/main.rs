//! The conformance suite, with one machine of an account that makes real agents on this host. What a master and a machine send each other goes through
//! its text form, as on a connection.

mod rack;

rouse_contract::conformance_suite!(rack::one_machine);
