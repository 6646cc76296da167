//! The suite that every provider passes against its real back end.
