//! A worker's container, as the daemon is asked for it.

use crate::labels::{Labels, Owner};
use crate::options::{MountOptions, PoolOptions};
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, ImageInspect, Mount, MountType,
    MountVolumeOptions,
};
use rouse_contract::{LaunchItem, LaunchSpec, Tag};
use std::collections::HashMap;
use std::path::Path;

/// Where everything of ours is in a container.
pub(crate) const INSIDE: &str = "/.rouse";
/// The work folder, with the agent's own files beside the builds'. In a volume of the worker's own, which is mounted at [`INSIDE`] with the
/// agent and the link folder within: so it can be made ready from outside also where the image's files cannot be changed.
pub(crate) const WORK: &str = "/.rouse/work";

/// What the kernel lets a root of the container do, and no build needs. What remains is needed to install packages.
const DROPPED: [&str; 4] = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"];
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
}

impl Plan {
    pub(crate) fn new(spec: &LaunchSpec, options: PoolOptions, found: &ImageInspect, agent: String) -> Self {
        let env =
            spec.env.iter().chain(&options.env).map(|(name, value)| format!("{name}={value}")).collect();
        let of_image = || found.config.as_ref().and_then(|config| config.user.clone());
        let user = options.user.clone().or_else(of_image).unwrap_or_default();
        let image = spec.image.as_ref().map(|image| image.id.clone()).unwrap_or_default();
        Self { options, env, image, user, agent }
    }

    /// Whether the worker could not write to a folder that root made.
    pub(crate) fn other_than_root(&self) -> bool {
        let user = self.user.split(':').next().unwrap_or_default();
        !matches!(user, "" | "root" | "0")
    }

    pub(crate) fn body(&self, owner: &Owner, item: &LaunchItem, link: &Path) -> ContainerCreateBody {
        let options = &self.options;
        let own = owner.of_worker(&item.tag, Some(item.expires));
        let mut labels: Labels = options.labels.clone().into_iter().collect();
        labels.extend(own.clone());
        let agent =
            ["/.rouse/bin/rouse-agent", "run", "--join", "/.rouse/link/join.json", "--work", WORK, "--state"];
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
            host_config: Some(self.host_config(own, link)),
            ..Default::default()
        }
    }

    fn host_config(&self, own: Labels, link: &Path) -> HostConfig {
        let options = &self.options;
        let memory = options.memory.map(|bytes| signed(bytes.0));
        let mut mounts = vec![
            with_labels(volume(None, INSIDE), own),
            Mount { read_only: Some(true), ..volume(Some(self.agent.clone()), "/.rouse/bin") },
            Mount { read_only: Some(true), ..bind(&link.display().to_string(), "/.rouse/link") },
        ];
        mounts.extend(options.mounts.iter().map(wanted));
        HostConfig {
            mounts: Some(mounts),
            tmpfs: options.read_only.then(|| HashMap::from([("/tmp".into(), "exec,mode=1777".into())])),
            readonly_rootfs: Some(options.read_only),
            network_mode: options.network.clone(),
            memory,
            // Together with swap: none beyond it.
            memory_swap: memory,
            nano_cpus: options.cpus.map(nano),
            pids_limit: options.pids.map(i64::from),
            shm_size: options.shm.map(|bytes| signed(bytes.0)),
            security_opt: Some(vec!["no-new-privileges".into()]),
            cap_drop: Some(DROPPED.map(str::to_owned).to_vec()),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some(HashMap::from([("max-size".into(), CONSOLE.into())])),
            }),
            ..Default::default()
        }
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

fn with_labels(mut mount: Mount, labels: Labels) -> Mount {
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

/// A path is bound, a name is a volume's.
fn wanted(mount: &MountOptions) -> Mount {
    let read_only = Some(mount.readonly);
    if mount.source.starts_with('/') {
        return Mount { read_only, ..bind(&mount.source, &mount.target) };
    }
    Mount { read_only, volume_options: None, ..volume(Some(mount.source.clone()), &mount.target) }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_possible_truncation)] // Saturates, and nobody has so many.
fn nano(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

/// A tar with the work folder, for anybody to write to, to be unpacked in [`INSIDE`].
pub(crate) fn open_work_folder() -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1777);
    header.set_size(0);
    tar.append_data(&mut header, "work/", std::io::empty())?;
    tar.into_inner()
}
