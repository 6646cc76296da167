//! Where a master keeps its things unless somebody says otherwise. `serve` and the verbs that ask a master use the same answers, so
//! that in one folder they find each other without flags.

use super::error::CliError;
use rouse_store::Location;
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

/// The database that was named, or the one in the state folder.
pub(super) fn database(named: Option<&str>, state: &Path) -> Location {
    named.map_or_else(|| Location::Sqlite(state.join("rouse.db")), Location::parse)
}

/// The folder of logs and artifacts that was named, or the one in the state folder.
pub(super) fn objects(named: Option<&Path>, state: &Path) -> PathBuf {
    named.map_or_else(|| state.join(crate::objects::FOLDER), Path::to_owned)
}

/// The state folder of a master that is there: the one that was named, or the first of the usual ones.
pub(super) fn state_at_hand(named: Option<&Path>) -> Result<PathBuf, CliError> {
    let usual = [default_state(), PathBuf::from(SYSTEM_STATE)];
    let found = match named {
        Some(named) => Some(named.to_owned()).filter(|state| state.is_dir()),
        None => usual.into_iter().find(|state| state.is_dir()),
    };
    found.ok_or_else(|| CliError::NotFound {
        message: match named {
            Some(named) => format!("there is no state folder {}", named.display()),
            None => "there is no state folder here".to_owned(),
        },
        help: Some("say where the master's is: --state or ROUSE_STATE".into()),
    })
}
