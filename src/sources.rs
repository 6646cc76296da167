//! Git mirrors: look at a repository, fetch, list commits, read a file, pack a tree.
//!
//! Owns a folder of bare mirrors below the master's state folder, one for each codebase and address,
//! and nothing else: what was seen and what was built stands in the store. A mirror can be deleted at
//! any time; it is fetched anew when it is wanted. Changes and builds use the same mirrors.
//!
//! All work is done by the real `git`, which gets nothing from the master's user but the way to the
//! network: no hooks, no user or system configuration, no prompts, no transports but http, https, ssh,
//! git and local paths. What a repository says is hostile input. Every call has a deadline and a bound
//! on what it may give back, a mirror has one fetch at a time, and git's children end with it.
//!
//! It must not know builders, schedulers or the store. Where a codebase is and by which key it is
//! reached, [`Repositories`] says, at the time of each call.

mod error;
mod git;
mod history;
mod layer;
mod limits;
mod mirror;
mod patterns;
mod remote;
mod repository;
mod selection;
mod submodules;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use tokio::sync::Semaphore;

pub use error::{Class, SourceError};
pub use history::{Commit, History};
pub use layer::Layer;
pub use limits::Limits;
pub use patterns::{PatternError, Patterns};
pub use remote::{Look, check_ref_name, check_revision};
pub use repository::{Key, Repositories, Repository, host_of};
pub use selection::{Opened, Selection};
pub use submodules::Submodule;
pub use tree::{Tree, TreeFile};

/// Fetches at a time, over all codebases.
const FETCHES: usize = 8;
/// Looks at a time. They are cheap and many; servers that let them hang must not hold up the others, nor may large fetches.
const LOOKS: usize = 64;

/// The mirrors of one master. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    repositories: Arc<dyn Repositories>,
    limits: Limits,
    fetches: Semaphore,
    looks: Semaphore,
    /// One for each mirror in use: fetching and replacing it exclude each other.
    turns: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

impl Sources {
    /// Mirrors in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// Where the folder or git's settings in it cannot be written.
    pub fn open(
        folder: impl Into<PathBuf>,
        repositories: Arc<dyn Repositories>,
        limits: Limits,
    ) -> Result<Self, SourceError> {
        // git runs elsewhere and is given paths, so they must not depend on where the master was started
        let folder = std::path::absolute(folder.into())
            .map_err(|e| SourceError::io("find the folder of mirrors", e))?;
        git::prepare(&folder)?;
        Inner::clear_layers(&folder).map_err(|e| SourceError::io("remove what was being packed", e))?;
        let (fetches, looks) = (Semaphore::new(FETCHES), Semaphore::new(LOOKS));
        let inner = Inner { folder, repositories, limits, fetches, looks, turns: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the repository's branches and tags point to now. Cheap: nothing is fetched.
    pub async fn look(&self, codebase: &str) -> Result<Look, SourceError> {
        let repository = self.inner.repository(codebase).await?;
        self.inner.look(&repository).await
    }

    /// Brings refs of a look into the mirror: branches by name, tags as `refs/tags/NAME`. The answer
    /// says what they point to by now, which may be newer than the look.
    pub async fn fetch(
        &self,
        codebase: &str,
        refs: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, SourceError> {
        let repository = self.inner.repository(codebase).await?;
        self.inner.fetch(codebase, &repository, refs).await
    }

    /// The tip of a branch, or of the repository's own default branch.
    pub async fn tip(&self, codebase: &str, branch: Option<&str>) -> Result<String, SourceError> {
        let look = self.look(codebase).await?;
        let branch = match branch.or(look.default_branch.as_deref()) {
            Some(branch) => branch,
            None if look.refs.is_empty() => return Err(SourceError::Empty(codebase.to_owned())),
            None => return Err(SourceError::missing(codebase, "a default branch; name one")),
        };
        look.refs
            .get(branch)
            .cloned()
            .ok_or_else(|| SourceError::missing(codebase, format!("the branch `{branch}`")))
    }

    /// What led to `tip` since `base`. Without a base, or where it is gone, what no head in `known` has.
    pub async fn history(
        &self,
        codebase: &str,
        tip: &str,
        base: Option<&str>,
        known: &[String],
    ) -> Result<History, SourceError> {
        let asked = history::Asked { tip, base, known };
        let list = |mirror: PathBuf| async move { self.inner.history(&mirror, &asked).await }.boxed();
        self.inner.with_revision(codebase, tip, list).await
    }

    /// Whether a revision is one of these tips or in the past of one. Tips that the mirror does not have yet are fetched.
    pub async fn is_within(
        &self,
        codebase: &str,
        revision: &str,
        tips: &[String],
    ) -> Result<bool, SourceError> {
        let check =
            |mirror: PathBuf| async move { self.inner.is_within(&mirror, revision, tips).await }.boxed();
        if self.inner.with_revision(codebase, revision, check).await? {
            return Ok(true);
        }
        // A mirror that has the revision for its own sake may lack what leads to it.
        let look = self.look(codebase).await?;
        let refs = look.refs.into_iter().filter(|(_, tip)| tips.contains(tip)).collect();
        self.fetch(codebase, &refs).await?;
        self.inner.with_revision(codebase, revision, check).await
    }

    /// A file of a revision, up to `cap` bytes; `None` where there is none at this path.
    pub async fn read_file(
        &self,
        codebase: &str,
        revision: &str,
        path: &str,
        cap: u64,
    ) -> Result<Option<TreeFile>, SourceError> {
        let read =
            |mirror: PathBuf| async move { self.inner.read_file(&mirror, revision, path, cap).await }.boxed();
        self.inner.with_revision(codebase, revision, read).await
    }

    /// The files of a selection as a tar, without its first `from` bytes. The same selection always gives
    /// the same bytes, so a transfer can go on where it broke.
    pub async fn tree(
        &self,
        codebase: &str,
        revision: &str,
        selection: &Selection,
        from: u64,
    ) -> Result<Tree, SourceError> {
        let of = self.inner.selected(codebase, selection).await?;
        let pack = |mirror: PathBuf| {
            let of = &of;
            async move {
                let commit = self.inner.commit_of(of, &mirror, revision, selection).await?;
                self.inner.tree(&mirror, &commit, from).await
            }
            .boxed()
        };
        self.inner.with_revision_of(&of, revision, pack).await
    }

    /// What the content of a folder is called at a revision, and at others where it is there; the same content has the same word. All of the
    /// tree where `folder` is empty.
    pub async fn words(
        &self,
        codebase: &str,
        revision: &str,
        others: &[String],
        folder: &str,
    ) -> Result<(String, Vec<String>), SourceError> {
        let words = |mirror: PathBuf| {
            async move { self.inner.words(&mirror, (codebase, revision), others, folder).await }.boxed()
        };
        self.inner.with_revision(codebase, revision, words).await
    }

    /// The files of a folder as a tar, with their names within it.
    pub async fn folder(&self, codebase: &str, revision: &str, folder: &str) -> Result<Tree, SourceError> {
        let pack = |mirror: PathBuf| {
            async move { self.inner.tree(&mirror, &format!("{revision}:{folder}"), 0).await }.boxed()
        };
        self.inner.with_revision(codebase, revision, pack).await
    }

    /// The commit that merges a revision into another: the same for the same two, whoever asks.
    pub async fn merge(&self, codebase: &str, revision: &str, onto: &str) -> Result<String, SourceError> {
        let of = (codebase.to_owned(), self.inner.repository(codebase).await?);
        let merge = |mirror: PathBuf| {
            let of = (of.0.as_str(), &of.1);
            async move { self.inner.merge(of, &mirror, revision, onto).await }.boxed()
        };
        self.inner.with_revision_of(&of, revision, merge).await
    }

    /// What somebody who has both revisions lacks of their merge, as a pack without its first `from` bytes.
    pub async fn merge_pack(
        &self,
        codebase: &str,
        revision: &str,
        onto: &str,
        from: u64,
    ) -> Result<Tree, SourceError> {
        let of = (codebase.to_owned(), self.inner.repository(codebase).await?);
        let pack = |mirror: PathBuf| self.inner.merge_pack(&of, mirror, revision, onto, from);
        self.inner.with_revision_of(&of, revision, pack).await
    }

    /// Sees to it that a codebase's mirror has a revision.
    pub async fn ensure(&self, codebase: &str, revision: &str) -> Result<(), SourceError> {
        self.inner.with_revision(codebase, revision, |_| async { Ok(()) }.boxed()).await
    }

    /// Bytes of a codebase's mirror; 0 where it has none yet.
    pub async fn mirror_bytes(&self, codebase: &str) -> Result<u64, SourceError> {
        self.inner.bytes_of(codebase).await
    }

    /// What a codebase's mirror has beyond these tips, packed into files of its own; `None` where that is nothing. With no tips it is all of it.
    pub async fn layer(&self, codebase: &str, have: &[String]) -> Result<Option<Layer>, SourceError> {
        self.inner.layer(codebase, have).await
    }

    /// Packs the mirrors of these codebases, and removes mirrors that no codebase uses any more.
    pub async fn tidy(&self, codebases: &[String]) -> Result<(), SourceError> {
        self.inner.tidy(codebases).await
    }
}

impl Inner {
    async fn repository(&self, codebase: &str) -> Result<Repository, SourceError> {
        let repository = self
            .repositories
            .repository(codebase)
            .await?
            .ok_or_else(|| SourceError::UnknownCodebase(codebase.to_owned()))?;
        repository.check()?;
        Ok(repository)
    }

    fn turn(&self, mirror: &std::path::Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(mirror.to_owned()).or_default().clone()
    }
}
