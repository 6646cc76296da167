//! The object store: which one it is, by the master's own options and the configuration; and whether it is there.

use super::make_folder;
use crate::config::ObjectsConfig;
use crate::ctx::{Active, Ctx};
use crate::objects::{self, FOLDER, Keys, Objects};
use crate::secrets::{SecretError, SecretValue};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

/// Between two looks after a bucket that was away.
const LOOK: Duration = Duration::from_secs(5);

/// Opens it, and notes in the state folder which one it is.
pub(super) fn open(
    named: Option<&Path>,
    state: &Path,
    active: &Receiver<Arc<Active>>,
) -> anyhow::Result<Arc<Objects>> {
    let config = active.borrow().config.server.objects.clone();
    let objects = match (named, config) {
        (Some(named), Some(config)) => anyhow::bail!(
            "the configuration has logs and artifacts in {} (`server.objects`), and --objects in {}; give one of them",
            config.url,
            named.display()
        ),
        (None, Some(config)) => {
            let keys = InForce { active: active.clone(), opened: config.clone() };
            objects::bucket(&config, Arc::new(keys))?
        }
        (named, None) => {
            let usual = state.join(FOLDER);
            objects::directory(&make_folder(named.unwrap_or(&usual))?)?
        }
    };
    objects::note_place(state, &objects)?;
    Ok(objects)
}

/// The keys of a bucket, by the configuration in force.
#[derive(Debug)]
struct InForce {
    active: Receiver<Arc<Active>>,
    opened: ObjectsConfig,
}

#[async_trait::async_trait]
impl Keys for InForce {
    async fn pair(&self) -> Result<(SecretValue, SecretValue), SecretError> {
        let active = self.active.borrow().clone();
        // Whoever has taken the section away or changed it is told that this master goes on with what it has.
        let now = active.config.server.objects.as_ref().filter(|now| now.keys.is_some());
        objects::pair(&active.config, now.unwrap_or(&self.opened)).await
    }
}

/// Looks whether a bucket is there, at the start and while it is not; says so where the configuration names another one by now.
pub(super) async fn watch(ctx: Arc<Ctx>, stop: CancellationToken) {
    let Some(opened) = ctx.objects.bucket().map(|bucket| bucket.config().clone()) else {
        return stop.cancelled().await;
    };
    let mut active = ctx.active.clone();
    let name = ctx.me.to_string();
    let mut look = true;
    loop {
        if look && let Err(error) = ctx.objects.probe(&name).await {
            tracing::debug!(error = crate::supervisor::chain(&error), "the object store was looked at");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => look = ctx.objects.trouble().is_some(),
            changed = active.changed() => {
                look = false;
                if changed.is_err() {
                    return stop.cancelled().await;
                }
                if active.borrow_and_update().config.server.objects.as_ref().is_none_or(|now| now != &opened) {
                    tracing::warn!(
                        "`server.objects` has changed; this master goes on with {} until it is started again",
                        opened.url
                    );
                }
            }
        }
    }
}
