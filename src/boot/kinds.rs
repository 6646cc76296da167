//! The providers that there are, by name, and what an enrolled machine makes workers with.

use super::{agents_folder, make_folder, take_state_folder};
use rouse_contract::{Installation, Provider, ProviderKind};
use rouse_provider_enrolled::{EnrolledKind, Hub};
use rouse_provider_local::{Local, options::AccountOptions};
use std::path::Path;
use std::sync::Arc;

/// The kinds of provider that this build of Rouse knows. The configuration's check uses the same list.
#[must_use]
pub fn provider_kinds() -> Vec<Arc<dyn ProviderKind>> {
    provider_kinds_with(&Arc::default())
}

/// The same, where enrolled machines come to this process.
pub(super) fn provider_kinds_with(machines: &Arc<Hub>) -> Vec<Arc<dyn ProviderKind>> {
    vec![
        rouse_provider_docker::kind(),
        Arc::new(rouse_provider_local::LocalKind),
        Arc::new(EnrolledKind(Arc::clone(machines))),
    ]
}

/// What makes workers on an enrolled machine; nobody else uses its folder as long as this is there.
#[derive(Debug)]
pub struct Machine {
    pub provider: Arc<dyn Provider>,
    _lock: nix::fcntl::Flock<std::fs::File>,
}

/// Workers of one machine of an account, as processes on this host.
///
/// # Errors
/// Where another process uses the folder, or there are no agents beside this binary.
pub fn machine(installation: &str, account: &str, name: &str, state: &Path) -> anyhow::Result<Machine> {
    let lock = take_state_folder(state)?;
    let installation = Installation {
        id: installation.to_owned(),
        // What it is asked for carries its own.
        store_epoch: 1,
        agents: agents_folder()?,
        state: make_folder(&state.join("workers"))?,
        many_masters: false,
    };
    // Several machines may be one host: each knows its own workers alone.
    let account = format!("{account}.{name}");
    let provider = Arc::new(Local::new(&account, AccountOptions::default(), installation));
    Ok(Machine { provider, _lock: lock })
}
