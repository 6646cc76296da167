//! `codebases`: what can change.

use super::context::Context;
use super::leaf::{
    GitUrl, HostName, Limit, OneOrMany, Pattern, Patterns, Period, ProjectName, SecretName, SecretRef,
    seconds,
};
use super::tree::Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DEFAULT_POLL: Period = seconds(60);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Codebase")]
pub(crate) struct RawCodebase {
    /// The git repository.
    git: GitUrl,
    /// The project that owns it. Default: `default`.
    project: Option<ProjectName>,
    /// The branches that are watched. Default: all.
    branches: Option<OneOrMany<Pattern>>,
    /// The tags that are watched. Default: none.
    tags: Option<OneOrMany<Pattern>>,
    /// The branches whose tips count as changes when they are seen for the first time: with the repository, or once they are watched. Default:
    /// none, so only what is pushed from then on is built.
    first: Option<OneOrMany<Pattern>>,
    /// How often the repository is looked at; `never` where hooks alone tell of changes. Default: `1m`.
    poll: Option<Limit>,
    /// The private key (ssh) or password (https) to fetch with.
    key: Option<SecretRef>,
    /// Whether a mirror of it is kept on hosts that build it, for workers to read. Default: `auto`, where it is large enough to be worth it.
    #[serde(default)]
    mirror: MirrorPolicy,
    /// The hosts that its submodules may come from, beside its own. Default: the hosts of all codebases.
    submodule_hosts: Option<OneOrMany<HostName>>,
}

/// Whether hosts keep a mirror of a codebase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Mirror")]
pub enum MirrorPolicy {
    /// From 32 MiB on.
    #[default]
    Auto,
    Always,
    Never,
}

/// A repository that builds check out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CodebaseConfig {
    pub git: GitUrl,
    pub project: ProjectName,
    /// `None`: all branches are watched.
    pub branches: Option<Patterns>,
    /// `None`: no tags are.
    pub tags: Option<Patterns>,
    /// `None`: at first sight nothing is a change.
    pub first: Option<Patterns>,
    /// `None`: only looked at when a hook says so.
    pub poll: Option<Period>,
    pub key: Option<SecretName>,
    pub mirror: MirrorPolicy,
    /// `None`: those of all codebases.
    pub submodule_hosts: Option<Vec<HostName>>,
}

impl CodebaseConfig {
    /// Whether a ref is watched: a branch by its name, a tag as `refs/tags/NAME`.
    #[must_use]
    pub fn watches(&self, branch: &str) -> bool {
        match branch.strip_prefix("refs/tags/") {
            Some(tag) => self.tags.as_ref().is_some_and(|tags| tags.matches(tag)),
            None => self.branches.as_ref().is_none_or(|branches| branches.matches(branch)),
        }
    }

    /// Whether everybody who reaches its server may read all of it, as far as the configuration says.
    #[must_use]
    pub fn is_public(&self) -> bool {
        let url = self.git.to_string();
        let open = ["http://", "https://", "git://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let host = open.and_then(|rest| rest.split('/').next());
        self.key.is_none() && host.is_some_and(|host| !host.contains('@'))
    }

    /// The branch that is built where nobody names one: the first that `first` or `branches` names outright; else the repository's own.
    #[must_use]
    pub fn default_branch(&self) -> Option<&str> {
        self.first
            .as_ref()
            .and_then(Patterns::first_literal)
            .or_else(|| self.branches.as_ref().and_then(Patterns::first_literal))
    }
}

impl RawCodebase {
    pub(crate) fn check(self, cx: &mut Context<'_>, path: &Path) -> Option<CodebaseConfig> {
        let project = cx.project(self.project, &path.join("project"));
        let key = self.key.as_ref().and_then(|key| cx.secret(key.name(), &path.join("key"), &project, None));
        cx.at_least(self.poll.and_then(|poll| poll.0), seconds(1), &path.join("poll"));
        Some(CodebaseConfig {
            git: self.git,
            branches: cx.patterns(self.branches, &path.join("branches")),
            tags: cx.patterns(self.tags, &path.join("tags")),
            first: cx.patterns(self.first, &path.join("first")),
            poll: self.poll.map_or(Some(DEFAULT_POLL), |poll| poll.0),
            project,
            key,
            mirror: self.mirror,
            submodule_hosts: self.submodule_hosts.map(OneOrMany::into_vec),
        })
    }
}
