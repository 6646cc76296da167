//! Where a master keeps its things unless somebody says otherwise. `serve` and the verbs that ask a master use the same answers, so
//! that in one folder they find each other without flags.

use std::path::{Path, PathBuf};

/// The state folder of whoever names none: `rouse-state` where the command is run.
#[must_use]
pub fn default_state() -> PathBuf {
    PathBuf::from("rouse-state")
}

/// Where packages keep the state; looked into after the folder at hand.
pub(super) const SYSTEM_STATE: &str = "/var/lib/rouse";

/// The first administrator's token in a state folder.
#[must_use]
pub fn default_token_file(state: &Path) -> PathBuf {
    state.join(crate::api::TOKEN_FILE)
}

/// The main configuration file: a file as it is named, or `rouse.yaml` within a folder.
pub(super) fn config_file(named: &Path) -> PathBuf {
    if named.is_dir() { named.join("rouse.yaml") } else { named.to_owned() }
}
