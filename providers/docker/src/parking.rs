//! Containers that lie stopped. That one was stopped to be parked, and did not end, is told by its name: nothing else of a container can be changed
//! by all daemons, and the name is changed before it is stopped and after it is started again, so that it is never taken for one that has ended.

use crate::container::{self, furniture};
use crate::daemon::Daemon;
use crate::failure::Failed;
use crate::labels::{Owner, is_accompanied};
use crate::launch::{is_final, upload};
use crate::observe::{self, Life};
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{RenameContainerOptions, StopContainerOptions};
use rouse_contract::{LaunchItem, Turned};
use rouse_model::failure::FailureClass;

const SUFFIX: &str = ".parked";
/// Seconds that what runs in it may take to end, before it is killed.
const PATIENCE: i32 = 10;

/// Whether it is to lie, by its name.
pub(crate) fn is_named(found: &ContainerInspectResponse) -> bool {
    found.name.as_ref().is_some_and(|name| name.ends_with(SUFFIX))
}

async fn find(daemon: &Daemon, owner: &Owner, id: &str) -> Result<Option<ContainerInspectResponse>, Failed> {
    let found = observe::container(daemon, id).await?;
    Ok(found.filter(|found| owner.owns(&observe::labels(found))))
}

async fn rename(daemon: &Daemon, id: &str, name: String) -> Result<(), Failed> {
    Ok(daemon.api().await?.rename_container(id, RenameContainerOptions { name }).await?)
}

pub(crate) async fn park(daemon: &Daemon, owner: &Owner, id: &str) -> Result<Turned, Failed> {
    let Some(found) = find(daemon, owner, id).await? else { return Ok(Turned::Absent) };
    if is_accompanied(&observe::labels(&found)) {
        let message = "services stand beside it, which would run on";
        return Err(Failed::said(FailureClass::User, message));
    }
    match observe::life(&found) {
        Life::Parked => return Ok(Turned::Done),
        Life::Created | Life::Ended { .. } => return Ok(Turned::Absent),
        Life::Running => {}
    }
    if !is_named(&found) {
        let name = found.name.unwrap_or_default();
        rename(daemon, id, format!("{}{SUFFIX}", name.trim_start_matches('/'))).await?;
    }
    let options = StopContainerOptions { t: Some(PATIENCE), signal: None };
    daemon.api().await?.stop_container(id, Some(options)).await?;
    match find(daemon, owner, id).await?.as_ref().map(observe::life) {
        Some(Life::Parked) => Ok(Turned::Done),
        None => Ok(Turned::Absent),
        Some(_) => Err(Failed::said(FailureClass::Offering, "it was told to stop, and still runs")),
    }
}

/// `furnishes`: its agent's join document goes along with it, as it has no link folder.
pub(crate) async fn resume(
    daemon: &Daemon,
    owner: &Owner,
    (id, item): (&str, &LaunchItem),
    furnishes: bool,
) -> Result<Turned, Failed> {
    let Some(found) = find(daemon, owner, id).await? else { return Ok(Turned::Absent) };
    match observe::life(&found) {
        Life::Running => {}
        Life::Created | Life::Ended { .. } => return Ok(Turned::Absent),
        Life::Parked => {
            if furnishes {
                let tar = furniture(Some(&item.join))
                    .map_err(|error| Failed::said(FailureClass::Master, error.to_string()))?;
                upload(daemon, id, tar).await?;
            }
            let started = daemon.api().await?.start_container(id, None).await.map_err(Failed::from);
            if let Err(failed) = started {
                return Err(match is_final(&failed) {
                    true => Failed::said(FailureClass::Image, failed.message()),
                    false => failed,
                });
            }
        }
    }
    if is_named(&found) {
        rename(daemon, id, container::name(owner, &item.tag)).await?;
    }
    Ok(Turned::Done)
}
