//! A worker's container, as the daemon is asked for it.

use crate::labels::{self, Labels, Owner};
use crate::limits;
use crate::options::{MountOptions, PoolOptions};
use crate::services::Service;
use crate::shelves;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, ImageInspect,
    Mount, MountType, MountVolumeOptions, NetworkingConfig,
};
use rouse_contract::units::Bytes;
use rouse_contract::{LaunchItem, LaunchSpec, Shelf, Tag};
use rouse_model::Trust;
use std::collections::HashMap;
use std::path::Path;

/// Where everything of ours is in a container.
pub(crate) const INSIDE: &str = "/.rouse";
/// Within it.
pub(crate) const AGENT: &str = "/.rouse/bin/rouse-agent";
/// The work folder, with the agent's own files beside the builds'. In a volume of the worker's own, which is mounted at [`INSIDE`] with the
/// agent and the link folder within: so it can be made ready from outside also where the image's files cannot be changed.
pub(crate) const WORK: &str = "/.rouse/work";

/// What the kernel lets a root of the container do, and no build needs. What remains is needed to install packages.
const DROPPED: [&str; 4] = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"];
/// Who is asked for names that no service has, where there is no network to ask somebody by. Else the daemon might ask the host's own server on
/// a container's behalf, and a name can carry anything out.
const NOBODY: &str = "127.0.0.1";
/// How much of an agent's output the daemon keeps: builds do not print there.
const CONSOLE: &str = "4m";

/// What is the same for all containers of one call.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) options: PoolOptions,
    env: Vec<String>,
    /// The image's id.
    image: String,
    /// Whom the container runs as.
    user: String,
    /// The volume with the agent.
    agent: String,
    trust: Trust,
    shelves: Vec<Shelf>,
    pub(crate) services: Vec<Service>,
    /// Whose networks answer for names themselves, and only where nobody else is asked.
    podman: bool,
}

impl Plan {
    pub(crate) fn new(
        spec: &LaunchSpec,
        options: PoolOptions,
        found: &ImageInspect,
        agent: String,
        services: Vec<Service>,
        podman: bool,
    ) -> Self {
        let env =
            spec.env.iter().chain(&options.env).map(|(name, value)| format!("{name}={value}")).collect();
        let of_image = || found.config.as_ref().and_then(|config| config.user.clone());
        let user = options.user.clone().or_else(of_image).unwrap_or_default();
        let image = spec.image.as_ref().map(|image| image.id.clone()).unwrap_or_default();
        let (trust, shelves) = (spec.trust, spec.shelves.clone());
        Self { options, env, image, user, agent, trust, shelves, services, podman }
    }

    /// Whether the worker could not write to a folder that root made.
    pub(crate) fn other_than_root(&self) -> bool {
        let user = self.user.split(':').next().unwrap_or_default();
        !matches!(user, "" | "root" | "0")
    }

    /// Whether it has no network but the one with its services.
    pub(crate) fn is_alone(&self, agent_needs_it: bool) -> bool {
        self.network(agent_needs_it).as_deref() == Some("none")
    }

    pub(crate) fn limits(&self) -> limits::Asked {
        let PoolOptions { memory, cpus, pids, .. } = &self.options;
        limits::asked(memory.is_some(), cpus.is_some(), pids.is_some())
    }

    /// `beside` is the network with its services, where it has some.
    pub(crate) fn body(
        &self,
        owner: &Owner,
        item: &LaunchItem,
        link: Option<&Path>,
        beside: Option<&str>,
    ) -> ContainerCreateBody {
        let options = &self.options;
        let own = owner.of_worker(&item.tag, Some(item.expires));
        let mut labels: Labels = options.labels.clone().into_iter().collect();
        labels.extend(own.clone());
        if beside.is_some() {
            labels::accompany(&mut labels);
        }
        let mut host_config = self.host_config(owner, own, link, item.needs_network);
        if let Some(network) = beside.filter(|_| self.is_alone(item.needs_network)) {
            host_config.network_mode = Some(network.to_owned());
            host_config.dns = self.nobody();
        }
        let agent = [AGENT, "run", "--join", "/.rouse/link/join.json", "--work", WORK, "--state"];
        let mut entrypoint = options.entrypoint.clone();
        entrypoint.extend(options.command.iter().cloned());
        entrypoint.extend(agent.map(str::to_owned));
        entrypoint.push(format!("{WORK}/.state"));
        ContainerCreateBody {
            image: Some(self.image.clone()),
            user: options.user.clone(),
            env: Some(self.env.clone()),
            entrypoint: Some(entrypoint),
            // With an entrypoint of our own the image's command is not passed on either.
            cmd: Some(Vec::new()),
            working_dir: Some(INSIDE.into()),
            labels: Some(labels),
            // The image's own is meant for the image's own program.
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
            host_config: Some(host_config),
            ..Default::default()
        }
    }

    /// A service's container, in the network with its worker.
    pub(crate) fn body_of(
        &self,
        owner: &Owner,
        item: &LaunchItem,
        service: &Service,
        network: &str,
    ) -> ContainerCreateBody {
        let options = &service.options;
        let endpoint = EndpointSettings { aliases: Some(vec![service.name.clone()]), ..Default::default() };
        ContainerCreateBody {
            image: Some(service.image.clone()),
            hostname: Some(service.name.clone()),
            env: Some(options.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            cmd: (!options.command.is_empty()).then(|| options.command.clone()),
            labels: Some(owner.beside(&item.tag, item.expires, Some(&service.name))),
            host_config: Some(HostConfig {
                network_mode: Some(network.to_owned()),
                dns: self.nobody(),
                ..limited(options.memory, options.cpus, options.pids, options.shm)
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
            }),
            ..Default::default()
        }
    }

    /// Whom to ask for names that are not in a network of services.
    fn nobody(&self) -> Option<Vec<String>> {
        (!self.podman).then(|| vec![NOBODY.to_owned()])
    }

    /// What builds of strangers reach is said for them alone. Where it is not, it is nothing, as far as the agent finds its master without.
    fn network(&self, agent_needs_it: bool) -> Option<String> {
        let options = &self.options;
        match self.trust {
            Trust::Trusted => options.network.clone(),
            Trust::Untrusted => {
                let nothing = (!agent_needs_it).then(|| "none".to_owned());
                options.untrusted_network.clone().or(nothing).or_else(|| options.network.clone())
            }
        }
    }

    /// A path is bound, a name is a volume's. Strangers write to nothing that others see.
    fn wanted(&self, mount: &MountOptions) -> Mount {
        let read_only = Some(mount.readonly || self.trust == Trust::Untrusted);
        if mount.source.starts_with('/') {
            return Mount { read_only, ..bind(&mount.source, &mount.target) };
        }
        Mount { read_only, volume_options: None, ..volume(Some(mount.source.clone()), &mount.target) }
    }

    fn host_config(
        &self,
        owner: &Owner,
        own: Labels,
        link: Option<&Path>,
        needs_network: bool,
    ) -> HostConfig {
        let options = &self.options;
        let mut mounts = vec![
            with_labels(volume(None, INSIDE), own),
            Mount { read_only: Some(true), ..volume(Some(self.agent.clone()), "/.rouse/bin") },
        ];
        mounts.extend(link.map(|link| Mount {
            read_only: Some(true),
            ..bind(&link.display().to_string(), "/.rouse/link")
        }));
        mounts.extend(self.shelves.iter().map(|shelf| shelves::mount(owner, shelf)));
        mounts.extend(options.mounts.iter().map(|mount| self.wanted(mount)));
        HostConfig {
            mounts: Some(mounts),
            tmpfs: options.read_only.then(|| HashMap::from([("/tmp".into(), "exec,mode=1777".into())])),
            readonly_rootfs: Some(options.read_only),
            network_mode: self.network(needs_network),
            ..limited(options.memory, options.cpus, options.pids, options.shm)
        }
    }
}

/// No more than this, and what holds for all.
fn limited(memory: Option<Bytes>, cpus: Option<f64>, pids: Option<u32>, shm: Option<Bytes>) -> HostConfig {
    let memory = memory.map(|bytes| signed(bytes.0));
    HostConfig {
        memory,
        // Together with swap: none beyond it.
        memory_swap: memory,
        nano_cpus: cpus.map(nano),
        pids_limit: pids.map(i64::from),
        shm_size: shm.map(|bytes| signed(bytes.0)),
        ..hardened()
    }
}

/// What holds for every container of ours that runs somebody else's code.
fn hardened() -> HostConfig {
    HostConfig {
        security_opt: Some(vec!["no-new-privileges".into()]),
        cap_drop: Some(DROPPED.map(str::to_owned).to_vec()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([("max-size".into(), CONSOLE.into())])),
        }),
        ..Default::default()
    }
}

/// The name that a worker's container has, once and for all.
pub(crate) fn name(owner: &Owner, tag: &Tag) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let worker: String = tag.name.chars().map(plain).collect();
    // A worker of an earlier store epoch may have the same name.
    format!("rouse-{}-{worker}-{}", owner.short, &tag.key()[..6])
}

pub(crate) fn volume(name: Option<String>, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: name,
        target: Some(target.into()),
        // What the image has there is not copied into it.
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn with_labels(mut mount: Mount, labels: Labels) -> Mount {
    if let Some(options) = &mut mount.volume_options {
        options.labels = Some(labels);
    }
    mount
}

fn bind(source: &str, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.into()),
        target: Some(target.into()),
        ..Default::default()
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_possible_truncation)] // Saturates, and nobody has so many.
fn nano(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

/// A tar with the work folder, for anybody to write to, to be unpacked in [`INSIDE`]; and with the join document in a folder from which the
/// agent can take it away, whoever it runs as.
pub(crate) fn furniture(join: Option<&[u8]>) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let folder = |tar: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty())
    };
    folder(&mut tar, "work/", 0o1777)?;
    if let Some(join) = join {
        folder(&mut tar, "link/", 0o777)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o444);
        header.set_size(u64::try_from(join.len()).map_err(std::io::Error::other)?);
        tar.append_data(&mut header, "link/join.json", join)?;
    }
    tar.into_inner()
}
