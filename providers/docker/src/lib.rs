//! Workers as containers of a Docker daemon.
//!
//! Each worker is one container with the agent as its first process, made from any image: the agent comes in a volume of its own, and
//! reaches the master through a folder of this host. Everything of ours on the daemon carries labels with the whole tag, and is found again by them.
//!
//! In reading order: [`options`] is what the configuration may say, `kind` tells it to the configuration; `daemon` is the daemon itself and
//! `failure` what it can answer; `labels` and `reference` say whose a thing is and how it is called; `links` are the folders on this host, `agent_volume` the
//! agent's volume, `images` what an image means now, `build` how one is made of a project's own files, `under_way` that both are done once for all who wait, `collect` which images end, `refusal` why it cannot be had, `registry` and `helper` who the pool is where it is pulled from; `container` is what a worker's container is made of, `launch` makes it, `observe` sees it, `removal` ends it,
//! `console` reads what it printed, `events` tells of its end; `docker` is the contract over all that. State: the daemon's and the link folders alone.

mod agent_volume;
mod build;
mod collect;
mod console;
mod container;
mod daemon;
mod docker;
mod events;
mod failure;
mod helper;
mod images;
mod kind;
mod labels;
mod launch;
mod limits;
mod links;
mod mounts;
mod observe;
pub mod options;
mod parking;
mod reference;
mod refusal;
mod registry;
mod removal;
mod services;
mod shelves;
mod ssh;
mod streams;
mod turns;
mod under_way;

pub use daemon::Daemon;
pub use docker::DockerProvider;
pub use kind::DockerKind;

/// The kind `docker`, for the list of kinds.
#[must_use]
pub fn kind() -> std::sync::Arc<dyn rouse_contract::ProviderKind> {
    std::sync::Arc::new(DockerKind)
}
