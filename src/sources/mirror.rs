//! Mirrors on disk: made, filled, replaced when broken, packed.
//!
//! A mirror is a bare repository named after its codebase and a hash of its address, so that another
//! address is another mirror. It is made under another name and renamed, so a half-made one is never
//! seen. Its refs have flat names of our own: a branch `a` that made way for `a/b` is no conflict here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::Inner;
use super::error::{Class, SourceError};
use super::git::{Git, mirrors};
use super::remote::check_revision;
use super::repository::Repository;

/// Attributes of a repository must not change what is packed; only what a checkout would do too stays.
const ATTRIBUTES: &str = "* -export-subst -export-ignore -filter\n";

/// Git holds its lock files for moments. One this old was left by a git that was killed.
const STALE_LOCK: Duration = Duration::from_secs(120);

/// What is not reachable any more stays for builds of old revisions.
const PRUNE: &str = "--prune=90.days.ago";

/// A submodule's mirror is kept while it is used.
const UNUSED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A set-aside mirror is kept for a look by a person.
const SET_ASIDE_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

fn hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..12])
}

/// The name that a remote ref has in a mirror.
fn own_ref(name: &str) -> String {
    format!("refs/rouse/{}", hash(name))
}

fn remote_ref(name: &str) -> String {
    if name.starts_with("refs/tags/") { name.to_owned() } else { format!("refs/heads/{name}") }
}

impl Inner {
    /// Where the mirror is, whether or not it is there. SHA-1 and SHA-256 repositories do not mix.
    pub(super) fn mirror_path(&self, codebase: &str, repository: &Repository, revision: &str) -> PathBuf {
        let kind = if revision.len() == 64 { "-sha256" } else { "" };
        mirrors(&self.folder).join(format!("{codebase}-{}{kind}.git", hash(&repository.url)))
    }

    pub(super) fn git(&self, doing: &'static str, args: &[&str]) -> Git {
        Git::new(&self.folder, doing, args)
    }

    /// The mirror, made where it is missing. Its turn must be held.
    async fn opened(&self, path: &Path, sha256: bool) -> Result<(), SourceError> {
        if is_sound(path) {
            remove_stale_locks(path);
            return Ok(());
        }
        if path.exists() {
            set_aside(path)?;
        }
        let fault = |e| SourceError::io("make a mirror", e);
        let temp =
            tempfile::Builder::new().prefix(".new-").tempdir_in(mirrors(&self.folder)).map_err(fault)?;
        let format = if sha256 { "--object-format=sha256" } else { "--object-format=sha1" };
        let target = temp.path().display().to_string();
        let args = ["init", "--quiet", "--bare", "--template=", format, "--", &target];
        self.git("make a mirror", &args).run(self.limits.read).await?;
        let write = || {
            std::fs::create_dir_all(temp.path().join("info"))?;
            std::fs::write(temp.path().join("info/attributes"), ATTRIBUTES)?;
            std::fs::rename(temp.path(), path)
        };
        write().map_err(fault)
    }

    pub(super) async fn fetch(
        &self,
        codebase: &str,
        repository: &Repository,
        refs: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, SourceError> {
        let Some(sample) = refs.values().next() else { return Ok(BTreeMap::new()) };
        for (name, revision) in refs {
            check_revision(revision)?;
            super::remote::check_ref_name(name)?;
        }
        let path = self.mirror_path(codebase, repository, sample);
        let turn = self.turn(&path);
        let _turn = turn.lock().await;
        let mut lines = String::new();
        for name in refs.keys() {
            lines.push_str(&format!("+{}:{}\n", remote_ref(name), own_ref(name)));
        }
        self.fetched(&path, repository, sample.len() == 64, lines).await?;
        self.own_tips(&path, refs).await
    }

    /// Fetches by refspecs; a mirror that turns out to be broken is replaced and filled anew.
    async fn fetched(
        &self,
        path: &Path,
        repository: &Repository,
        sha256: bool,
        refspecs: String,
    ) -> Result<(), SourceError> {
        self.opened(path, sha256).await?;
        match self.fetch_once(path, repository, &refspecs).await {
            Err(error) if error.class() == Class::Damaged && !self.is_whole(path).await => {
                set_aside(path)?;
                self.opened(path, sha256).await?;
                self.fetch_once(path, repository, &refspecs).await
            }
            result => result,
        }
    }

    async fn fetch_once(
        &self,
        path: &Path,
        repository: &Repository,
        refspecs: &str,
    ) -> Result<(), SourceError> {
        let _call = self.fetches.acquire().await;
        let args = [
            "fetch",
            "--quiet",
            "--force",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--stdin",
            "--end-of-options",
            &repository.url,
        ];
        let git = self.git("fetch", &args).within(path).input(refspecs).reaching(&self.folder, repository)?;
        let after = self.limits.fetch;
        let running = git.start()?;
        let output = tokio::select! {
            output = tokio::time::timeout(after, running.finish()) => match output {
                Err(_) => return Err(SourceError::Timeout { doing: "fetch", after }),
                Ok(output) => output?,
            },
            () = grown_beyond(path, self.limits.mirror_bytes) => return Err(self.too_large()),
        };
        if !output.status.success() {
            return Err(SourceError::from_git("fetch", &output.stderr));
        }
        match pack_bytes(path) > self.limits.mirror_bytes {
            true => Err(self.too_large()),
            false => Ok(()),
        }
    }

    fn too_large(&self) -> SourceError {
        SourceError::TooLarge { what: "the repository".to_owned(), limit: self.limits.mirror_bytes }
    }

    /// What the mirror's refs point to after a fetch, tags peeled.
    async fn own_tips(
        &self,
        path: &Path,
        refs: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, SourceError> {
        let args = ["for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", "refs/rouse/"];
        let output =
            self.git("read the mirror", &args).within(path).cap(32 << 20).run(self.limits.read).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let tips: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let name = words.next()?;
                Some((name, words.next_back()?))
            })
            .collect();
        Ok(refs
            .keys()
            .filter_map(|name| Some((name.clone(), (*tips.get(own_ref(name).as_str())?).to_owned())))
            .collect())
    }

    /// Whether a mirror has a commit.
    pub(super) async fn has(&self, mirror: &Path, revision: &str) -> Result<bool, SourceError> {
        if !is_sound(mirror) {
            return Ok(false);
        }
        let object = format!("{revision}^{{commit}}");
        let git = self.git("look for a commit", &["cat-file", "-e", &object]).within(mirror);
        Ok(git.output(self.limits.read).await?.status.success())
    }

    /// Does something with a mirror that has a revision: fetched where it is not there, and again where
    /// the mirror turns out to be broken.
    pub(super) async fn with_revision<'a, T>(
        &self,
        codebase: &str,
        revision: &str,
        act: impl Fn(PathBuf) -> BoxFuture<'a, Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let own = (codebase.to_owned(), self.repository(codebase).await?);
        self.with_revision_of(&own, revision, act).await
    }

    /// The same, of a repository under the name that its mirror goes by.
    pub(super) async fn with_revision_of<'a, T>(
        &self,
        (codebase, repository): &(String, Repository),
        revision: &str,
        act: impl Fn(PathBuf) -> BoxFuture<'a, Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        check_revision(revision)?;
        let path = self.mirror_path(codebase, repository, revision);
        self.ensure(codebase, repository, &path, revision).await?;
        if repository.is_submodule {
            is_used(&path);
        }
        match act(path.clone()).await {
            Err(error) if error.class() == Class::Damaged => {
                {
                    let turn = self.turn(&path);
                    let _turn = turn.lock().await;
                    // whoever came first may have replaced it already
                    if !self.is_whole(&path).await && path.exists() {
                        set_aside(&path)?;
                    }
                }
                self.ensure(codebase, repository, &path, revision).await?;
                act(path).await
            }
            result => result,
        }
    }

    pub(super) async fn ensure(
        &self,
        codebase: &str,
        repository: &Repository,
        path: &Path,
        revision: &str,
    ) -> Result<(), SourceError> {
        if self.has(path, revision).await? {
            return Ok(());
        }
        let turn = self.turn(path);
        let _turn = turn.lock().await;
        if self.has(path, revision).await? {
            return Ok(());
        }
        // servers may give a revision by its name; else it comes with the branches
        let sha256 = revision.len() == 64;
        let by_name = format!("+{revision}:{}\n", own_ref(revision));
        let error = match self.fetched(path, repository, sha256, by_name).await {
            Ok(()) => None,
            Err(error) if matches!(error.class(), Class::Missing | Class::Other) => {
                let look = self.look(repository).await?;
                let names = look.refs.keys();
                let lines: String = names.map(|n| format!("+{}:{}\n", remote_ref(n), own_ref(n))).collect();
                if lines.is_empty() {
                    return Err(SourceError::Empty(codebase.to_owned()));
                }
                self.fetched(path, repository, sha256, lines).await.err()
            }
            Err(error) => Some(error),
        };
        if self.has(path, revision).await? {
            return Ok(());
        }
        Err(error.unwrap_or_else(|| SourceError::missing(codebase, format!("the revision {revision}"))))
    }

    /// Whether all that the refs need is there. Slow; asked only when something looked wrong.
    async fn is_whole(&self, path: &Path) -> bool {
        if !is_sound(path) {
            return false;
        }
        let args = ["fsck", "--connectivity-only", "--no-dangling", "--no-progress"];
        let output = self.git("check the mirror", &args).within(path).output(self.limits.fetch).await;
        output.is_ok_and(|output| output.status.success())
    }

    pub(super) async fn tidy(&self, codebases: &[String]) -> Result<(), SourceError> {
        let mut used = Vec::new();
        for codebase in codebases {
            let Ok(repository) = self.repository(codebase).await else { continue };
            for sample in [40, 64] {
                used.push(self.mirror_path(codebase, &repository, &"0".repeat(sample)));
            }
        }
        let fault = |e| SourceError::io("list the mirrors", e);
        for entry in std::fs::read_dir(mirrors(&self.folder)).map_err(fault)? {
            let path = entry.map_err(fault)?.path();
            let of_submodule = path.file_name().is_some_and(|name| name.to_string_lossy().contains('+'));
            let kept = if of_submodule { UNUSED_KEPT } else { SET_ASIDE_KEPT };
            if used.contains(&path) || of_submodule && is_sound(&path) && !is_old(&path, kept) {
                let turn = self.turn(&path);
                let _turn = turn.lock().await;
                let args =
                    ["-c", "gc.auto=500", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet", PRUNE];
                self.git("pack the mirror", &args).within(&path).run(self.limits.fetch).await?;
            } else if is_old(&path, kept) {
                std::fs::remove_dir_all(&path).map_err(|e| SourceError::io("remove an old mirror", e))?;
            }
        }
        Ok(())
    }
}

/// Whether a folder looks like a repository at all.
pub(super) fn is_sound(path: &Path) -> bool {
    let head = std::fs::read(path.join("HEAD")).is_ok_and(|head| !head.is_empty());
    let config = std::fs::metadata(path.join("config")).is_ok_and(|m| m.len() > 0);
    head && config
        && path.join("objects").is_dir()
        && path.join("refs").is_dir()
        && path.join("info/attributes").exists()
}

fn set_aside(path: &Path) -> Result<(), SourceError> {
    let fault = |e| SourceError::io("set a broken mirror aside", e);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = tempfile::Builder::new()
        .prefix(&format!("{name}.broken-"))
        .tempdir_in(path.parent().unwrap_or(Path::new("/")))
        .map_err(fault)?
        .keep();
    // an empty folder is replaced by a rename
    std::fs::rename(path, &aside).map_err(fault)?;
    tracing::warn!(mirror = %path.display(), kept = %aside.display(), "a broken mirror was set aside and will be fetched anew");
    Ok(())
}

/// Says that a mirror was used now; where that cannot be said it is only fetched anew earlier.
fn is_used(path: &Path) {
    let _ = std::fs::File::open(path).and_then(|folder| folder.set_modified(SystemTime::now()));
}

fn is_old(path: &Path, age: Duration) -> bool {
    let changed = std::fs::metadata(path).and_then(|m| m.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|passed| passed > age))
}

/// Lock files of a git that was killed would keep every later one from writing.
fn remove_stale_locks(mirror: &Path) {
    let mut folders = vec![mirror.to_owned(), mirror.join("refs"), mirror.join("refs/rouse")];
    folders.push(mirror.join("objects/pack"));
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let left = name.ends_with(".lock") && is_old(&path, STALE_LOCK);
            let pack = name.starts_with("tmp_pack_") && is_old(&path, Duration::from_secs(24 * 3600));
            if left || pack {
                // somebody else may have been quicker
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

/// Ends when the packs of a mirror exceed a size; else never. A mirror that is too large already is not
/// fetched into again.
async fn grown_beyond(mirror: &Path, limit: u64) {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tick.tick().await;
        if pack_bytes(mirror) > limit {
            return;
        }
    }
}

/// Bytes of packs, finished or being received.
pub(super) fn pack_bytes(mirror: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(mirror.join("objects/pack")) else { return 0 };
    entries.flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}
