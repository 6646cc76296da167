//! The contract, kept by containers.

use crate::agent_volume::AgentVolumes;
use crate::build::Builds;
use crate::collect::Marks;
use crate::console;
use crate::container::Plan;
use crate::daemon::Daemon;
use crate::events::Events;
use crate::failure::{Doing, Failed};
use crate::images::Images;
use crate::labels::{Owner, is_accompanied};
use crate::launch::Launch;
use crate::links::Links;
use crate::mounts;
use crate::observe;
use crate::options::{AccountOptions, PoolOptions};
use crate::parking;
use crate::reference::Reference;
use crate::removal;
use crate::services::{self, Service, Waits};
use crate::shelves::DockerShelves;
use crate::streams::DockerStreams;
use crate::turns::Turns;
use async_trait::async_trait;
use bollard::models::ImageInspect;
use futures::StreamExt;
use rouse_contract::kind::read_options;
use rouse_contract::{
    Capabilities, Collected, Hint, Installation, LaunchItem, LaunchOutcome, LaunchSpec, Observed,
    ObservedState, Provider, ProviderError, ResolveRequest, Resolved, ServiceLog, Shelves, Streams, Tag,
    Turned,
};
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use rouse_model::{Timestamp, Trust};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

/// Launches at once: more only wait within the daemon.
const AT_ONCE: usize = 8;

/// One daemon.
#[derive(Debug)]
pub struct DockerProvider {
    daemon: Daemon,
    owner: Owner,
    links: Links,
    agents: AgentVolumes,
    images: Images,
    builds: Builds,
    turns: Turns,
    events: Events,
    shelves: DockerShelves,
    streams: DockerStreams,
    waits: Waits,
}

impl DockerProvider {
    /// Calls nobody yet.
    ///
    /// # Errors
    /// Where the daemon's address is not one that is known here.
    pub fn new(
        account: &str,
        options: &AccountOptions,
        installation: Installation,
    ) -> Result<Self, ProviderError> {
        let daemon = match &options.host {
            Some(host) => Daemon::at(host)?.with_tls(options.tls.clone()),
            None => Daemon::from_environment()?,
        };
        let owner = Owner::new(&installation, account);
        Ok(Self {
            shelves: DockerShelves::new(daemon.clone(), owner.clone()),
            streams: DockerStreams { daemon: daemon.clone() },
            daemon,
            links: Links::new(&installation, account),
            agents: AgentVolumes::new(&installation, owner.clone()),
            builds: Builds::new(&owner),
            images: Images::new(options.images.as_ref().map(|images| Marks::new(&owner, images.keep.0))),
            owner,
            turns: Turns::default(),
            events: Events::default(),
            waits: Waits::default(),
        })
    }

    async fn plan(&self, spec: &LaunchSpec) -> Result<Plan, LaunchOutcome> {
        let invalid = |class, reason: String| LaunchOutcome::Invalid { class, reason };
        let options: PoolOptions =
            read_options(&spec.options).map_err(|fault| invalid(FailureClass::Master, fault.message))?;
        if let Some(why) = options.mounts.iter().find_map(mounts::refusal) {
            return Err(invalid(FailureClass::User, why));
        }
        let Some(image) = &spec.image else {
            return Err(invalid(
                FailureClass::Master,
                "a container needs an image, and none was resolved".into(),
            ));
        };
        let found = match (&spec.tree, &options.build) {
            (Some(tree), Some(build)) => {
                let made =
                    self.builds.image(&self.images, &self.daemon, (tree, build), &options, &spec.secrets);
                made.await.map_err(|error| without_image(&image.id, error))?.1
            }
            _ => self.have(&image.id, &options, spec).await?,
        };
        let mut services = Vec::new();
        for (name, service) in &options.services {
            let Some(image) = spec.beside.get(name) else {
                let reason = format!("no image was resolved for service `{name}`");
                return Err(invalid(FailureClass::Master, reason));
            };
            self.have(&image.id, &options, spec).await.map_err(|outcome| of_service(name, outcome))?;
            services.push(Service { name: name.clone(), options: service.clone(), image: image.id.clone() });
        }
        let podman = !services.is_empty() && self.is_podman().await?;
        if podman && spec.trust == Trust::Untrusted {
            return Err(invalid(FailureClass::Image, services::NOT_ON_PODMAN.into()));
        }
        let architecture = found.architecture.as_deref().filter(|a| !a.is_empty()).unwrap_or("amd64");
        match self.agents.ready(&self.daemon, architecture).await {
            Ok(agent) => Ok(Plan::new(spec, options, &found, agent, services, podman)),
            Err(failed) if failed.is_absent() => Err(invalid(FailureClass::Image, failed.message())),
            Err(Failed::Said { class, message }) => Err(invalid(class, message)),
            Err(failed) => Err(LaunchOutcome::Unknown { reason: failed.message() }),
        }
    }

    async fn is_podman(&self) -> Result<bool, LaunchOutcome> {
        let said = self.daemon.is_podman().await;
        said.map_err(|failed| LaunchOutcome::Unknown { reason: failed.message() })
    }

    /// An image of a launch, pulled where it is not here.
    async fn have(
        &self,
        id: &str,
        options: &PoolOptions,
        spec: &LaunchSpec,
    ) -> Result<ImageInspect, LaunchOutcome> {
        let here = self.images.here(&self.daemon, id, options, &spec.secrets).await;
        here.map_err(|error| without_image(id, error))
    }

    async fn launch_one(&self, plan: &Plan, item: &LaunchItem) -> LaunchOutcome {
        let key = item.tag.key();
        let turn = self.turns.of(&key);
        let _turn = turn.lock().await;
        let link = self.daemon.has_our_files().then(|| self.links.of(&key));
        let (daemon, owner, waits) = (&self.daemon, &self.owner, &self.waits);
        Launch { daemon, owner, plan, item, link: link.as_deref(), waits }.run().await
    }

    /// What is there; `None` where the reference means nothing of ours.
    async fn find(&self, reference: &Reference) -> Result<Option<Observed>, Failed> {
        match reference {
            Reference::Worker { container, .. } => {
                let Some(found) = observe::container(&self.daemon, container).await? else { return Ok(None) };
                let tag = self.owner.tag(&observe::labels(&found));
                let state = observe::life(&found).into();
                Ok(tag.map(|tag| observe::worker(tag, container.clone(), state)))
            }
            other => {
                let at = other.to_ref();
                Ok(self.all().await?.into_iter().find(|seen| seen.at == at))
            }
        }
    }

    async fn all(&self) -> Result<Vec<Observed>, Failed> {
        // Folders first: one that is made meanwhile is not there yet, and one whose container goes meanwhile is left over.
        let folders = self.links.all().map_err(here)?;
        let current = self.agents.current().await.map_err(here)?;
        // What stands beside workers first, too.
        let beside = services::all(&self.daemon, &self.owner).await?;
        let (mut all, used) = observe::containers(&self.daemon, &self.owner).await?;
        let keys: HashSet<String> = all.iter().filter_map(|seen| seen.tag.as_ref()).map(Tag::key).collect();
        all.extend(beside.into_iter().filter(|(key, _)| !keys.contains(key)).map(|(key, tag)| Observed {
            at: Reference::Beside { key }.to_ref(),
            tag: Some(tag),
            state: ObservedState::Resource { kind: "services".into(), keep: false },
        }));
        all.extend(observe::volumes(&self.daemon, &self.owner, &used, &current).await?);
        all.extend(observe::images(&self.daemon, &self.owner).await?);
        let left = folders.into_iter().filter(|(key, _)| !keys.contains(key) && self.links.is_there(key));
        all.extend(left.map(|(key, tag)| Observed {
            at: Reference::Link { key }.to_ref(),
            tag,
            state: ObservedState::Resource { kind: "link folder".into(), keep: false },
        }));
        Ok(all)
    }

    async fn remove(&self, reference: &Reference) -> Result<(), Failed> {
        match reference {
            Reference::Worker { key, container } => {
                let found = observe::container(&self.daemon, container).await?;
                let alone = found.is_some_and(|found| !is_accompanied(&observe::labels(&found)));
                removal::container(&self.daemon, &self.owner, container).await?;
                if !alone {
                    services::remove(&self.daemon, &self.owner, key).await?;
                }
                self.links.remove(key).map_err(here)
            }
            Reference::Beside { key } => services::remove(&self.daemon, &self.owner, key).await,
            Reference::Link { key } => self.links.remove(key).map_err(here),
            Reference::Container(id) => removal::container(&self.daemon, &self.owner, id).await,
            Reference::Volume(name) => {
                removal::volume(&self.daemon, &self.owner, name).await?;
                self.agents.forget(name).await.map_err(here)
            }
            Reference::Image(id) => removal::image(&self.daemon, &self.owner, id).await,
        }
    }
}

#[async_trait]
impl Provider for DockerProvider {
    fn capabilities(&self) -> Capabilities {
        let here = self.daemon.is_here();
        Capabilities {
            images: true,
            host_bound: here,
            console: true,
            shares_host_network: here,
            largest_batch: 1,
            park: true,
        }
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        // The request's images are rendered; those of the options may be absent.
        let mut options = request.options.clone();
        if let Some(options) = options.as_object_mut() {
            options.insert("image".into(), request.images.clone().into());
        }
        let options: PoolOptions = read_options(&options).map_err(|fault| {
            ProviderError::new(FailureClass::Master, "read the pool's options", fault.message)
        })?;
        match (&request.tree, &options.build) {
            (Some(tree), Some(build)) => {
                let made =
                    self.builds.image(&self.images, &self.daemon, (tree, build), &options, &request.secrets);
                Ok(Resolved { image: format!("{} of {}", build.file, tree.codebase), id: made.await?.0 })
            }
            _ => self.images.resolve(&self.daemon, request, &options).await,
        }
    }

    async fn link_dir(&self, tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        if !self.daemon.has_our_files() {
            return Ok(None);
        }
        let made = self.links.make(tag).map_err(here);
        made.map(Some).doing(|| format!("make the link folder of {}", tag.name))
    }

    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        let plan = match self.plan(spec).await {
            Ok(plan) => plan,
            Err(outcome) => return vec![outcome; items.len()],
        };
        let launches = items.iter().map(|item| self.launch_one(&plan, item)).collect::<Vec<_>>();
        futures::stream::iter(launches).buffered(AT_ONCE).collect().await
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        self.all().await.doing(|| format!("list what is on {}", self.daemon.host()))
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        let Some(reference) = Reference::parse(at) else { return Ok(None) };
        self.find(&reference).await.doing(|| format!("inspect {}", at.0))
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        let Some(reference) = Reference::parse(at) else { return Ok(()) };
        self.remove(&reference).await.doing(|| format!("remove {}", at.0))
    }

    async fn park(&self, at: &ProviderRef) -> Result<Turned, ProviderError> {
        let Some(Reference::Worker { key, container }) = Reference::parse(at) else {
            return Ok(Turned::Absent);
        };
        let turn = self.turns.of(&key);
        let _turn = turn.lock().await;
        parking::park(&self.daemon, &self.owner, &container).await.doing(|| format!("park {}", at.0))
    }

    async fn resume(&self, at: &ProviderRef, item: &LaunchItem) -> Result<Turned, ProviderError> {
        let Some(Reference::Worker { key, container }) = Reference::parse(at) else {
            return Ok(Turned::Absent);
        };
        let turn = self.turns.of(&key);
        let _turn = turn.lock().await;
        let furnishes = !self.daemon.has_our_files();
        let resumed = parking::resume(&self.daemon, &self.owner, (&container, item), furnishes);
        resumed.await.doing(|| format!("resume {}", at.0))
    }

    async fn next_hint(&self) -> Hint {
        self.events.next(&self.daemon, &self.owner).await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        let Some(Reference::Worker { container, .. }) = Reference::parse(at) else { return Ok(None) };
        let read = async {
            match observe::container(&self.daemon, &container).await? {
                Some(found) if self.owner.owns(&observe::labels(&found)) => {
                    console::tail(&self.daemon, &container, max_bytes).await
                }
                _ => Ok(None),
            }
        };
        match read.await {
            // Gone meanwhile.
            Err(failed) if failed.is_absent() => Ok(None),
            answer => answer.doing(|| format!("read the console of {}", at.0)),
        }
    }

    fn collects(&self) -> bool {
        self.images.are_collected()
    }

    async fn collect(&self, wanted: &HashSet<String>) -> Result<Vec<Collected>, ProviderError> {
        let collected = self.images.collect(&self.daemon, wanted).await;
        collected.doing(|| format!("collect images of {}", self.daemon.host()))
    }

    async fn service_logs(
        &self,
        at: &ProviderRef,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<Vec<ServiceLog>, ProviderError> {
        let Some(Reference::Worker { key, .. }) = Reference::parse(at) else { return Ok(Vec::new()) };
        let read = services::logs(&self.daemon, &self.owner, &key, since, max_bytes);
        read.await.doing(|| format!("read the services' logs of {}", at.0))
    }

    fn shelves(&self) -> Option<&dyn Shelves> {
        Some(&self.shelves)
    }

    fn streams(&self) -> Option<&dyn Streams> {
        Some(&self.streams)
    }
}

/// What it means for a launch that its image cannot be had.
fn without_image(id: &str, error: ProviderError) -> LaunchOutcome {
    let (class, reason) = (error.class, error.to_string());
    match error.retry_after {
        Some(retry_after) if class == FailureClass::Image => {
            LaunchOutcome::NoImage { image: id.to_owned(), reason, retry_after }
        }
        _ if class.is_transient() => LaunchOutcome::Unknown { reason },
        _ => LaunchOutcome::Invalid { class, reason: error.message },
    }
}

/// Says whose image it is that cannot be had.
fn of_service(name: &str, outcome: LaunchOutcome) -> LaunchOutcome {
    let of = |reason: String| format!("service `{name}`: {reason}");
    match outcome {
        LaunchOutcome::NoImage { image, reason, retry_after } => {
            LaunchOutcome::NoImage { image, reason: of(reason), retry_after }
        }
        LaunchOutcome::Invalid { class, reason } => LaunchOutcome::Invalid { class, reason: of(reason) },
        other => other,
    }
}

fn here(error: io::Error) -> Failed {
    Failed::said(FailureClass::Master, error.to_string())
}
