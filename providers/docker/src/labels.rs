//! The labels by which everything of ours on a daemon is found again, with the whole tag in them.

use rouse_contract::{Installation, Tag};
use rouse_model::worker::LaunchToken;
use rouse_model::{Timestamp, WorkerId};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

const INSTALLATION: &str = "rouse.installation";
const ACCOUNT: &str = "rouse.account";
const EPOCH: &str = "rouse.epoch";
const POOL: &str = "rouse.pool";
const WORKER: &str = "rouse.worker";
const WORKER_ID: &str = "rouse.worker-id";
const TOKEN: &str = "rouse.token";
/// Seconds since 1970.
const EXPIRES: &str = "rouse.expires";
/// What something serves that belongs to no worker.
const PART: &str = "rouse.part";

/// On what stands beside a worker, its services and their network: the key of the worker's tag.
const BESIDE: &str = "rouse.beside";
/// Which service a container is.
const SERVICE: &str = "rouse.service";
/// On a worker's container: that something stands beside it.
const ACCOMPANIED: &str = "rouse.accompanied";

pub(crate) type Labels = HashMap<String, String>;

/// Something that belongs to no worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The volume with the agent: stays.
    AgentVolume,
    /// The image and the container that fill it: gone after a moment.
    Installer,
    /// A volume with files that workers read: stays.
    Shelf,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::AgentVolume => "agent",
            Self::Installer => "installer",
            Self::Shelf => "shelf",
        }
    }
}

/// Whose things: one account of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) installation: String,
    pub(crate) short: String,
    pub(crate) account: String,
}

impl Owner {
    /// The installation in names of images, which take no long ones.
    pub(crate) fn mark(&self) -> String {
        hex::encode(&Sha256::digest(self.installation.as_bytes())[..8])
    }

    pub(crate) fn new(installation: &Installation, account: &str) -> Self {
        Self {
            installation: installation.id.clone(),
            short: installation.short(),
            account: account.to_owned(),
        }
    }

    fn own(&self) -> Labels {
        HashMap::from([
            (INSTALLATION.to_owned(), self.installation.clone()),
            (ACCOUNT.to_owned(), self.account.clone()),
        ])
    }

    pub(crate) fn of_part(&self, part: Part) -> Labels {
        let mut labels = self.own();
        labels.insert(PART.to_owned(), part.as_str().to_owned());
        labels
    }

    pub(crate) fn of_worker(&self, tag: &Tag, expires: Option<Timestamp>) -> Labels {
        let mut labels = self.own();
        labels.extend([
            (EPOCH.to_owned(), tag.store_epoch.to_string()),
            (POOL.to_owned(), tag.pool.clone()),
            (WORKER.to_owned(), tag.name.clone()),
            (WORKER_ID.to_owned(), tag.worker.to_string()),
            (TOKEN.to_owned(), tag.token.0.clone()),
        ]);
        labels.extend(expires.map(|at| (EXPIRES.to_owned(), (at.0 / 1_000_000).to_string())));
        labels
    }

    /// Of a service beside a worker, or with none of what all of them share.
    pub(crate) fn beside(&self, tag: &Tag, expires: Timestamp, service: Option<&str>) -> Labels {
        let mut labels = self.of_worker(tag, Some(expires));
        labels.insert(BESIDE.to_owned(), tag.key());
        labels.extend(service.map(|name| (SERVICE.to_owned(), name.to_owned())));
        labels
    }

    /// What the daemon is asked for to find all that stands beside one worker.
    pub(crate) fn filter_beside(&self, key: &str) -> Filter {
        let mut labels = self.own();
        labels.insert(BESIDE.to_owned(), key.to_owned());
        Filter(labels)
    }

    /// Beside which worker something of ours stands; `None` where it is no such thing.
    pub(crate) fn tag_beside(&self, labels: &Labels) -> Option<Tag> {
        labels.get(BESIDE)?;
        self.whole_tag(labels)
    }

    /// What the daemon is asked for to find only our own.
    pub(crate) fn filter(&self) -> Filter {
        Filter(self.own())
    }

    pub(crate) fn owns(&self, labels: &Labels) -> bool {
        labels.get(INSTALLATION) == Some(&self.installation) && labels.get(ACCOUNT) == Some(&self.account)
    }

    /// The worker's tag on something of ours; `None` where it belongs to no worker, or only stands beside one.
    pub(crate) fn tag(&self, labels: &Labels) -> Option<Tag> {
        if is_beside(labels) {
            return None;
        }
        self.whole_tag(labels)
    }

    fn whole_tag(&self, labels: &Labels) -> Option<Tag> {
        if !self.owns(labels) {
            return None;
        }
        Some(Tag {
            installation: self.installation.clone(),
            store_epoch: labels.get(EPOCH)?.parse().ok()?,
            pool: labels.get(POOL)?.clone(),
            worker: WorkerId(labels.get(WORKER_ID)?.parse().ok()?),
            name: labels.get(WORKER)?.clone(),
            token: LaunchToken(labels.get(TOKEN)?.clone()),
        })
    }
}

/// Labels that something must have, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter(Labels);

impl Filter {
    /// What the daemon is asked for. Podman answers what has one of them, so each thing is still held against all ([`Self::fits`]).
    pub(crate) fn asked(&self) -> HashMap<String, Vec<String>> {
        let labels = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        HashMap::from([("label".to_owned(), labels)])
    }

    pub(crate) fn fits(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

pub(crate) fn is_part(labels: &Labels, part: Part) -> bool {
    labels.get(PART).is_some_and(|found| found == part.as_str())
}

pub(crate) fn is_beside(labels: &Labels) -> bool {
    labels.contains_key(BESIDE)
}

/// The service's name, on a service's container.
pub(crate) fn service(labels: &Labels) -> Option<&String> {
    labels.get(SERVICE)
}

/// Notes on a worker's container that something stands beside it.
pub(crate) fn accompany(labels: &mut Labels) {
    labels.insert(ACCOMPANIED.to_owned(), "yes".to_owned());
}

pub(crate) fn is_accompanied(labels: &Labels) -> bool {
    labels.contains_key(ACCOMPANIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_comes_back_and_only_to_its_owner() {
        let owner = |id: &str, account: &str| Owner {
            installation: id.into(),
            short: "ours".into(),
            account: account.into(),
        };
        let ours = owner("ours-1", "docker");
        let tag = Tag {
            installation: "ours-1".into(),
            store_epoch: 3,
            pool: "linux".into(),
            worker: WorkerId(42),
            name: "linux-42".into(),
            token: LaunchToken("ours-1-3-42-1".into()),
        };
        let labels = ours.of_worker(&tag, None);
        assert_eq!(ours.tag(&labels), Some(tag));
        for other in [owner("theirs", "docker"), owner("ours-1", "second")] {
            assert!(!other.owns(&labels));
            assert_eq!(other.tag(&labels), None);
        }
        let part = ours.of_part(Part::AgentVolume);
        assert!(ours.owns(&part) && is_part(&part, Part::AgentVolume) && !is_part(&part, Part::Installer));
        assert_eq!(ours.tag(&part), None);
    }
}
