//! The store's conformance suite on both databases.
