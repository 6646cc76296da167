//! Services beside a worker: containers of their own, in an internal network that only they and the worker are in. They are made before the
//! worker's container and ready before it starts, and found again by their labels, whatever became of the master or the worker.

use crate::console;
use crate::container::{self, Plan};
use crate::daemon::Daemon;
use crate::failure::Failed;
use crate::labels::{self, Filter, Labels, Owner};
use crate::launch;
use crate::limits;
use crate::observe::{self, Life};
use crate::options::{PoolOptions, Ready, ServiceOptions};
use crate::reference::Reference;
use crate::removal;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{HealthStatusEnum, NetworkConnectRequest, NetworkCreateRequest};
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};
use futures::StreamExt;
use rouse_contract::kind::is_template;
use rouse_contract::{EndedBy, LaunchItem, LaunchOutcome, ServiceLog, Tag};
use rouse_model::Timestamp;
use rouse_model::failure::FailureClass;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a service may take to be ready, where nobody says.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one launch waits for it. Whoever asked asks again, and the clock goes on.
const IN_ONE_CALL: Duration = Duration::from_secs(60);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(200);
/// How much of what it printed goes with the answer where it does not get ready.
const CONSOLE_WITH_END: usize = 16 * 1024;
/// How many services' waits are remembered.
const REMEMBERED: usize = 4_096;
/// The bridge has no address of the host's, so what is in the network does not reach what listens on the host.
const WITHOUT_THE_HOST: (&str, &str) = ("com.docker.network.bridge.inhibit_ipv4", "true");

/// Podman's bridge has an address of the host's whatever is asked for, and its names are the host's.
pub(crate) const NOT_ON_PODMAN: &str = "a network of Podman's leads to its host, so no services are put beside a build of untrusted origin there; \
                                        let such builds use a pool without `services`, or one on Docker";

/// A service of a launch.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) options: ServiceOptions,
    /// The image's id.
    pub(crate) image: String,
}

/// Since when services are waited for, by their containers: over all launches that ask for one. Another process begins anew.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<HashMap<String, Instant>>);

impl Waits {
    fn since(&self, container: &str) -> Instant {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waits.len() >= REMEMBERED {
            waits.clear();
        }
        *waits.entry(container.to_owned()).or_insert_with(Instant::now)
    }

    fn forget(&self, container: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

/// What is wrong with the services of a pool: of which, at which key, and why.
pub(crate) fn faults(options: &PoolOptions) -> Vec<(String, Option<&'static str>, String)> {
    let mut faults = Vec::new();
    for (name, service) in &options.services {
        let mut fault = |key, message: &str| faults.push((name.clone(), key, message.to_owned()));
        if !is_host_name(name) || name == "localhost" {
            fault(None, "the name is one that builds reach it by: small letters, digits and `-`");
        }
        if service.image.trim().is_empty() {
            fault(Some("image"), "an image is needed");
        }
        if service.env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
            fault(Some("env"), "there is one that is not a name of an environment variable");
        }
        let ready = service.ready.as_ref().map(Ready::words);
        if ready.is_some_and(|words| words.trim().is_empty() || is_template(&words)) {
            fault(Some("ready"), "this is a command, written out without a template");
        }
        if service.cpus.is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0) {
            fault(Some("cpus"), "an amount of processors is more than 0");
        }
    }
    let shares = |network: &Option<String>| {
        network.as_deref().is_some_and(|name| name == "host" || name.starts_with("container:"))
    };
    if let Some(name) = options.services.keys().next()
        && (shares(&options.network) || shares(&options.untrusted_network))
    {
        let message =
            "a worker in the network of the host or of another container reaches no service by its name";
        faults.push((name.clone(), None, message.to_owned()));
    }
    faults
}

fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A command that asks a service. With what it prints, since Podman says only to whom it is attached that it has ended.
struct Running {
    id: String,
    attached: StartExecResults,
}

impl Running {
    /// Throws away what it prints, until it has ended or for a moment.
    async fn drain(&mut self) {
        if let StartExecResults::Attached { output, .. } = &mut self.attached {
            let all = async { while let Some(Ok(_)) = output.next().await {} };
            // What goes on printing is asked again.
            let _ = tokio::time::timeout(PAUSE, all).await;
        }
    }
}

/// How the command that asks a service fares, one at a time.
#[derive(Default)]
struct Asked {
    running: Option<Running>,
    /// What the one before it said.
    last: Option<String>,
}

/// What stands beside the worker of one launch.
pub(crate) struct Beside<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) owner: &'a Owner,
    pub(crate) plan: &'a Plan,
    pub(crate) item: &'a LaunchItem,
    /// The worker has no other network, so it is made in this one.
    pub(crate) alone: bool,
    pub(crate) waits: &'a Waits,
}

impl Beside<'_> {
    /// The network with all services in it, ready; `None` where there are none. Or how the launch ends without.
    pub(crate) async fn run(&self) -> Result<Result<Option<String>, LaunchOutcome>, Failed> {
        if self.plan.services.is_empty() {
            return Ok(Ok(None));
        }
        let network = match self.network().await {
            Ok(network) => network,
            Err(failed) if failed.message().contains("address pool") => {
                let offering = format!("one more network: {}", failed.message());
                return Ok(Err(LaunchOutcome::NoCapacity { offering }));
            }
            Err(failed) => return Err(failed),
        };
        let mut made = Vec::new();
        for service in &self.plan.services {
            match self.start(service, &network).await? {
                Ok(id) => made.push((service, id)),
                Err(outcome) => return Ok(Err(outcome)),
            }
        }
        let until = Instant::now() + IN_ONE_CALL;
        for (service, id) in made {
            if let Err(outcome) = self.wait(service, &id, until).await? {
                return Ok(Err(outcome));
            }
        }
        Ok(Ok(Some(network)))
    }

    /// Puts a worker that has a network of its own into that of its services, too.
    pub(crate) async fn join(&self, network: &str, worker: &str) -> Result<(), Failed> {
        if self.alone {
            return Ok(());
        }
        let request = NetworkConnectRequest { container: worker.to_owned(), endpoint_config: None };
        match self.daemon.api().await?.connect_network(network, request).await.map_err(Failed::from) {
            // By an earlier call.
            Err(failed) if failed.message().contains("already exists in network") => Ok(()),
            Err(failed) if failed.message().contains("already connected") => Ok(()),
            answer => answer,
        }
    }

    /// Its id. Found by its labels: a name of a network may be taken twice.
    async fn network(&self) -> Result<String, Failed> {
        let tag = &self.item.tag;
        if let Some(id) =
            networks(self.daemon, &self.owner.filter_beside(&tag.key())).await?.into_keys().next()
        {
            return Ok(id);
        }
        let (option, value) = WITHOUT_THE_HOST;
        let request = NetworkCreateRequest {
            name: container::name(self.owner, tag),
            driver: Some("bridge".into()),
            internal: Some(true),
            options: Some(HashMap::from([(option.to_owned(), value.to_owned())])),
            labels: Some(self.owner.beside(tag, self.item.expires, None)),
            ..Default::default()
        };
        Ok(self.daemon.api().await?.create_network(request).await?.id)
    }

    /// Makes a service's container and starts it, or takes it as far as it has come.
    async fn start(&self, service: &Service, network: &str) -> Result<Result<String, LaunchOutcome>, Failed> {
        let name = format!("{}-{}", container::name(self.owner, &self.item.tag), service.name);
        let body = self.plan.body_of(self.owner, self.item, service, network);
        let is_ours = |labels: &Labels| {
            self.owner.tag_beside(labels).as_ref() == Some(&self.item.tag)
                && labels::service(labels) == Some(&service.name)
        };
        let platform = self.plan.options.platform.as_deref();
        let invalid = |failed: &Failed| LaunchOutcome::Invalid {
            class: FailureClass::Image,
            reason: format!("service `{}`: {}", service.name, failed.message()),
        };
        let (id, life) = match launch::make(self.daemon, &name, platform, body, is_ours).await {
            Ok(made) => made,
            Err(failed) if matches!(failed.status(), Some(400 | 404)) => return Ok(Err(invalid(&failed))),
            Err(failed) => return Err(failed),
        };
        if life != Life::Created {
            return Ok(Ok(id));
        }
        let ServiceOptions { memory, cpus, pids, .. } = &service.options;
        let asked = limits::asked(memory.is_some(), cpus.is_some(), pids.is_some());
        if let Some(why) = limits::refusal(self.daemon, &id, asked).await? {
            let reason = format!("service `{}`: {why}", service.name);
            return Ok(Err(LaunchOutcome::Invalid { class: FailureClass::Image, reason }));
        }
        match self.daemon.api().await?.start_container(&id, None).await.map_err(Failed::from) {
            Ok(()) => Ok(Ok(id)),
            Err(failed) if launch::is_final(&failed) => Ok(Err(invalid(&failed))),
            // Else its end is looked at in a moment, with what it printed.
            Err(failed) if failed.status().is_some_and(|status| status != 404) => Ok(Ok(id)),
            Err(failed) => Err(failed),
        }
    }

    /// Waits until a service is ready.
    async fn wait(
        &self,
        service: &Service,
        id: &str,
        until: Instant,
    ) -> Result<Result<(), LaunchOutcome>, Failed> {
        let within = service.options.ready_within.map_or(READY_WITHIN, |span| span.0);
        let (since, mut asked) = (self.waits.since(id), Asked::default());
        let trouble = loop {
            let Some(found) = observe::container(self.daemon, id).await? else {
                return Err(Failed::said(FailureClass::Offering, "a service's container is gone"));
            };
            let why_not = match observe::life(&found) {
                Life::Ended { detail, .. } => break format!("ended before it was ready: {detail}"),
                Life::Created => "it has not started".to_owned(),
                Life::Running | Life::Parked => {
                    let health = found.state.and_then(|state| state.health).and_then(|health| health.status);
                    match self.look(service, id, health, &mut asked).await? {
                        None => {
                            self.waits.forget(id);
                            return Ok(Ok(()));
                        }
                        Some(why_not) => why_not,
                    }
                }
            };
            if since.elapsed() >= within {
                break format!("was not ready within {} s: {why_not}", within.as_secs());
            }
            if Instant::now() >= until {
                let reason = format!("service `{}` is not ready yet: {why_not}", service.name);
                return Ok(Err(LaunchOutcome::Unknown { reason }));
            }
            tokio::time::sleep(PAUSE).await;
        };
        self.waits.forget(id);
        let console = console::tail(self.daemon, id, CONSOLE_WITH_END).await?;
        let at = Reference::Beside { key: self.item.tag.key() }.to_ref();
        let (reason, by) = (format!("service `{}` {trouble}", service.name), EndedBy::Something);
        Ok(Err(LaunchOutcome::Died { at, reason, by, console }))
    }

    /// Why a service that runs is not ready; `None` where it is.
    async fn look(
        &self,
        service: &Service,
        id: &str,
        health: Option<HealthStatusEnum>,
        asked: &mut Asked,
    ) -> Result<Option<String>, Failed> {
        let Some(ready) = &service.options.ready else {
            return Ok(match health {
                Some(HealthStatusEnum::STARTING) => Some("its health check has not succeeded yet".into()),
                Some(HealthStatusEnum::UNHEALTHY) => Some("its health check fails".into()),
                _ => None,
            });
        };
        let api = self.daemon.api().await?;
        let mut running = match asked.running.take() {
            Some(running) => running,
            None => {
                let options = CreateExecOptions {
                    cmd: Some(ready.argv()),
                    attach_stdout: Some(true),
                    attach_stderr: Some(true),
                    ..Default::default()
                };
                let created = match api.create_exec(id, options).await.map_err(Failed::from) {
                    Ok(created) => created.id,
                    // It has ended just now, which the next look says.
                    Err(failed) if failed.is_conflict() => return Ok(Some(failed.message())),
                    Err(failed) => return Err(failed),
                };
                match api.start_exec(&created, None).await.map_err(Failed::from) {
                    Ok(attached) => Running { id: created, attached },
                    Err(failed) if failed.status().is_some() => return Ok(Some(failed.message())),
                    Err(failed) => return Err(failed),
                }
            }
        };
        running.drain().await;
        let said = api.inspect_exec(&running.id).await?;
        match said.exit_code {
            Some(0) if said.running != Some(true) => Ok(None),
            Some(code) if said.running != Some(true) => {
                let said = format!("`{}` ends with {code}", ready.words());
                asked.last = Some(said.clone());
                Ok(Some(said))
            }
            _ => {
                asked.running = Some(running);
                Ok(Some(asked.last.clone().unwrap_or_else(|| format!("`{}` has not ended", ready.words()))))
            }
        }
    }
}

/// Whose services and networks are there, by the workers' keys.
pub(crate) async fn all(daemon: &Daemon, owner: &Owner) -> Result<BTreeMap<String, Tag>, Failed> {
    let mut found: Vec<Labels> = containers(daemon, &owner.filter()).await?.into_values().collect();
    found.extend(networks(daemon, &owner.filter()).await?.into_values());
    Ok(found.iter().filter_map(|labels| owner.tag_beside(labels)).map(|tag| (tag.key(), tag)).collect())
}

/// Ends all that stands beside a worker: the containers, then the network, which cannot go before. Absent is success.
pub(crate) async fn remove(daemon: &Daemon, owner: &Owner, key: &str) -> Result<(), Failed> {
    for (id, _) in containers(daemon, &owner.filter_beside(key)).await? {
        removal::container(daemon, owner, &id).await?;
    }
    for (id, _) in networks(daemon, &owner.filter_beside(key)).await? {
        match daemon.api().await?.remove_network(&id).await.map_err(Failed::from) {
            Err(failed) if !failed.is_absent() => return Err(failed),
            _ => {}
        }
    }
    Ok(())
}

/// What the services beside a worker have printed.
pub(crate) async fn logs(
    daemon: &Daemon,
    owner: &Owner,
    key: &str,
    since: Option<Timestamp>,
    max_bytes: usize,
) -> Result<Vec<ServiceLog>, Failed> {
    let mut logs = Vec::new();
    for (id, labels) in containers(daemon, &owner.filter_beside(key)).await? {
        let Some(service) = labels::service(&labels).cloned() else { continue };
        match console::since(daemon, &id, since, max_bytes).await {
            Ok((text, cut)) => logs.push(ServiceLog { service, text, cut }),
            Err(failed) if failed.is_absent() => {}
            Err(failed) => return Err(failed),
        }
    }
    logs.sort_by(|a, b| a.service.cmp(&b.service));
    Ok(logs)
}

/// Containers with their labels, by id.
async fn containers(daemon: &Daemon, filter: &Filter) -> Result<HashMap<String, Labels>, Failed> {
    let options = ListContainersOptions { all: true, filters: Some(filter.asked()), ..Default::default() };
    let list = || async { Ok(daemon.api().await?.list_containers(Some(options.clone())).await?) };
    let found = observe::settled(list).await?;
    let named = found.into_iter().filter_map(|one| Some((one.id?, one.labels.unwrap_or_default())));
    Ok(named.filter(|(_, labels)| filter.fits(labels)).collect())
}

/// Networks with their labels, by id.
async fn networks(daemon: &Daemon, filter: &Filter) -> Result<BTreeMap<String, Labels>, Failed> {
    let options = ListNetworksOptions { filters: Some(filter.asked()) };
    let found = daemon.api().await?.list_networks(Some(options)).await?;
    let named = found.into_iter().filter_map(|one| Some((one.id?, one.labels.unwrap_or_default())));
    Ok(named.filter(|(_, labels)| filter.fits(labels)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_as_a_host_is() {
        for (name, fine) in
            [("db", true), ("my-db-2", true), ("", false), ("DB", false), ("-a", false), ("a.b", false)]
        {
            assert_eq!(is_host_name(name), fine, "{name}");
        }
    }
}
