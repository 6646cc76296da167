//! Files of a revision: one, or all of them as a tar.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use tokio::io::AsyncReadExt;

use super::Inner;
use super::error::SourceError;
use super::git::{Git, Running, read_all_keep};
use super::remote::check_revision;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeFile {
    Content {
        bytes: Vec<u8>,
        executable: bool,
    },
    /// A symbolic link and what it says. It is not followed: it may point anywhere.
    Link(String),
    Folder,
    /// Another repository at this path.
    Submodule,
}

/// A packed tree, as it comes out of git. Dropping it ends the packing.
pub struct Tree(BoxStream<'static, Result<Bytes, SourceError>>);

impl std::fmt::Debug for Tree {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tree(…)")
    }
}

impl Stream for Tree {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl Inner {
    pub(super) async fn read_file(
        &self,
        mirror: &Path,
        revision: &str,
        path: &str,
        cap: u64,
    ) -> Result<Option<TreeFile>, SourceError> {
        let inside = !path.is_empty()
            && !path.contains('\0')
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !inside {
            return Err(SourceError::refused(
                format!("the path {path:?}"),
                "it does not name a file of the tree",
            ));
        }
        let doing = "read a file";
        let args = ["ls-tree", "-z", "--long", "--end-of-options", revision, path];
        let output = self.git(doing, &args).within(mirror).run(self.limits.read).await?;
        let Some((mode, object, size)) = entry(&output.stdout) else { return Ok(None) };
        match mode.as_str() {
            "040000" => return Ok(Some(TreeFile::Folder)),
            "160000" => return Ok(Some(TreeFile::Submodule)),
            _ => {}
        }
        if size > cap {
            return Err(SourceError::TooLarge { what: format!("the file `{path}`"), limit: cap });
        }
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        let git = self.git(doing, &["cat-file", "blob", &object]).within(mirror).cap(room);
        let bytes = git.run(self.limits.read).await?.stdout;
        Ok(Some(match mode.as_str() {
            "120000" => TreeFile::Link(String::from_utf8_lossy(&bytes).into_owned()),
            mode => TreeFile::Content { bytes, executable: mode == "100755" },
        }))
    }

    /// The ids of a folder's tree at a revision, and at others where it is there.
    pub(super) async fn words(
        &self,
        mirror: &Path,
        (codebase, revision): (&str, &str),
        others: &[String],
        folder: &str,
    ) -> Result<(String, Vec<String>), SourceError> {
        if folder.contains(['\n', '\0']) {
            return Err(SourceError::refused(
                format!("the path {folder:?}"),
                "it does not name a folder of the tree",
            ));
        }
        let asked: String = std::iter::once(revision)
            .chain(others.iter().map(String::as_str))
            .map(|revision| format!("{revision}:{folder}\n"))
            .collect();
        let git = self.git("look for a folder", &["cat-file", "--batch-check"]).within(mirror);
        let output = git.input(asked).run(self.limits.read).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let mut words = said.lines().map(|line| {
            let mut words = line.split(' ');
            let id = words.next().filter(|id| check_revision(id).is_ok())?;
            (words.next() == Some("tree")).then(|| id.to_owned())
        });
        match words.next().flatten() {
            Some(word) => Ok((word, words.flatten().collect())),
            None => Err(SourceError::missing(codebase, format!("a folder `{folder}` at {revision}"))),
        }
    }

    pub(super) async fn tree(&self, mirror: &Path, commit: &str, from: u64) -> Result<Tree, SourceError> {
        let args = ["archive", "--format=tar", "--end-of-options", commit];
        self.streamed(self.git("pack the tree", &args).within(mirror), from).await
    }

    /// What a git writes, without its first bytes.
    pub(super) async fn streamed(&self, git: Git, from: u64) -> Result<Tree, SourceError> {
        let mut running = git.start()?;
        running.feed().await?;
        let until = tokio::time::Instant::now() + self.limits.pack;
        let packing = Packing {
            running,
            skip: from,
            sent: 0,
            limit: self.limits.tree_bytes,
            after: self.limits.pack,
            until,
        };
        let mut stream = Box::pin(futures::stream::try_unfold(packing, Packing::next));
        // what is wrong from the start is an error of the call, not of the transfer
        let first = futures::TryStreamExt::try_next(&mut stream).await?;
        let first = futures::stream::iter(first.map(Ok));
        Ok(Tree(Box::pin(futures::StreamExt::chain(first, stream))))
    }
}

/// Mode, object and size of the one entry that `ls-tree --long` gave.
fn entry(stdout: &[u8]) -> Option<(String, String, u64)> {
    let line = stdout.split(|b| *b == 0).next()?;
    let head = line.split(|b| *b == b'\t').next()?;
    let head = String::from_utf8_lossy(head);
    let mut words = head.split_whitespace();
    let (mode, _kind, object) = (words.next()?, words.next()?, words.next()?);
    Some((mode.to_owned(), object.to_owned(), words.next()?.parse().unwrap_or(0)))
}

struct Packing {
    running: Running,
    /// Bytes at the start that the reader has already.
    skip: u64,
    sent: u64,
    limit: u64,
    after: std::time::Duration,
    until: tokio::time::Instant,
}

impl Packing {
    /// The next bytes; `None` once all came and git ended well.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, SourceError> {
        let (doing, after, until) = (self.running.doing, self.after, self.until);
        match tokio::time::timeout_at(until, self.read()).await {
            Ok(Ok(Some(bytes))) => Ok(Some((bytes, self))),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SourceError::Timeout { doing, after }),
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, SourceError> {
        const PIECE: usize = 128 << 10;
        let doing = self.running.doing;
        let fault = |e| SourceError::io(doing, e);
        loop {
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            let read = match &mut self.running.child.stdout {
                Some(stdout) => stdout.read_buf(&mut piece).await.map_err(fault)?,
                None => 0,
            };
            if read == 0 {
                return self.ended().await;
            }
            self.sent += read as u64;
            if self.sent > self.limit {
                return Err(SourceError::TooLarge { what: "the packed tree".to_owned(), limit: self.limit });
            }
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(read);
            self.skip -= skipped as u64;
            if skipped < read {
                return Ok(Some(piece.freeze().slice(skipped..)));
            }
        }
    }

    async fn ended(&mut self) -> Result<Option<Bytes>, SourceError> {
        const SAID: usize = 16 << 10;
        let doing = self.running.doing;
        let fault = |e| SourceError::io(doing, e);
        let said = match self.running.child.stderr.take() {
            Some(stderr) => read_all_keep(stderr, SAID).await.map_err(fault)?,
            None => Vec::new(),
        };
        match self.running.child.wait().await.map_err(fault)?.success() {
            true => Ok(None),
            false => Err(SourceError::from_git(doing, &said)),
        }
    }
}
