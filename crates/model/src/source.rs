//! What was seen in a repository, and what a build checks out.

use crate::{BuildsetId, ChangeId, ChangeSetId, Timestamp, Trust};
use serde::{Deserialize, Serialize};

/// Where a poller last saw one ref of a codebase. A change row is only ever written in the transaction that moves this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub codebase: String,
    /// The branch's name without `refs/heads/`; a tag stands as `refs/tags/NAME`.
    pub branch: String,
    /// Full object id; `None` once the branch was deleted.
    pub revision: Option<String>,
    pub seen_at: Timestamp,
    /// Compare-and-set.
    pub generation: i64,
}

/// All commits of one look at one branch: what schedulers count as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSet {
    pub id: ChangeSetId,
    pub project: String,
    pub codebase: String,
    pub branch: String,
    /// The newest revision of the look.
    pub revision: String,
    /// The head before it; `None` for a branch seen for the first time.
    pub base: Option<String>,
    pub trust: Trust,
    /// Number of commits; may exceed the number of change rows where a cap was reached.
    pub commits: i64,
    pub seen_at: Timestamp,
    /// Who noticed: `poller app`, `api (token ci)`.
    pub noticed_by: String,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub id: ChangeId,
    pub change_set: ChangeSetId,
    pub codebase: String,
    pub branch: String,
    pub revision: String,
    pub author: String,
    /// The whole message; its first line is the subject.
    pub message: String,
    /// Paths touched, at most a few hundred.
    pub files: Vec<String>,
    /// The author's time, which proves nothing.
    pub authored_at: Timestamp,
}

/// What one build checks out of one codebase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStamp {
    pub buildset: BuildsetId,
    pub codebase: String,
    pub branch: Option<String>,
    /// Full object id, or `None` for "what the branch is when the build prepares".
    pub revision: Option<String>,
    pub change_set: Option<ChangeSetId>,
    pub trust: Trust,
}

/// How a poller gets on with its codebase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodebaseState {
    pub codebase: String,
    /// The URL that the stored heads were read from; another one means a first look again.
    pub url: String,
    /// When a look last succeeded; `None` before the first.
    pub looked: Option<Timestamp>,
    /// Why looks fail since `failing_since`, for a person.
    pub error: Option<String>,
    pub failing_since: Option<Timestamp>,
    /// Which refs the stored heads stand for, as the configuration had it; `None` before the first look.
    pub watching: Option<String>,
    /// The branch that the repository's own HEAD named at the last look.
    pub default_branch: Option<String>,
    pub generation: i64,
}
