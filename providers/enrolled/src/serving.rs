//! The machine's side: a call of the master's, carried out by a provider of processes on this machine.

use crate::wire::{Answer, Call, Secret};
use rouse_contract::{
    LaunchItem, LaunchOutcome, LaunchSpec, Observed, ObservedState, Provider, ProviderError, Tag,
};
use rouse_model::Timestamp;
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DOCUMENT: &str = "join.json";
/// An agent has read its join document long before that.
const READ: Duration = Duration::from_secs(60);

/// Carries a call out. What the agents of this machine need of it they find in their link folders.
pub async fn carry_out(provider: &dyn Provider, call: Call) -> Answer {
    let answered = match call {
        Call::Launch { spec, tag, join, expires } => {
            Ok(Answer::Launched(launch(provider, &spec, tag, &join, Timestamp(expires)).await))
        }
        Call::List {} => list(provider).await.map(Answer::Listed),
        Call::Joined { at } => joined(provider, &at).await.map(|()| Answer::Done {}),
        Call::Inspect { at } => provider.inspect(&at).await.map(Answer::Inspected),
        Call::Terminate { at } => provider.terminate(&at).await.map(|()| Answer::Done {}),
        Call::Console { at, max_bytes } => provider.console_tail(&at, max_bytes).await.map(Answer::Console),
    };
    answered.unwrap_or_else(|error| Answer::failed(&error))
}

async fn launch(
    provider: &dyn Provider,
    spec: &LaunchSpec,
    tag: Tag,
    join: &Secret,
    expires: Timestamp,
) -> LaunchOutcome {
    let unknown = |error: &dyn std::fmt::Display| LaunchOutcome::Unknown { reason: error.to_string() };
    // Asked again, an agent that is there has read its document.
    match provider.list().await {
        Ok(all) => {
            let there = all.into_iter().find(|seen| seen.tag.as_ref() == Some(&tag));
            if let Some(Observed { at, state: ObservedState::Starting | ObservedState::Running, .. }) = there
            {
                return LaunchOutcome::Accepted { at };
            }
        }
        Err(error) => return unknown(&error),
    }
    match provider.link_dir(&tag).await {
        Ok(Some(folder)) => {
            if let Err(error) = write(&folder, join.0.as_bytes()) {
                return unknown(&format!("write the join document: {error}"));
            }
        }
        Ok(None) => {
            let reason = "this machine has no place for a join document".to_owned();
            return LaunchOutcome::Invalid { class: FailureClass::Master, reason };
        }
        Err(error) => return unknown(&error),
    }
    let item = LaunchItem { tag, join: Vec::new(), needs_network: true, expires };
    let outcome = provider.launch(spec, std::slice::from_ref(&item)).await.pop();
    outcome.unwrap_or_else(|| unknown(&"there was no answer"))
}

/// Whole or not at all.
fn write(folder: &Path, join: &[u8]) -> io::Result<()> {
    let half = folder.join("join.new");
    fs::write(&half, join)?;
    fs::set_permissions(&half, fs::Permissions::from_mode(0o644))?;
    fs::rename(half, folder.join(DOCUMENT))
}

/// An agent removes its document where it may; of one with a user of its own it is removed here, before it runs anything.
async fn joined(provider: &dyn Provider, at: &ProviderRef) -> Result<(), ProviderError> {
    if let Some(Observed { tag: Some(tag), .. }) = provider.inspect(at).await?
        && let Some(folder) = provider.link_dir(&tag).await?
    {
        let _ = fs::remove_file(folder.join(DOCUMENT));
    }
    Ok(())
}

/// The master looks at the list every few seconds: where it did not say that an agent has come, that is found out by time.
async fn list(provider: &dyn Provider) -> Result<Vec<Observed>, ProviderError> {
    let all = provider.list().await?;
    for seen in all.iter().filter(|seen| seen.state == ObservedState::Running) {
        if let Some(tag) = &seen.tag
            && let Ok(Some(folder)) = provider.link_dir(tag).await
        {
            remove_read(folder.join(DOCUMENT));
        }
    }
    Ok(all)
}

fn remove_read(document: PathBuf) {
    let written = fs::metadata(&document).and_then(|found| found.modified());
    let age = written.ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age >= READ) {
        let _ = fs::remove_file(document);
    }
}
