//! What is there, read from the daemon's answers.

use crate::daemon::Daemon;
use crate::failure::Failed;
use crate::labels::{Labels, Owner, Part, is_beside, is_part};
use crate::parking;
use crate::reference::Reference;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ImageSummary};
use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, ListVolumesOptions};
use futures::{StreamExt, TryStreamExt};
use rouse_contract::{EndedBy, Observed, ObservedState, Tag};
use std::collections::HashSet;
use std::time::{Duration, SystemTime};

/// How long it may take to fill a volume.
const FILLING: Duration = Duration::from_secs(3700);
/// Calls at once.
const AT_ONCE: usize = 8;
/// Looks at what is between two states.
const LOOKS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);
const PASSING: [&str; 2] = ["unknown variant `stopped`", "locating image with ID"];

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    Created,
    Running,
    /// Stopped to be started again.
    Parked,
    Ended {
        detail: String,
        out_of_memory: bool,
    },
}

impl From<Life> for ObservedState {
    fn from(life: Life) -> Self {
        match life {
            Life::Created => Self::Starting,
            Life::Running => Self::Running,
            Life::Parked => Self::Parked,
            Life::Ended { detail, out_of_memory } => {
                let by = if out_of_memory { EndedBy::Memory } else { EndedBy::Something };
                Self::Ended { detail, by }
            }
        }
    }
}

/// Asks again what cannot be told for a moment: Podman's containers have `stopped`, which is no state of Docker's, before they have `exited`, and it
/// fails to list images while one is being removed.
pub(crate) async fn settled<T, A: Future<Output = Result<T, Failed>>>(
    ask: impl Fn() -> A,
) -> Result<T, Failed> {
    for _ in 0..LOOKS {
        match ask().await {
            Err(failed) if PASSING.iter().any(|words| failed.message().contains(words)) => {
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

/// A container by id or name; `None` where there is none.
pub(crate) async fn container(daemon: &Daemon, id: &str) -> Result<Option<ContainerInspectResponse>, Failed> {
    let look = || async move { Ok(daemon.api().await?.inspect_container(id, None).await?) };
    match settled(look).await {
        Ok(found) => Ok(Some(found)),
        Err(failed) if failed.is_absent() => Ok(None),
        Err(failed) => Err(failed),
    }
}

pub(crate) fn labels(found: &ContainerInspectResponse) -> Labels {
    found.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default()
}

pub(crate) fn life(found: &ContainerInspectResponse) -> Life {
    let state = found.state.clone().unwrap_or_default();
    let out_of_memory = state.oom_killed == Some(true);
    let error = state.error.filter(|error| !error.is_empty());
    match (state.status, error) {
        (Some(ContainerStateStatusEnum::CREATED) | None, None) => Life::Created,
        (Some(ContainerStateStatusEnum::CREATED) | None, Some(detail)) => {
            Life::Ended { detail, out_of_memory }
        }
        (Some(ContainerStateStatusEnum::EXITED), _) if parking::is_named(found) => Life::Parked,
        (
            Some(
                ContainerStateStatusEnum::EXITED
                | ContainerStateStatusEnum::DEAD
                | ContainerStateStatusEnum::REMOVING,
            ),
            error,
        ) => {
            let detail = error.unwrap_or_else(|| how(state.exit_code, out_of_memory));
            Life::Ended { detail, out_of_memory }
        }
        _ => Life::Running,
    }
}

fn how(code: Option<i64>, out_of_memory: bool) -> String {
    match code {
        _ if out_of_memory => "it ran out of memory".into(),
        None => "it ended".into(),
        Some(code @ 129..=192) => format!("killed by signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
    }
}

/// All containers of ours, and the names of the volumes that they use.
pub(crate) async fn containers(
    daemon: &Daemon,
    owner: &Owner,
) -> Result<(Vec<Observed>, HashSet<String>), Failed> {
    let ours = owner.filter();
    let options = ListContainersOptions { all: true, filters: Some(ours.asked()), ..Default::default() };
    let list = || async { Ok(daemon.api().await?.list_containers(Some(options.clone())).await?) };
    let mut summaries = settled(list).await?;
    summaries.retain(|summary| summary.labels.as_ref().is_some_and(|labels| ours.fits(labels)));
    let used = summaries
        .iter()
        .flat_map(|summary| summary.mounts.iter().flatten())
        .filter_map(|mount| mount.name.clone())
        .collect();
    let observed: Vec<Option<Observed>> = futures::stream::iter(summaries)
        .map(|summary| observed(daemon, owner, summary))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok((observed.into_iter().flatten().collect(), used))
}

async fn observed(
    daemon: &Daemon,
    owner: &Owner,
    summary: ContainerSummary,
) -> Result<Option<Observed>, Failed> {
    let Some(id) = summary.id else { return Ok(None) };
    let labels = summary.labels.unwrap_or_default();
    if is_beside(&labels) {
        return Ok(None);
    }
    let Some(tag) = owner.tag(&labels) else {
        let state = if is_part(&labels, Part::Shelf) {
            // A large one takes its time; one that takes longer was left by a crash.
            let made = summary.created.and_then(|at| u64::try_from(at).ok()).map(Duration::from_secs);
            let keep = made.is_some_and(|made| SystemTime::now() < SystemTime::UNIX_EPOCH + made + FILLING);
            ObservedState::Resource { kind: "container that takes git mirrors".into(), keep }
        } else {
            ObservedState::Resource { kind: "container that installs the agent".into(), keep: false }
        };
        return Ok(Some(Observed { at: Reference::Container(id).to_ref(), tag: None, state }));
    };
    // The list says neither how one ended nor, for a moment after its event, that it did. Gone meanwhile is gone.
    let Some(found) = container(daemon, &id).await? else { return Ok(None) };
    let state = life(&found).into();
    Ok(Some(worker(tag, id, state)))
}

pub(crate) fn worker(tag: Tag, container: String, state: ObservedState) -> Observed {
    let at = Reference::Worker { key: tag.key(), container }.to_ref();
    Observed { at, tag: Some(tag), state }
}

/// Volumes that serve the installation, and such that are left of workers.
pub(crate) async fn volumes(
    daemon: &Daemon,
    owner: &Owner,
    used: &HashSet<String>,
    current: &HashSet<String>,
) -> Result<Vec<Observed>, Failed> {
    let ours = owner.filter();
    let options = ListVolumesOptions { filters: Some(ours.asked()) };
    let found = daemon.api().await?.list_volumes(Some(options)).await?.volumes.unwrap_or_default();
    let observe = |volume: bollard::models::Volume| {
        let at = Reference::Volume(volume.name.clone()).to_ref();
        if is_part(&volume.labels, Part::AgentVolume) {
            let keep = current.contains(&volume.name) || used.contains(&volume.name);
            let state = ObservedState::Resource { kind: "volume with the agent".into(), keep };
            return Some(Observed { at, tag: None, state });
        }
        if is_part(&volume.labels, Part::Shelf) {
            let state = ObservedState::Resource { kind: "volume with git mirrors".into(), keep: true };
            return Some(Observed { at, tag: None, state });
        }
        let state = ObservedState::Resource { kind: "volume".into(), keep: false };
        (!used.contains(&volume.name)).then(|| Observed { at, tag: owner.tag(&volume.labels), state })
    };
    Ok(found.into_iter().filter(|volume| ours.fits(&volume.labels)).filter_map(observe).collect())
}

pub(crate) async fn listed_images(
    daemon: &Daemon,
    options: ListImagesOptions,
) -> Result<Vec<ImageSummary>, Failed> {
    settled(|| async { Ok(daemon.api().await?.list_images(Some(options.clone())).await?) }).await
}

/// Images with the agent that a crash left behind.
pub(crate) async fn images(daemon: &Daemon, owner: &Owner) -> Result<Vec<Observed>, Failed> {
    let ours = owner.filter();
    let options = ListImagesOptions { filters: Some(ours.asked()), ..Default::default() };
    let found = listed_images(daemon, options).await?;
    let observe = |image: ImageSummary| Observed {
        at: Reference::Image(image.id).to_ref(),
        tag: None,
        state: ObservedState::Resource { kind: "image with the agent".into(), keep: false },
    };
    let installers =
        found.into_iter().filter(|image| ours.fits(&image.labels) && is_part(&image.labels, Part::Installer));
    Ok(installers.map(observe).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ContainerState;

    #[test]
    fn an_end_is_told_in_words() {
        let in_state = |status, code, oom, error: &str| {
            let state = ContainerState {
                status: Some(status),
                exit_code: Some(code),
                oom_killed: Some(oom),
                error: Some(error.into()),
                ..Default::default()
            };
            life(&ContainerInspectResponse { state: Some(state), ..Default::default() })
        };
        let ended = |detail: &str, out_of_memory| Life::Ended { detail: detail.into(), out_of_memory };
        use ContainerStateStatusEnum as Is;
        assert_eq!(in_state(Is::CREATED, 0, false, ""), Life::Created);
        assert_eq!(in_state(Is::RUNNING, 0, false, ""), Life::Running);
        assert_eq!(in_state(Is::PAUSED, 0, false, ""), Life::Running);
        assert_eq!(in_state(Is::EXITED, 3, false, ""), ended("exit code 3", false));
        assert_eq!(in_state(Is::EXITED, 137, false, ""), ended("killed by signal 9", false));
        assert_eq!(in_state(Is::EXITED, 137, true, ""), ended("it ran out of memory", true));
        assert_eq!(in_state(Is::CREATED, 127, false, "no such file"), ended("no such file", false));
    }
}
