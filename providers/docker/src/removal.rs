//! Removes what is ours and waits until it is gone. What is somebody else's is not there for us.

use crate::daemon::Daemon;
use crate::failure::Failed;
use crate::labels::Owner;
use crate::observe;
use bollard::query_parameters::{RemoveContainerOptions, RemoveImageOptions, RemoveVolumeOptions};
use std::time::Duration;

/// Between looks at a container that somebody else removes at the same time.
const PAUSE: Duration = Duration::from_millis(50);

/// With the volumes that came with it.
pub(crate) async fn container(daemon: &Daemon, owner: &Owner, id: &str) -> Result<(), Failed> {
    loop {
        match observe::container(daemon, id).await? {
            Some(found) if owner.owns(&observe::labels(&found)) => {}
            _ => return Ok(()),
        }
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        match daemon.api().await?.remove_container(id, Some(options)).await.map_err(Failed::from) {
            Ok(()) => {}
            Err(failed) if failed.is_absent() => {}
            // Its removal is under way. Whoever asked has a deadline.
            Err(failed) if failed.is_conflict() => tokio::time::sleep(PAUSE).await,
            Err(failed) => return Err(failed),
        }
    }
}

pub(crate) async fn volume(daemon: &Daemon, owner: &Owner, name: &str) -> Result<(), Failed> {
    let remove = async {
        let api = daemon.api().await?;
        let found = api.inspect_volume(name).await?;
        if owner.owns(&found.labels) {
            api.remove_volume(name, None::<RemoveVolumeOptions>).await?;
        }
        Ok(())
    };
    absent_is_fine(remove.await)
}

pub(crate) async fn image(daemon: &Daemon, owner: &Owner, id: &str) -> Result<(), Failed> {
    let remove = async {
        let api = daemon.api().await?;
        let found = api.inspect_image(id).await?;
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        if owner.owns(&labels) {
            let options = RemoveImageOptions { force: true, ..Default::default() };
            api.remove_image(id, Some(options), None).await?;
        }
        Ok(())
    };
    absent_is_fine(remove.await)
}

fn absent_is_fine(answer: Result<(), Failed>) -> Result<(), Failed> {
    match answer {
        Err(failed) if failed.is_absent() => Ok(()),
        answer => answer,
    }
}
