//! The store's conformance suite on every database, and what only one of them can be asked.

#[cfg(test)]
#[path = "suite/child.rs"]
mod child;
#[cfg(test)]
#[path = "suite/memory.rs"]
mod memory;
#[cfg(test)]
#[path = "suite/postgres.rs"]
mod postgres;
#[cfg(test)]
#[path = "suite/proxy.rs"]
mod proxy;
#[cfg(test)]
#[path = "suite/sqlite.rs"]
mod sqlite;
