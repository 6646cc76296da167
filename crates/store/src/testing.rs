//! The suite that every database passes.
