//! The machine's side: a call of the master's, carried out by a provider of processes on this machine.

use crate::wire::{Answer, Call, Secret};
use rouse_contract::{Hint, LaunchItem, LaunchOutcome, LaunchSpec, Observed, ObservedState, Provider, Tag};
use rouse_model::Timestamp;
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A machine that carries out what its master asks for.
#[derive(Debug)]
pub struct Serving {
    provider: Arc<dyn Provider>,
    /// One launch at a time: the same one asked for again, by a next connection, must find the first.
    launching: Mutex<()>,
}

impl Serving {
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>) -> Self {
        Self { provider, launching: Mutex::default() }
    }

    /// The next hint that something happened to one of its instances; it is told to the master.
    pub async fn next_hint(&self) -> ProviderRef {
        loop {
            if let Hint::Instance(at) = self.provider.next_hint().await {
                return at;
            }
        }
    }

    pub async fn carry_out(&self, call: Call) -> Answer {
        let provider = &self.provider;
        let answered = match call {
            Call::Launch { spec, tag, join, expires } => {
                let _one_at_a_time = self.launching.lock().await;
                Ok(Answer::Launched(launch(&**provider, &spec, tag, &join, Timestamp(expires)).await))
            }
            Call::List {} => provider.list().await.map(Answer::Listed),
            Call::Inspect { at } => provider.inspect(&at).await.map(Answer::Inspected),
            Call::Terminate { at } => provider.terminate(&at).await.map(|()| Answer::Done {}),
            Call::Console { at, max_bytes } => {
                provider.console_tail(&at, max_bytes).await.map(Answer::Console)
            }
        };
        answered.unwrap_or_else(|error| Answer::failed(&error))
    }
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
    let item = LaunchItem { tag, join: Vec::new(), needs_network: true, offering: None, expires };
    let outcome = provider.launch(spec, std::slice::from_ref(&item)).await.pop();
    outcome.unwrap_or_else(|| unknown(&"there was no answer"))
}

/// Whole or not at all. The agent removes it when it has read it, before it comes to its master: nothing else lies in its link folder here, so the
/// user for whom the folder is there may write to it. What such a user has put there is not followed.
fn write(folder: &Path, join: &[u8]) -> io::Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | (mode & 0o040) >> 1))?;
    let half = folder.join("join.new");
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).open(&half)?;
    file.write_all(join)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    fs::rename(half, folder.join("join.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_user_of_a_worker_may_remove_its_document_and_leads_nobody_elsewhere() {
        let outer = tempfile::tempdir().unwrap();
        let (link, other) = (outer.path().join("link"), outer.path().join("other"));
        fs::create_dir(&link).unwrap();
        fs::write(&other, "as it was").unwrap();
        for (mode, then) in [(0o750, 0o770), (0o700, 0o700)] {
            fs::set_permissions(&link, fs::Permissions::from_mode(mode)).unwrap();
            for name in ["join.new", "join.json"] {
                let _ = fs::remove_file(link.join(name));
                symlink(&other, link.join(name)).unwrap();
            }
            write(&link, b"{}").unwrap();
            assert_eq!(fs::metadata(&link).unwrap().permissions().mode() & 0o777, then);
            assert!(fs::symlink_metadata(link.join("join.json")).unwrap().is_file());
            assert_eq!(fs::read_to_string(link.join("join.json")).unwrap(), "{}");
            assert_eq!(fs::read_to_string(&other).unwrap(), "as it was");
        }
    }
}
