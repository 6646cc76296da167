//! What happened on a branch between two looks.

use std::path::Path;

use super::Inner;
use super::error::SourceError;
use super::limits::Limits;
use super::remote::check_revision;

/// Bytes of git's list of commits and files that are read.
const LIST_MAX: usize = 16 << 20;

/// The commits that one look brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Newest first, at most as many as the limit allows. Never empty: where nothing is new, the tip.
    pub commits: Vec<Commit>,
    /// All that are new, listed or not; 0 where a branch only points to what was there before.
    pub total: u64,
    /// The base is not among the tip's ancestors: somebody pushed by force.
    pub rewritten: bool,
    /// The base was given and is not known any more; `commits` is the tip alone unless other heads helped.
    pub base_lost: bool,
}

impl History {
    /// Whether the listed files are all that changed, so that "no file matches" is an answer.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let listed = u64::try_from(self.commits.len()).unwrap_or(u64::MAX);
        !self.base_lost && listed >= self.total && self.commits.iter().all(|c| c.all_files)
    }
}

/// One commit, as its author wrote it. None of it proves anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub revision: String,
    /// `Name <address>`.
    pub author: String,
    pub email: String,
    /// Seconds since 1970, by the author's clock.
    pub when: i64,
    pub message: String,
    /// Paths that it touched; of a merge, against its first parent.
    pub files: Vec<String>,
    /// `files` was not cut at the limit.
    pub all_files: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub tip: &'a str,
    pub base: Option<&'a str>,
    pub known: &'a [String],
}

impl Inner {
    pub(super) async fn history(&self, mirror: &Path, asked: &Asked<'_>) -> Result<History, SourceError> {
        let mut history = History::default();
        let base = match asked.base {
            Some(base) => {
                check_revision(base)?;
                let there = self.has(mirror, base).await?;
                history.base_lost = !there;
                there.then_some(base)
            }
            None => None,
        };
        let old = match base {
            Some(base) => {
                history.rewritten = !self.is_ancestor(mirror, base, asked.tip).await?;
                vec![base.to_owned()]
            }
            None => self.those_there(mirror, asked.known).await?,
        };
        if old.is_empty() {
            // no base at all: the whole past of a branch is not what happened just now
            history.commits = self.list(mirror, asked.tip, &old, 1).await?;
            history.total = 1;
            return Ok(history);
        }
        history.total = self.count(mirror, asked.tip, &old).await?;
        history.commits = match history.total {
            0 => {
                let mut tip = self.list(mirror, asked.tip, &[], 1).await?;
                for commit in &mut tip {
                    commit.files.clear();
                    commit.all_files = true;
                }
                tip
            }
            _ => self.list(mirror, asked.tip, &old, self.limits.commits).await?,
        };
        Ok(history)
    }

    async fn is_ancestor(&self, mirror: &Path, base: &str, tip: &str) -> Result<bool, SourceError> {
        let doing = "compare two commits";
        let git = self.git(doing, &["merge-base", "--is-ancestor", base, tip]).within(mirror);
        let output = git.output(self.limits.read).await?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(SourceError::from_git(doing, &output.stderr)),
        }
    }

    /// Whether one of the tips, of those that the mirror has, is or follows a revision.
    pub(super) async fn is_within(
        &self,
        mirror: &Path,
        revision: &str,
        tips: &[String],
    ) -> Result<bool, SourceError> {
        let tips = self.those_there(mirror, tips).await?;
        if tips.is_empty() {
            return Ok(false);
        }
        Ok(self.count(mirror, revision, &tips).await? == 0)
    }

    /// Those of the revisions that the mirror has.
    async fn those_there(&self, mirror: &Path, revisions: &[String]) -> Result<Vec<String>, SourceError> {
        let mut asked = String::new();
        for revision in revisions {
            check_revision(revision)?;
            asked.push_str(&format!("{revision}\n"));
        }
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let git = self.git("look for commits", &["cat-file", "--batch-check=%(objectname) %(objecttype)"]);
        let output = git.within(mirror).input(asked).cap(LIST_MAX).run(self.limits.read).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(|line| line.strip_suffix(" commit")).map(str::to_owned).collect())
    }

    async fn count(&self, mirror: &Path, tip: &str, old: &[String]) -> Result<u64, SourceError> {
        let git = self.git("count commits", &["rev-list", "--count", "--stdin"]).within(mirror);
        let output = git.input(range(tip, old)).run(self.limits.read).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().map_err(|_| SourceError::from_git("count commits", text.as_bytes()))
    }

    async fn list(
        &self,
        mirror: &Path,
        tip: &str,
        old: &[String],
        most: usize,
    ) -> Result<Vec<Commit>, SourceError> {
        let doing = "list commits";
        let count = format!("--max-count={most}");
        let args = [
            "log",
            "-z",
            "--raw",
            "--no-renames",
            "--root",
            "--diff-merges=first-parent",
            "--topo-order",
            "--no-color",
            "--no-show-signature",
            "--no-notes",
            "--no-ext-diff",
            "--no-textconv",
            "--encoding=UTF-8",
            "--format=%x01%H%n%an%n%ae%n%at%n%B",
            &count,
            "--stdin",
        ];
        let git = self.git(doing, &args).within(mirror).input(range(tip, old)).cap(LIST_MAX);
        let output = git.output(self.limits.read).await?;
        if !output.cut && !output.status.success() {
            return Err(SourceError::from_git(doing, &output.stderr));
        }
        let mut commits = Commit::read_log(&output.stdout, &self.limits);
        if output.cut
            && let Some(last) = commits.last_mut()
        {
            last.all_files = false;
        }
        Ok(commits)
    }
}

impl Commit {
    /// Reads the list that git makes of commits and their files.
    ///
    /// The grammar: `\x01` and five lines, then for each file `:modes… status` and its path, all ended
    /// by NUL. No path can be taken for a head, as each follows its own line of modes.
    #[must_use]
    pub fn read_log(bytes: &[u8], limits: &Limits) -> Vec<Self> {
        let mut commits: Vec<Self> = Vec::new();
        let mut parts = bytes.split(|b| *b == 0);
        while let Some(part) = parts.next() {
            let part = part.strip_prefix(b"\n").unwrap_or(part);
            if part.starts_with(b":") {
                let path = parts.next();
                if let (Some(path), Some(commit)) = (path, commits.last_mut()) {
                    match commit.files.len() < limits.files {
                        true => commit.files.push(String::from_utf8_lossy(path).into_owned()),
                        false => commit.all_files = false,
                    }
                }
            } else if let Some(head) = part.strip_prefix(b"\x01")
                && let Some(commit) = Self::read_head(&String::from_utf8_lossy(head), limits)
            {
                commits.push(commit);
            }
        }
        commits
    }

    fn read_head(head: &str, limits: &Limits) -> Option<Self> {
        const NAME: usize = 200;
        let mut lines = head.splitn(5, '\n');
        let revision = lines.next()?.to_owned();
        let name = cut(lines.next()?, NAME);
        let email = cut(lines.next()?, NAME);
        Some(Self {
            revision,
            author: format!("{name} <{email}>"),
            email: email.to_owned(),
            when: lines.next()?.parse().unwrap_or(0),
            message: cut(lines.next()?.trim_end(), limits.message_bytes).to_owned(),
            files: Vec::new(),
            all_files: true,
        })
    }
}

/// What is reachable from the tip and from none of the old revisions, as git reads it from its input.
fn range(tip: &str, old: &[String]) -> String {
    let mut text = format!("{tip}\n");
    for revision in old {
        text.push_str(&format!("^{revision}\n"));
    }
    text
}

/// The text up to so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
