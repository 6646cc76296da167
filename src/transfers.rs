//! Paths and tokens of files that travel beside the agent link. A token fits one worker, one direction and one path prefix, of one store epoch;
//! it is derived when it is needed and stands in no table.

use crate::keys::InstallationKey;
use crate::sources::Selection;
use rouse_model::{ArtifactId, BuildId, CacheId, StepId, WorkerId};

/// What an agent may fetch or send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transfer {
    /// Files of one revision, as a tar.
    Tree {
        codebase: String,
        revision: String,
        selection: Selection,
    },
    /// What the merge of a revision into another has beyond both, as a pack.
    Merge {
        codebase: String,
        revision: String,
        onto: String,
    },
    Artifact {
        id: ArtifactId,
    },
    /// Files of one step into one artifact set.
    Upload {
        build: BuildId,
        step: StepId,
        set: String,
    },
    /// One version of a cache, as an archive.
    Cache {
        id: CacheId,
    },
}

impl Transfer {
    /// The path on the agents' listener; an upload's files come below it.
    #[must_use]
    pub fn url_path(&self) -> String {
        match self {
            Self::Tree { codebase, revision, selection } => {
                let whole = format!("/files/tree/{codebase}/{revision}");
                if *selection == Selection::default() {
                    return whole;
                }
                let selection = serde_json::to_string(selection).unwrap_or_default();
                format!("{whole}/{}", hex::encode(selection))
            }
            Self::Merge { codebase, revision, onto } => format!("/files/merge/{codebase}/{revision}/{onto}"),
            Self::Artifact { id } => format!("/files/artifact/{id}"),
            Self::Upload { build, step, set } => format!("/files/upload/{build}/{step}/{set}"),
            Self::Cache { id } => format!("/files/cache/{id}"),
        }
    }

    /// A transfer's path as one worker asks for it: a listener for many must know whose token it is.
    #[must_use]
    pub fn path_of(worker: WorkerId, url_path: &str) -> String {
        format!("/files/{worker}/{}", url_path.strip_prefix("/files/").unwrap_or(url_path))
    }

    /// Reads the path below `/files/`; for an upload also the file's own relative path.
    #[must_use]
    pub fn parse(path: &str) -> Option<(Self, &str)> {
        let (kind, rest) = path.split_once('/')?;
        match kind {
            "tree" => {
                let (codebase, revision) = rest.split_once('/')?;
                let (revision, selection) = match revision.split_once('/') {
                    Some((revision, selection)) => (revision, selection_of(selection)?),
                    None => (revision, Selection::default()),
                };
                let (codebase, revision) = (codebase.to_owned(), revision.to_owned());
                Some((Self::Tree { codebase, revision, selection }, ""))
            }
            "merge" => {
                let mut parts = rest.splitn(3, '/').map(str::to_owned);
                let (codebase, revision, onto) = (parts.next()?, parts.next()?, parts.next()?);
                (!onto.contains('/')).then_some((Self::Merge { codebase, revision, onto }, ""))
            }
            "artifact" => Some((Self::Artifact { id: rest.parse().ok()? }, "")),
            "cache" => Some((Self::Cache { id: rest.parse().ok()? }, "")),
            "upload" => {
                let mut parts = rest.splitn(4, '/');
                let build = parts.next()?.parse().ok()?;
                let step = parts.next()?.parse().ok()?;
                let set = parts.next()?.to_owned();
                Some((Self::Upload { build, step, set }, parts.next()?))
            }
            _ => None,
        }
    }

    #[must_use]
    pub fn token(&self, key: &InstallationKey, epoch: i64, worker: WorkerId) -> String {
        key.sign("transfer", &[&epoch.to_string(), &worker.to_string(), &self.url_path()])
    }

    #[must_use]
    pub fn is_token(&self, key: &InstallationKey, epoch: i64, worker: WorkerId, token: &str) -> bool {
        key.verify("transfer", &[&epoch.to_string(), &worker.to_string(), &self.url_path()], token)
    }
}

/// A selection as it stands in a path.
fn selection_of(text: &str) -> Option<Selection> {
    serde_json::from_slice(&hex::decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Opened;

    #[test]
    fn paths_read_back() {
        let all = [
            Transfer::Tree {
                codebase: "app".into(),
                revision: "4f1c2aa".into(),
                selection: Selection::default(),
            },
            Transfer::Tree {
                codebase: "app".into(),
                revision: "4f1c2aa".into(),
                selection: Selection {
                    onto: Some("abc".into()),
                    folders: vec!["a/b".into(), "ü".into()],
                    submodule: Some(Opened { url: "https://h/a/b".into(), keyed: true }),
                },
            },
            Transfer::Merge { codebase: "app".into(), revision: "4f1c2aa".into(), onto: "abc".into() },
            Transfer::Artifact { id: ArtifactId(7) },
            Transfer::Cache { id: CacheId(8) },
            Transfer::Upload { build: BuildId(1), step: StepId(2), set: "debs".into() },
        ];
        for transfer in all {
            let path = transfer.url_path();
            let below = path.strip_prefix("/files/").unwrap();
            let asked = if matches!(transfer, Transfer::Upload { .. }) {
                format!("{below}/a/b.deb")
            } else {
                below.to_owned()
            };
            let (read, file) = Transfer::parse(&asked).unwrap();
            assert_eq!(read, transfer);
            assert_eq!(file, if matches!(transfer, Transfer::Upload { .. }) { "a/b.deb" } else { "" });
        }
        assert_eq!(Transfer::parse("tree/app/a/b"), None);
        assert_eq!(Transfer::parse("what/ever"), None);
    }
}
