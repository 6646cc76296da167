//! One launch: the container with the worker's name is made, furnished and started, or taken as far as it has come.

use crate::console;
use crate::container::{self, INSIDE, Plan};
use crate::daemon::Daemon;
use crate::failure::Failed;
use crate::labels::{Labels, Owner};
use crate::limits;
use crate::observe::{self, Life};
use crate::reference::Reference;
use crate::services::{Beside, Waits};
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions, UploadToContainerOptions};
use rouse_contract::{EndedBy, LaunchItem, LaunchOutcome};
use rouse_model::failure::FailureClass;
use std::path::Path;
use std::time::Duration;

/// How much of a dead agent's output goes with the answer to its launch.
const CONSOLE_WITH_DEATH: usize = 16 * 1024;
/// A name is taken a moment before its container can be seen.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Launch<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) owner: &'a Owner,
    pub(crate) plan: &'a Plan,
    pub(crate) item: &'a LaunchItem,
    /// Where the daemon has the master's files. Else the join document goes along with the container.
    pub(crate) link: Option<&'a Path>,
    pub(crate) waits: &'a Waits,
}

impl Launch<'_> {
    /// No two at a time with one token.
    pub(crate) async fn run(&self) -> LaunchOutcome {
        match self.attempt().await {
            Ok(outcome) => outcome,
            Err(failed) => LaunchOutcome::Unknown { reason: failed.message() },
        }
    }

    async fn attempt(&self) -> Result<LaunchOutcome, Failed> {
        let network = match self.beside().run().await? {
            Ok(network) => network,
            Err(outcome) => return Ok(outcome),
        };
        let (id, life) = match self.create(network.as_deref()).await {
            Ok(made) => made,
            Err(failed) if matches!(failed.status(), Some(400 | 404)) => {
                return Ok(LaunchOutcome::Invalid { class: FailureClass::Image, reason: failed.message() });
            }
            Err(failed) => return Err(failed),
        };
        match life {
            Life::Created => {
                if let Some(reason) = limits::refusal(self.daemon, &id, self.plan.limits()).await? {
                    return self.refused(&id, FailureClass::Image, reason).await;
                }
                if let Some(network) = &network {
                    self.beside().join(network, &id).await?;
                }
                self.start(&id).await
            }
            Life::Running | Life::Parked => Ok(LaunchOutcome::Accepted { at: self.reference(&id) }),
            Life::Ended { detail, .. } => self.died(&id, detail).await,
        }
    }

    fn beside(&self) -> Beside<'_> {
        let Self { daemon, owner, plan, item, waits, .. } = *self;
        Beside { daemon, owner, plan, item, alone: plan.is_alone(item.needs_network), waits }
    }

    fn reference(&self, id: &str) -> rouse_model::worker::ProviderRef {
        Reference::Worker { key: self.item.tag.key(), container: id.to_owned() }.to_ref()
    }

    /// Makes the container, or finds the one that has its name.
    async fn create(&self, network: Option<&str>) -> Result<(String, Life), Failed> {
        let name = container::name(self.owner, &self.item.tag);
        let body = self.plan.body(self.owner, self.item, self.link, network);
        let is_ours = |labels: &Labels| self.owner.tag(labels).as_ref() == Some(&self.item.tag);
        make(self.daemon, &name, self.plan.options.platform.as_deref(), body, is_ours).await
    }

    async fn start(&self, id: &str) -> Result<LaunchOutcome, Failed> {
        if self.plan.other_than_root() || self.link.is_none() {
            self.furnish(id).await?;
        }
        let started = self.daemon.api().await?.start_container(id, None).await.map_err(Failed::from);
        if let Err(failed) = started {
            return self.not_started(id, failed).await;
        }
        match observe::container(self.daemon, id).await?.as_ref().map(observe::life) {
            Some(Life::Ended { detail, .. }) => self.died(id, detail).await,
            _ => Ok(LaunchOutcome::Accepted { at: self.reference(id) }),
        }
    }

    async fn furnish(&self, id: &str) -> Result<(), Failed> {
        let join = self.link.is_none().then_some(self.item.join.as_slice());
        let tar = container::furniture(join)
            .map_err(|error| Failed::said(FailureClass::Master, error.to_string()))?;
        upload(self.daemon, id, tar).await
    }

    /// What the daemon says against the inputs will be said again; of all else the container is left to be looked at.
    async fn not_started(&self, id: &str, failed: Failed) -> Result<LaunchOutcome, Failed> {
        match failed.status() {
            _ if is_final(&failed) => self.refused(id, FailureClass::Image, failed.message()).await,
            Some(404) | None => Err(failed),
            Some(_) => self.died(id, failed.message()).await,
        }
    }

    /// Nothing is left of a container that is not to run.
    async fn refused(&self, id: &str, class: FailureClass, reason: String) -> Result<LaunchOutcome, Failed> {
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        self.daemon.api().await?.remove_container(id, Some(options)).await?;
        Ok(LaunchOutcome::Invalid { class, reason })
    }

    async fn died(&self, id: &str, reason: String) -> Result<LaunchOutcome, Failed> {
        let console = console::tail(self.daemon, id, CONSOLE_WITH_DEATH).await?;
        let (at, by) = (self.reference(id), EndedBy::Something);
        Ok(LaunchOutcome::Died { at, reason, by, console })
    }
}

/// Unpacks what is to lie where everything of ours is.
pub(crate) async fn upload(daemon: &Daemon, id: &str, tar: Vec<u8>) -> Result<(), Failed> {
    let options = UploadToContainerOptions { path: INSIDE.into(), ..Default::default() };
    let body = bollard::body_full(tar.into());
    Ok(daemon.api().await?.upload_to_container(id, Some(options), body).await?)
}

/// Makes a container, or finds the one that has its name.
pub(crate) async fn make(
    daemon: &Daemon,
    name: &str,
    platform: Option<&str>,
    body: ContainerCreateBody,
    is_ours: impl Fn(&Labels) -> bool,
) -> Result<(String, Life), Failed> {
    let mut attempts = 0;
    loop {
        let platform = platform.unwrap_or_default().to_owned();
        let options = CreateContainerOptions { name: Some(name.to_owned()), platform };
        let created = daemon.api().await?.create_container(Some(options), body.clone()).await;
        match created.map_err(Failed::from) {
            Ok(made) => return Ok((made.id, Life::Created)),
            Err(failed) if !failed.is_conflict() => return Err(failed),
            Err(failed) => {
                if let Some(found) = observe::container(daemon, name).await? {
                    return taken(found, is_ours);
                }
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(failed);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn taken(
    found: ContainerInspectResponse,
    is_ours: impl Fn(&Labels) -> bool,
) -> Result<(String, Life), Failed> {
    if !is_ours(&observe::labels(&found)) {
        let message = "a container that is not this worker's has its name";
        return Err(Failed::said(FailureClass::Offering, message));
    }
    let life = observe::life(&found);
    let id = found.id.ok_or_else(|| Failed::said(FailureClass::Offering, "a container without an id"))?;
    Ok((id, life))
}

/// 400 is against the inputs, and so is a user or a program that the image does not have, for which daemons differ in their status.
pub(crate) fn is_final(failed: &Failed) -> bool {
    let says = |words: &str| failed.status().is_some() && failed.message().contains(words);
    failed.status() == Some(400)
        || says("unable to find user")
        || says("attempted to invoke a command that was not found")
}
