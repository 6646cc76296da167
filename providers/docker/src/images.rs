//! What an image means now: asks the daemon, pulls where the pool says so. One pull of an image at a time, which all wait for.

use crate::collect::Marks;
use crate::daemon::{self, Daemon};
use crate::failure::{Doing, Failed};
use crate::helper::Helpers;
use crate::options::{PoolOptions, Pull};
use crate::refusal::Refusal;
use crate::registry::{self, Account};
use crate::under_way::UnderWay;
use bollard::auth::DockerCredentials;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures::{FutureExt, TryStreamExt};
use rouse_contract::{Collected, Keyring, ProviderError, ResolveRequest, Resolved};
use rouse_model::failure::FailureClass;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a registry may take to say what an image is.
const UNTIL_AN_ANSWER: Duration = Duration::from_secs(45);
/// How long nothing may come of it then. A large layer is written to the disk without a word.
const WITHOUT_A_WORD: Duration = Duration::from_secs(300);

/// What the daemon answers for one name: what the image is known by on every daemon, or why there is none.
type Answer = Result<String, Missing>;

/// Why a name has no image.
#[derive(Debug, Clone)]
enum Missing {
    /// It does not exist; the daemon's words.
    Absent(String),
    /// Nobody can say.
    Failed(ProviderError),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Ask {
    image: String,
    platform: Option<String>,
    pull: Pull,
    /// Who asks its registry.
    account: Option<Account>,
}

impl Ask {
    fn new(image: &str, options: &PoolOptions, pull: Pull, secrets: &Keyring) -> Self {
        let account = registry::account(options, image, secrets);
        Self { image: image.to_owned(), platform: options.platform.clone(), pull, account }
    }
}

/// Questions under way. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images {
    pub(crate) helpers: Arc<Helpers>,
    /// Where what we pull is collected.
    marks: Option<Marks>,
    asked: Arc<UnderWay<Ask, Answer>>,
}

impl Images {
    pub(crate) fn new(marks: Option<Marks>) -> Self {
        Self { marks, ..Self::default() }
    }

    pub(crate) fn are_collected(&self) -> bool {
        self.marks.is_some()
    }

    /// Ends those that are more than the host is to keep.
    pub(crate) async fn collect(
        &self,
        daemon: &Daemon,
        wanted: &HashSet<String>,
    ) -> Result<Vec<Collected>, Failed> {
        match &self.marks {
            Some(marks) => marks.collect(daemon, wanted).await,
            None => Ok(Vec::new()),
        }
    }

    pub(crate) async fn resolve(
        &self,
        daemon: &Daemon,
        request: &ResolveRequest,
        options: &PoolOptions,
    ) -> Result<Resolved, ProviderError> {
        let mut tried = Vec::new();
        for image in &request.images {
            let ask = Ask::new(image, options, options.pull, &request.secrets);
            match self.ask(daemon, ask).await {
                Ok(id) => return Ok(Resolved { image: image.clone(), id }),
                Err(Missing::Absent(words)) => tried.push((image.as_str(), words)),
                Err(Missing::Failed(error)) => return Err(error),
            }
        }
        let names: Vec<&str> = tried.iter().map(|(image, _)| *image).collect();
        let words: Vec<String> = match tried.as_slice() {
            [] => vec!["the pool names no image".into()],
            [(_, words)] => vec![words.clone()],
            several => several.iter().map(|(image, words)| format!("{image}: {words}")).collect(),
        };
        Err(ProviderError::new(
            FailureClass::Image,
            format!("find image {}", names.join(", ")),
            words.join("; "),
        ))
    }

    /// What the daemon has under a name or id; it is used now.
    pub(crate) async fn there(&self, daemon: &Daemon, id: &str) -> Result<Option<ImageInspect>, Failed> {
        let found = have(daemon, id).await?;
        if let (Some(found), Some(marks)) = (&found, &self.marks) {
            marks.used(daemon, found, None).await?;
        }
        Ok(found)
    }

    /// What is there before an image is made, where it matters: of a Dockerfile that adds nothing comes what it begins with.
    pub(crate) async fn before(&self, daemon: &Daemon) -> Result<Option<HashSet<String>>, Failed> {
        match &self.marks {
            Some(marks) => Ok(Some(marks.before(daemon).await?)),
            None => Ok(None),
        }
    }

    /// An image was made for builds under this name, and is collected as those that were pulled.
    pub(crate) async fn made(
        &self,
        daemon: &Daemon,
        name: &str,
        before: Option<&HashSet<String>>,
    ) -> Result<(), Failed> {
        if let (Some(found), Some(marks)) = (have(daemon, name).await?, &self.marks) {
            marks.used(daemon, &found, before).await?;
        }
        Ok(())
    }

    /// An image that was resolved, on this daemon or another one; pulled where it is not here.
    pub(crate) async fn here(
        &self,
        daemon: &Daemon,
        id: &str,
        options: &PoolOptions,
        secrets: &Keyring,
    ) -> Result<ImageInspect, ProviderError> {
        let doing = || format!("find image {id}");
        let absent = |words: String| ProviderError::new(FailureClass::Image, doing(), words);
        if let Some(found) = self.there(daemon, id).await.doing(doing)? {
            return Ok(found);
        }
        if options.pull == Pull::Never || !id.contains('@') {
            return Err(absent(format!("{} does not have it, and it is not to be pulled", daemon.host())));
        }
        let ask = Ask::new(id, options, Pull::Missing, secrets);
        match self.ask(daemon, ask).await {
            Ok(_) => {}
            Err(Missing::Absent(words)) => return Err(absent(words)),
            Err(Missing::Failed(error)) => return Err(error),
        }
        let found = have(daemon, id).await.doing(doing)?;
        found.ok_or_else(|| absent("it was pulled, and is gone again".into()))
    }

    async fn ask(&self, daemon: &Daemon, ask: Ask) -> Answer {
        let (daemon, helpers, marks) = (daemon.clone(), Arc::clone(&self.helpers), self.marks.clone());
        let asked_for = ask.clone();
        let work = || async move { answer(&daemon, &helpers, marks.as_ref(), &asked_for).await }.boxed();
        self.asked.join(ask, work).await
    }
}

async fn answer(daemon: &Daemon, helpers: &Helpers, marks: Option<&Marks>, ask: &Ask) -> Answer {
    let image = &ask.image;
    let doing = || format!("find image {image}");
    let fail = |failed: Failed| Missing::Failed(Err::<(), _>(failed).doing(doing).expect_err("it is one"));
    let wanted = match &ask.platform {
        Some(platform) => platform.clone(),
        None => daemon.platform().await.map_err(fail)?,
    };
    let here = have(daemon, image).await.map_err(fail)?;
    let fits = here.as_ref().is_some_and(|found| fits(found, &wanted));
    let before = match marks {
        Some(marks) if ask.pull != Pull::Never => Some(marks.before(daemon).await.map_err(fail)?),
        _ => None,
    };
    let pulled = match ask.pull {
        Pull::Never => Ok(()),
        Pull::Missing if fits => Ok(()),
        Pull::Missing | Pull::Always | Pull::Newer => pull(daemon, helpers, ask).await,
    };
    match pulled {
        Ok(()) => {}
        Err(_) if ask.pull == Pull::Newer && fits => {}
        Err(PullError::Login(error)) => return Err(Missing::Failed(error)),
        Err(PullError::Daemon(failed)) if failed.is_away() => return Err(fail(failed)),
        Err(PullError::Daemon(failed)) => {
            let of = |class, words: String| ProviderError::new(class, format!("pull image {image}"), words);
            let error = match Refusal::of(&failed) {
                Refusal::Absent => return Err(Missing::Absent(failed.message())),
                Refusal::Login => {
                    of(FailureClass::Image, registry::refusal(image, ask.account.as_ref(), &failed))
                }
                Refusal::Later(wait) => of(FailureClass::Image, failed.message()).retry_after(wait),
                Refusal::Host => of(FailureClass::Offering, failed.message()),
            };
            return Err(Missing::Failed(error));
        }
    }
    match have(daemon, image).await.map_err(fail)? {
        None => Err(Missing::Absent("the daemon does not have it, and it is not to be pulled".into())),
        Some(found) if !self::fits(&found, &wanted) => {
            Err(Missing::Absent(format!("it is for {}, not for {wanted}", platform_of(&found))))
        }
        Some(found) => {
            if let Some(marks) = marks {
                marks.used(daemon, &found, before.as_ref()).await.map_err(fail)?;
            }
            known_as(&found, image).ok_or_else(|| Missing::Absent("the daemon gives it no id".into()))
        }
    }
}

async fn have(daemon: &Daemon, image: &str) -> Result<Option<ImageInspect>, Failed> {
    let look = daemon::soon(async { Ok(daemon.api().await?.inspect_image(image).await?) });
    match look.await {
        Ok(found) => Ok(Some(found)),
        // It is no name of an image at all (400, but by Podman), which a pull says in better words.
        Err(failed)
            if failed.is_absent()
                || failed.status() == Some(400)
                || failed.message().contains("invalid reference format") =>
        {
            Ok(None)
        }
        Err(failed) => Err(failed),
    }
}

/// Why an image was not pulled.
enum PullError {
    /// The pool's login could not be had.
    Login(ProviderError),
    Daemon(Failed),
}

/// A helper's login may have ended since it was given: then the helper is asked once more.
async fn pull(daemon: &Daemon, helpers: &Helpers, ask: &Ask) -> Result<(), PullError> {
    let mut fresh = false;
    loop {
        let login = match &ask.account {
            Some(account) => Some(account.login(helpers, fresh).await.map_err(PullError::Login)?),
            None => None,
        };
        let credentials = login.map(|login| login.credentials(registry::registry_of(&ask.image)));
        match pull_as(daemon, ask, credentials).await {
            Ok(()) => return Ok(()),
            Err(failed)
                if !fresh
                    && ask.account.as_ref().is_some_and(Account::has_helper)
                    && Refusal::of(&failed) == Refusal::Login =>
            {
                fresh = true;
            }
            Err(failed) => return Err(PullError::Daemon(failed)),
        }
    }
}

async fn pull_as(daemon: &Daemon, ask: &Ask, credentials: Option<DockerCredentials>) -> Result<(), Failed> {
    let options = CreateImageOptions {
        from_image: Some(with_tag(&ask.image)),
        platform: ask.platform.clone().unwrap_or_default(),
        ..Default::default()
    };
    let api = daemon.api().await?;
    let mut said = std::pin::pin!(api.create_image(Some(options), None, credentials));
    let mut patience = UNTIL_AN_ANSWER;
    loop {
        match tokio::time::timeout(patience, said.try_next()).await {
            Ok(Ok(Some(_))) => patience = WITHOUT_A_WORD,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                let (registry, waited) = (registry::registry_of(&ask.image), patience.as_secs());
                let message = format!("registry {registry} has sent nothing for {waited} s");
                return Err(Failed::said(FailureClass::Image, message));
            }
        }
    }
}

/// By the registry's digest, with which any other daemon can pull the same; by its id where no registry has it.
fn known_as(found: &ImageInspect, image: &str) -> Option<String> {
    let digests = found.repo_digests.iter().flatten();
    let asked = familiar(repository(image));
    let mut of_registry =
        digests.filter(|digest| digest.split_once('@').is_some_and(|(name, _)| familiar(name) == asked));
    of_registry.next().cloned().or_else(|| found.id.clone())
}

/// A name without its tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// As the daemon shows names of the usual registry.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

/// Without a tag the daemon would pull all of them.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// Where the image names no variant any will do.
fn fits(found: &ImageInspect, wanted: &str) -> bool {
    let mut wanted = wanted.split('/');
    let same = |found: Option<&String>, wanted: Option<&str>| match (found.map(String::as_str), wanted) {
        (Some(found), Some(wanted)) if !found.is_empty() => found == wanted,
        _ => true,
    };
    same(found.os.as_ref(), wanted.next())
        && same(found.architecture.as_ref(), wanted.next())
        && same(found.variant.as_ref(), wanted.next())
}

fn platform_of(found: &ImageInspect) -> String {
    let parts = [&found.os, &found.architecture, &found.variant];
    let said: Vec<&str> = parts.iter().filter_map(|p| p.as_deref()).filter(|p| !p.is_empty()).collect();
    said.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_named_gets_a_tag() {
        for (image, pulled) in [
            ("debian", "debian:latest"),
            ("registry:5000/app", "registry:5000/app:latest"),
            ("registry:5000/app:1", "registry:5000/app:1"),
            ("app@sha256:12", "app@sha256:12"),
        ] {
            assert_eq!(with_tag(image), pulled);
        }
    }

    #[test]
    fn what_a_registry_has_is_known_by_its_digest_there() {
        let found = ImageInspect {
            id: Some("sha256:1d".into()),
            repo_digests: Some(vec![
                "other/app@sha256:aa".into(),
                "r:5000/app@sha256:bb".into(),
                "debian@sha256:cc".into(),
            ]),
            ..Default::default()
        };
        for (image, known) in [
            ("r:5000/app:main", "r:5000/app@sha256:bb"),
            ("r:5000/app", "r:5000/app@sha256:bb"),
            ("docker.io/library/debian:12", "debian@sha256:cc"),
            ("debian@sha256:cc", "debian@sha256:cc"),
            ("made-here:1", "sha256:1d"),
            ("sha256:1d", "sha256:1d"),
        ] {
            assert_eq!(known_as(&found, image).as_deref(), Some(known), "{image}");
        }
    }

    #[test]
    fn a_platform_is_compared_as_far_as_it_is_known() {
        let image = |os: &str, architecture: &str, variant: Option<&str>| ImageInspect {
            os: Some(os.into()),
            architecture: Some(architecture.into()),
            variant: variant.map(str::to_owned),
            ..Default::default()
        };
        assert!(fits(&image("linux", "amd64", None), "linux/amd64"));
        assert!(fits(&image("linux", "arm64", Some("v8")), "linux/arm64"));
        assert!(fits(&image("linux", "arm64", None), "linux/arm64/v8"));
        assert!(!fits(&image("linux", "arm", Some("v6")), "linux/arm/v7"));
        assert!(!fits(&image("linux", "arm64", None), "linux/amd64"));
        assert!(!fits(&image("windows", "amd64", None), "linux/amd64"));
        assert_eq!(platform_of(&image("linux", "arm", Some("v7"))), "linux/arm/v7");
    }
}
