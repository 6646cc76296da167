//! The secrets that the commands of one build were given. Each is fetched once while a driver lives, so what is masked is what was given,
//! however somebody changes it meanwhile; after a restart they are fetched again. Nothing of it is ever stored but the names.

use super::action::Stored;
use super::state::State;
use crate::secrets::{SecretError, SecretValue, Secrets};
use rouse_agent_protocol::masking::Masks;
use rouse_model::build::Command;
use std::collections::{BTreeMap, BTreeSet};

/// Kept with a build's state.
#[derive(Debug, Default)]
pub(super) struct Given {
    names: BTreeSet<String>,
    values: BTreeMap<String, SecretValue>,
}

impl Given {
    /// As the commands on record say.
    pub(super) fn by(commands: &[Command]) -> Self {
        let stored = commands.iter().filter_map(|c| serde_json::from_str::<Stored>(&c.action).ok());
        Self { names: stored.flat_map(|stored| stored.secrets.into_values()).collect(), ..Self::default() }
    }
}

/// The values for a command's variables, and what is masked in whatever comes of it: these, and those of all commands before it, which may
/// have left them in files.
pub(super) async fn give(
    secrets: &Secrets,
    state: &mut State,
    wanted: &BTreeMap<String, String>,
) -> Result<(BTreeMap<String, SecretValue>, Vec<String>), SecretError> {
    let mut values = BTreeMap::new();
    for (variable, name) in wanted {
        values.insert(variable.clone(), fetch(secrets, state, name).await?);
    }
    state.given.names.extend(wanted.values().cloned());
    let mut masks = Vec::new();
    for name in state.given.names.clone() {
        match fetch(secrets, state, &name).await {
            Ok(value) => masks.extend(value.masks()),
            Err(error) if error.is_away() => return Err(error),
            // It is no more, and what it was nobody knows; a step that cleans up goes on without it.
            Err(error) => {
                tracing::warn!(
                    build = %state.build.id,
                    error = crate::supervisor::chain(&error),
                    "a secret of an earlier step cannot be masked any more"
                );
            }
        }
    }
    Ok((values, masks))
}

/// What must be masked in whatever comes of the build.
pub(super) async fn masks(secrets: &Secrets, state: &mut State) -> Result<Masks, SecretError> {
    let mut masks = Vec::new();
    for name in state.given.names.clone() {
        masks.extend(fetch(secrets, state, &name).await?.masks());
    }
    Ok(Masks::new(masks))
}

async fn fetch(secrets: &Secrets, state: &mut State, name: &str) -> Result<SecretValue, SecretError> {
    if let Some(value) = state.given.values.get(name) {
        return Ok(value.clone());
    }
    let build = &state.build;
    let value =
        secrets.fetch(&state.config.config, name, &build.builder, &build.project, build.trust).await?;
    state.given.values.insert(name.to_owned(), value.clone());
    Ok(value)
}
