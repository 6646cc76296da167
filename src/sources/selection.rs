//! Which files of a codebase are asked for: a revision's own, those of its merge into another, some folders alone, those of a submodule.
//!
//! A merge and a narrowed tree are commits that the mirror makes itself, by nothing but the revisions and the folders: whoever asks again, also
//! of another master, is given the same.

use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::Inner;
use super::error::SourceError;
use super::git::Git;
use super::remote::check_revision;
use super::repository::Repository;

/// Conflicting files that are told.
const TOLD: usize = 20;
/// Who has made the commits that nobody wrote.
const WHO: (&str, &str) = ("Rouse", "rouse@localhost");
/// What a listing of one folder may come to.
const LISTING: usize = 64 << 20;

/// What is asked for beside a revision. The default is all of its files, as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// The revision that it is merged into first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onto: Option<String>,
    /// These folders with all that is below them, and the files beside them and above; all where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// Not of the codebase itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submodule: Option<Opened>,
}

/// The repository of a submodule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub url: String,
    /// Whether the codebase's own key may open it, where it is on the same server.
    pub keyed: bool,
}

impl Selection {
    /// Whether a folder is among those that are asked for.
    pub(super) fn has(&self, path: &str) -> bool {
        self.folders.is_empty() || self.folders.iter().any(|folder| is_within(path, folder))
    }
}

fn is_within(path: &str, folder: &str) -> bool {
    path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

impl Inner {
    /// The repository that a selection is of, and the name that its mirror goes by.
    pub(super) async fn selected(
        &self,
        codebase: &str,
        selection: &Selection,
    ) -> Result<(String, Repository), SourceError> {
        let own = self.repository(codebase).await?;
        match &selection.submodule {
            None => Ok((codebase.to_owned(), own)),
            // What a key has opened is not for those who may not use it.
            Some(opened) => {
                let name = format!("{codebase}+{}", if opened.keyed { "own" } else { "open" });
                Ok((name, own.submodule(codebase, &opened.url, opened.keyed)?))
            }
        }
    }

    /// The commit that has just the files of a selection. Its mirror has the revision.
    pub(super) async fn commit_of(
        &self,
        (name, repository): &(String, Repository),
        mirror: &Path,
        revision: &str,
        selection: &Selection,
    ) -> Result<String, SourceError> {
        let commit = match &selection.onto {
            None => revision.to_owned(),
            Some(onto) => self.merge((name, repository), mirror, revision, onto).await?,
        };
        if selection.folders.is_empty() {
            return Ok(commit);
        }
        let tree = self.narrowed(mirror, &commit, String::new(), &selection.folders).await?;
        let when = self.written_at(mirror, &[&commit]).await?;
        self.commit(mirror, &["commit-tree", "-m", "some folders", &tree], when).await
    }

    /// The merge of a revision into another: always the same commit for the same two.
    pub(super) async fn merge(
        &self,
        (name, repository): (&str, &Repository),
        mirror: &Path,
        revision: &str,
        onto: &str,
    ) -> Result<String, SourceError> {
        check_revision(onto)?;
        if onto.len() != revision.len() {
            return Err(SourceError::refused("the merge", "the two revisions are of different kinds"));
        }
        self.ensure(name, repository, mirror, onto).await?;
        let doing = "merge";
        let args = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", onto, revision];
        let output = self.git(doing, &args).within(mirror).output(self.limits.pack).await?;
        let mut words =
            output.stdout.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let tree = words.next().unwrap_or_default();
        match output.status.code() {
            Some(0) if !output.cut => {}
            Some(1) if check_revision(&tree).is_ok() => {
                let mut files: Vec<String> = words.filter(|name| !name.is_empty()).collect();
                files.dedup();
                let more = files.len().saturating_sub(TOLD);
                files.truncate(TOLD);
                return Err(SourceError::Conflict {
                    revision: revision.to_owned(),
                    onto: onto.to_owned(),
                    files,
                    more,
                });
            }
            _ if String::from_utf8_lossy(&output.stderr).contains("unrelated histories") => {
                return Err(SourceError::refused(
                    format!("the merge of {revision} into {onto}"),
                    "the two have no commit in common",
                ));
            }
            _ => return Err(SourceError::from_git(doing, &output.stderr)),
        }
        let when = self.written_at(mirror, &[onto, revision]).await?;
        let message = format!("Merge {revision} into {onto}");
        self.commit(mirror, &["commit-tree", "-p", onto, "-p", revision, "-m", &message, tree.trim()], when)
            .await
    }

    /// The newest of the moments at which these were committed, as they say.
    async fn written_at(&self, mirror: &Path, commits: &[&str]) -> Result<u64, SourceError> {
        let mut args = vec!["show", "-s", "--format=%ct", "--end-of-options"];
        args.extend(commits);
        let output = self.git("read a commit", &args).within(mirror).run(self.limits.read).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).max().unwrap_or_default())
    }

    async fn commit(&self, mirror: &Path, args: &[&str], when: u64) -> Result<String, SourceError> {
        let mut git = self.git("write a commit", args).within(mirror);
        for role in ["AUTHOR", "COMMITTER"] {
            git = git
                .set(&format!("GIT_{role}_NAME"), WHO.0)
                .set(&format!("GIT_{role}_EMAIL"), WHO.1)
                .set(&format!("GIT_{role}_DATE"), &format!("@{when} +0000"));
        }
        let output = git.run(self.limits.read).await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A tree without the folders that are not asked for, as git's own sparse checkouts in cone mode have it.
    fn narrowed<'a>(
        &'a self,
        mirror: &'a Path,
        commit: &'a str,
        at: String,
        folders: &'a [String],
    ) -> BoxFuture<'a, Result<String, SourceError>> {
        async move {
            let doing = "list a folder";
            let tree = format!("{commit}:{at}");
            let git = self.git(doing, &["ls-tree", "-z", "--end-of-options", &tree]);
            let listed = git.within(mirror).cap(LISTING).run(self.limits.read).await?;
            let mut kept = Vec::new();
            for entry in listed.stdout.split(|b| *b == 0).filter(|entry| !entry.is_empty()) {
                let text = String::from_utf8_lossy(entry);
                let (head, name) = text.split_once('\t').unwrap_or((&text, ""));
                let path = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
                let is_folder = head.starts_with("040000") || head.starts_with("160000");
                if !is_folder || folders.contains(&path) {
                    kept.extend_from_slice(entry);
                } else if head.starts_with("040000") && folders.iter().any(|folder| is_within(folder, &path))
                {
                    let below = self.narrowed(mirror, commit, path, folders).await?;
                    kept.extend_from_slice(format!("040000 tree {below}\t{name}").as_bytes());
                } else {
                    continue;
                }
                kept.push(0);
            }
            let git: Git = self.git("write a tree", &["mktree", "-z"]).within(mirror).input(kept);
            let output = git.run(self.limits.read).await?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        .boxed()
    }

    /// What somebody who has both revisions lacks of their merge, as a pack.
    pub(super) fn merge_pack<'a>(
        &'a self,
        of: &'a (String, Repository),
        mirror: PathBuf,
        revision: &'a str,
        onto: &'a str,
        from: u64,
    ) -> BoxFuture<'a, Result<super::Tree, SourceError>> {
        async move {
            let commit = self.merge((&of.0, &of.1), &mirror, revision, onto).await?;
            // One thread: the same bytes each time.
            let args = ["-c", "pack.threads=1", "pack-objects", "-q", "--revs", "--thin", "--stdout"];
            let wanted = format!("{commit}\n--not\n{revision}\n{onto}\n");
            let git = self.git("pack a merge", &args).within(&mirror).input(wanted);
            self.streamed(git, from).await
        }
        .boxed()
    }
}
