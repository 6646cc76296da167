//! Mirrors of real repositories, made by the real git.

mod hostile;
mod layers;
mod looking;
mod mirrors;
mod selections;
mod servers;
mod submodules;
mod trees;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Key, Limits, Repositories, Repository, Selection, SourceError, Sources};

/// A repository that tests push to.
struct Remote {
    dir: PathBuf,
}

impl Remote {
    fn new(dir: &Path) -> Self {
        let remote = Self { dir: dir.to_owned() };
        std::fs::create_dir_all(dir).unwrap();
        remote.git(&["init", "-q", "-b", "main", "."]);
        remote
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(args)
            .current_dir(&self.dir)
            .env_remove("GIT_DIR")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Ann Author")
            .env("GIT_AUTHOR_EMAIL", "ann@example.org")
            .env("GIT_AUTHOR_DATE", "1700000000 +0000")
            .env("GIT_COMMITTER_NAME", "Ann Author")
            .env("GIT_COMMITTER_EMAIL", "ann@example.org")
            .env("GIT_COMMITTER_DATE", "1700000000 +0000");
        command
    }

    fn git(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes a file and commits it; the answer is the revision.
    fn commit(&self, file: &str, text: &str, message: &str) -> String {
        let path = self.dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.tip("HEAD")
    }

    fn tip(&self, name: &str) -> String {
        self.git(&["rev-parse", name])
    }

    /// Many commits at once, in fast-import's language.
    fn import(&self, stream: &str) {
        let mut child =
            self.command(&["fast-import", "--quiet", "--force"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// Addresses that a test can change.
#[derive(Debug, Default)]
struct Addresses(Mutex<BTreeMap<String, Repository>>);

impl Repositories for Addresses {
    fn repository<'a>(&'a self, codebase: &'a str) -> BoxFuture<'a, Result<Option<Repository>, SourceError>> {
        let found = self.0.lock().unwrap().get(codebase).cloned();
        futures::future::ready(Ok(found)).boxed()
    }
}

/// A folder of mirrors, with the codebase `app` at some address.
struct Fixture {
    dir: tempfile::TempDir,
    addresses: Arc<Addresses>,
    sources: Sources,
}

impl Fixture {
    fn new() -> (Self, Remote) {
        Self::limited(Limits::default())
    }

    fn limited(limits: Limits) -> (Self, Remote) {
        let dir = tempfile::tempdir().unwrap();
        let remote = Remote::new(&dir.path().join("remote"));
        let addresses = Arc::new(Addresses::default());
        let sources = Sources::open(dir.path().join("state/sources"), addresses.clone(), limits).unwrap();
        let fixture = Self { dir, addresses, sources };
        fixture.point("app", &remote.dir.display().to_string(), None);
        (fixture, remote)
    }

    fn point(&self, codebase: &str, url: &str, key: Option<&str>) {
        let repository = Repository::new(url, key.map(Key::new), Vec::new());
        self.addresses.0.lock().unwrap().insert(codebase.to_owned(), repository);
    }

    fn mirrors(&self) -> Vec<PathBuf> {
        let folder = self.dir.path().join("state/sources/mirrors");
        let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        found.sort();
        found
    }

    /// Looks and fetches all that was seen.
    async fn look_and_fetch(&self) -> BTreeMap<String, String> {
        let look = self.sources.look("app").await.unwrap();
        self.sources.fetch("app", &look.refs).await.unwrap()
    }
}

/// The whole of a packed tree.
async fn packed(sources: &Sources, revision: &str, from: u64) -> Result<Vec<u8>, SourceError> {
    use futures::TryStreamExt;
    let tree = sources.tree("app", revision, &Selection::default(), from).await?;
    tree.try_fold(Vec::new(), async |mut all, piece| {
        all.extend_from_slice(&piece);
        Ok(all)
    })
    .await
}
