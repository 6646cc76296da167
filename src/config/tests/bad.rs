//! Bad configurations and their messages.
