//! Who the pool is at the registry of an image: a login as the pool says, its password fetched when it is used, or had from a credential helper.

use crate::failure::Failed;
use crate::helper::Helpers;
use crate::options::{LoginOptions, PoolOptions};
use bollard::auth::DockerCredentials;
use rouse_contract::{Keyring, ProviderError, Revealed};
use rouse_model::failure::FailureClass;

/// Where images are whose name says nothing of a registry.
const USUAL: &str = "docker.io";
/// What the usual registry is called beside.
const ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
/// What its logins are kept under, which is what credential helpers are asked for.
const USUAL_SERVER: &str = "https://index.docker.io/v1/";
/// The user of a login that is a token, as credential helpers say it.
const TOKEN: &str = "<token>";

/// A registry and how a pool logs in there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    registry: String,
    way: Way,
    /// Whose secrets are used.
    secrets: Keyring,
}

/// Where a login comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// `password` is a reference.
    Password {
        user: String,
        password: String,
    },
    Helper(String),
}

impl Way {
    /// `None` where options say neither, or both.
    pub(crate) fn of(options: &LoginOptions) -> Option<Self> {
        match options {
            LoginOptions { user: Some(user), password: Some(password), helper: None } => {
                Some(Self::Password { user: user.clone(), password: password.clone() })
            }
            LoginOptions { user: None, password: None, helper: Some(helper) } => {
                Some(Self::Helper(helper.clone()))
            }
            _ => None,
        }
    }
}

/// One pair of a user and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Revealed,
}

impl Login {
    pub(crate) fn credentials(&self, registry: &str) -> DockerCredentials {
        let serveraddress = Some(server(registry).to_owned());
        let secret = Some(self.password.reveal().to_owned());
        if self.user == TOKEN {
            return DockerCredentials { identitytoken: secret, serveraddress, ..Default::default() };
        }
        let username = Some(self.user.clone());
        DockerCredentials { username, password: secret, serveraddress, ..Default::default() }
    }
}

/// The registry that an image is in, as its name begins.
pub(crate) fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => usual(first),
        _ => USUAL,
    }
}

/// One name for the registry that has several.
fn usual(registry: &str) -> &str {
    if ALIASES.contains(&registry) { USUAL } else { registry }
}

/// What a registry's login is kept under.
pub(crate) fn server(registry: &str) -> &str {
    if registry == USUAL { USUAL_SERVER } else { registry }
}

/// How a pool logs in where an image is. A login goes to the registry that it is written for, and to no other.
pub(crate) fn account(options: &PoolOptions, image: &str, secrets: &Keyring) -> Option<Account> {
    let registry = registry_of(image);
    let (_, options) = options.registry.iter().find(|(name, _)| usual(name) == registry)?;
    Some(Account { registry: registry.to_owned(), way: Way::of(options)?, secrets: secrets.clone() })
}

/// All its logins: for what takes images from several registries.
pub(crate) fn accounts(options: &PoolOptions, secrets: &Keyring) -> Vec<Account> {
    let of = |(name, login): (&String, &LoginOptions)| {
        Some(Account { registry: usual(name).to_owned(), way: Way::of(login)?, secrets: secrets.clone() })
    };
    options.registry.iter().filter_map(of).collect()
}

impl Account {
    pub(crate) fn is_of(&self, registry: &str) -> bool {
        self.registry == registry
    }

    /// What the daemon logs in with, by what its registry's login is kept under; `fresh`: as [`Self::login`] has it.
    pub(crate) async fn credentials(
        &self,
        helpers: &Helpers,
        fresh: bool,
    ) -> Result<(String, DockerCredentials), ProviderError> {
        let login = self.login(helpers, fresh).await?;
        Ok((server(&self.registry).to_owned(), login.credentials(&self.registry)))
    }

    /// The login as it is now; `fresh`: a helper is asked also where it has answered lately.
    pub(crate) async fn login(&self, helpers: &Helpers, fresh: bool) -> Result<Login, ProviderError> {
        match &self.way {
            Way::Password { user, password } => {
                let password = self.secrets.reveal(password).await?;
                Ok(Login { user: user.clone(), password })
            }
            Way::Helper(helper) => helpers.get(helper, server(&self.registry), fresh).await.map_err(|why| {
                let doing = format!("log in at registry {}", self.registry);
                ProviderError::new(FailureClass::Image, doing, why.to_string()).caused_by(why)
            }),
        }
    }

    /// Whether another try may do what the last one did not.
    pub(crate) fn has_helper(&self) -> bool {
        matches!(self.way, Way::Helper(_))
    }
}

/// What a person reads where a registry does not let the pool in.
pub(crate) fn refusal(image: &str, account: Option<&Account>, failed: &Failed) -> String {
    let (registry, words) = (registry_of(image), failed.message());
    match account.map(|account| &account.way) {
        None => format!(
            "registry {registry} wants a login ({words}); give the pool one: `registry: {{\"{registry}\": {{user: …, password: secret:NAME}}}}`"
        ),
        Some(Way::Password { user, password }) => format!(
            "registry {registry} does not let user `{user}` have it ({words}); correct {password} or the pool's `registry`, or give `{user}` the right to pull"
        ),
        Some(Way::Helper(helper)) => format!(
            "registry {registry} does not take the login of helper `{helper}` ({words}); see what it says: `echo {server} | {program} get`",
            server = server(registry),
            program = crate::helper::program(helper)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_login_goes_to_its_own_registry_alone() {
        let options: PoolOptions = serde_json::from_value(json!({"registry": {
            "r.example.com:5000": {"user": "ci", "password": "secret:registry"},
            "index.docker.io": {"user": "hub", "password": "secret:hub"},
            "ecr.example.com": {"helper": "ecr-login"},
        }}))
        .expect("options");
        let user = |image: &str| {
            account(&options, image, &Keyring::default()).map(|found| match found.way {
                Way::Password { user, .. } => user,
                Way::Helper(helper) => helper,
            })
        };
        for (image, expected) in [
            ("r.example.com:5000/app:1", Some("ci")),
            ("r.example.com:5000/app@sha256:12", Some("ci")),
            ("r.example.com/app:1", None),
            ("r.example.com:5000.evil.org/app:1", None),
            ("debian:12", Some("hub")),
            ("docker.io/library/debian", Some("hub")),
            ("team/app", Some("hub")),
            ("localhost/app", None),
            ("ecr.example.com/app", Some("ecr-login")),
        ] {
            assert_eq!(user(image).as_deref(), expected, "{image}");
        }
    }

    #[test]
    fn a_token_is_sent_as_one() {
        let login = |user: &str| Login { user: user.into(), password: Revealed::new("open-sesame") };
        let token = login(TOKEN).credentials("docker.io");
        assert_eq!((token.username, token.identitytoken.as_deref()), (None, Some("open-sesame")));
        assert_eq!(token.serveraddress.as_deref(), Some(USUAL_SERVER));
        let plain = login("ci").credentials("r:5000");
        assert_eq!(
            (plain.password.as_deref(), plain.serveraddress.as_deref()),
            (Some("open-sesame"), Some("r:5000"))
        );
        assert!(!format!("{:?}", login("ci")).contains("sesame"));
    }
}
