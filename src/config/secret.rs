//! `secrets`: names of values that never stand in a configuration, where they are found, and who may see them.

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{BuilderName, EnvName, OneOrMany, ProjectName, family};
use super::tree::Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The keys of which a secret has exactly one.
pub(crate) const SOURCES: [&str; 4] = ["file", "env", "credential", "vault"];
/// Where Vault itself puts its first engine of key and value.
const MOUNT: &str = "secret";

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Secret")]
pub(crate) struct RawSecret {
    /// A file on the master whose content is the value, without its last line end.
    #[schemars(length(min = 1))]
    file: Option<String>,
    /// A variable of the master's environment.
    env: Option<EnvName>,
    /// A credential that systemd gives the master: the name in `LoadCredential=NAME:PATH` or `LoadCredentialEncrypted=` of its unit.
    #[schemars(length(min = 1, max = 255))]
    credential: Option<String>,
    /// A field of what the Vault of `server.vault` keeps.
    vault: Option<RawVaultPlace>,
    /// The builders whose trusted builds may see it. Neither `builders` nor `projects`: all.
    builders: Option<OneOrMany<BuilderName>>,
    /// The projects whose trusted builds may see it.
    projects: Option<OneOrMany<ProjectName>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "VaultPlace")]
struct RawVaultPlace {
    /// Where an engine of key and value, version 2, is mounted. Default: `secret`.
    #[schemars(length(min = 1))]
    mount: Option<String>,
    /// The secret's path within it, without `data/`.
    #[schemars(length(min = 1))]
    path: String,
    /// The field whose text is the value.
    #[schemars(length(min = 1))]
    field: String,
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
    Credential(String),
    Vault(VaultPlace),
}

/// A field of a secret in the installation's Vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VaultPlace {
    pub mount: String,
    pub path: String,
    pub field: String,
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
            || builder.is_some_and(|b| self.builders.iter().any(|name| *name == family(b)))
    }
}

impl RawSecret {
    pub(crate) fn check(self, cx: &mut Context<'_>, path: &Path) -> Option<SecretConfig> {
        cx.refer_all("projects", &self.projects, &path.join("projects"));
        cx.refer_all("builders", &self.builders, &path.join("builders"));
        let source = match (self.file, self.env, self.credential, self.vault) {
            (Some(file), None, None, None) => SecretSource::File(cx.absolute(file, &path.join("file"))),
            (None, Some(env), None, None) => SecretSource::Env(env),
            (None, None, Some(credential), None) => {
                if !is_segment(&credential) || credential.contains('/') {
                    let message =
                        format!("the credential `{credential}` of {} is no file's name", cx.place(path));
                    cx.push(Fault::new(Code::BadPath, cx.value(&path.join("credential")), message));
                }
                SecretSource::Credential(credential)
            }
            (None, None, None, Some(vault)) => SecretSource::Vault(vault.check(cx, path)),
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

impl RawVaultPlace {
    fn check(self, cx: &mut Context<'_>, secret: &Path) -> VaultPlace {
        if !cx.has(&Path::of(["server", "vault"])) {
            let message = format!("{} is in a Vault, and nothing says where that is", cx.place(secret));
            let fault = Fault::new(Code::MissingKey, cx.key(&secret.join("vault")), message);
            cx.push(fault.note("`server: {vault: {address: …, token_file: …}}`"));
        }
        let mount = self.mount.unwrap_or_else(|| MOUNT.to_owned());
        for (key, text) in [("mount", &mount), ("path", &self.path)] {
            if !text.split('/').all(is_segment) {
                let message = format!("the {key} `{text}` of {} is no path in a Vault", cx.place(secret));
                let fault = Fault::new(Code::BadPath, cx.value(&secret.join("vault").join(key)), message);
                cx.push(fault.note("names with `/` between them, such as `ci/signing`"));
            }
        }
        VaultPlace { mount, path: self.path, field: self.field }
    }
}

/// A name that stays where it is put.
fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.chars().any(char::is_control)
}
