//! `secrets`: names of values that never stand in a configuration, where they are found, and who may see them.

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{BuilderName, EnvName, OneOrMany, ProjectName};
use super::tree::Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The keys of which a secret has exactly one.
pub(crate) const SOURCES: [&str; 2] = ["file", "env"];

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Secret")]
pub(crate) struct RawSecret {
    /// A file on the master whose content is the value, without its last line end.
    #[schemars(length(min = 1))]
    file: Option<String>,
    /// A variable of the master's environment.
    env: Option<EnvName>,
    /// The builders whose trusted builds may see it. Neither `builders` nor `projects`: all.
    builders: Option<OneOrMany<BuilderName>>,
    /// The projects whose trusted builds may see it.
    projects: Option<OneOrMany<ProjectName>>,
}

/// A value that is fetched late, for each build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretConfig {
    pub source: SecretSource,
    pub reach: Reach,
}

/// Where a secret's value is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    File(PathBuf),
    Env(EnvName),
}

/// Whose trusted builds may see a secret: all where both lists are empty, else those that either names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reach {
    pub builders: Vec<BuilderName>,
    pub projects: Vec<ProjectName>,
}

impl Reach {
    #[must_use]
    pub fn covers(&self, project: &str, builder: Option<&str>) -> bool {
        if self.builders.is_empty() && self.projects.is_empty() {
            return true;
        }
        self.projects.iter().any(|name| *name == project)
            || builder.is_some_and(|b| self.builders.iter().any(|name| *name == b))
    }
}

impl RawSecret {
    pub(crate) fn check(self, cx: &mut Context<'_>, path: &Path) -> Option<SecretConfig> {
        cx.refer_all("projects", &self.projects, &path.join("projects"));
        cx.refer_all("builders", &self.builders, &path.join("builders"));
        let source = match (self.file, self.env) {
            (Some(file), None) => {
                if !file.starts_with('/') {
                    let message = format!("the path `{file}` of {} is not absolute", cx.place(path));
                    let fault = Fault::new(Code::BadPath, cx.value(&path.join("file")), message);
                    cx.push(fault.note("a master is not always started in the same folder"));
                }
                SecretSource::File(file.into())
            }
            (None, Some(env)) => SecretSource::Env(env),
            _ => {
                cx.one_of(path, &SOURCES, "source");
                return None;
            }
        };
        let reach = Reach {
            builders: self.builders.map(OneOrMany::into_vec).unwrap_or_default(),
            projects: self.projects.map(OneOrMany::into_vec).unwrap_or_default(),
        };
        Some(SecretConfig { source, reach })
    }
}
