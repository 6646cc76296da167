//! What an image means now: asks the daemon, pulls where the pool says so. One pull of an image at a time, which all wait for.

use crate::daemon::{self, Daemon};
use crate::failure::{Doing, Failed};
use crate::options::{PoolOptions, Pull};
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures::TryStreamExt;
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use rouse_contract::{ProviderError, ResolveRequest, Resolved};
use rouse_model::failure::FailureClass;
use std::collections::HashMap;
use std::sync::Mutex;

/// What the daemon answers for one name: the image's id, or why there is none.
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
}

/// Questions under way.
#[derive(Debug, Default)]
pub(crate) struct Images {
    asked: Mutex<HashMap<Ask, WeakShared<BoxFuture<'static, Answer>>>>,
}

impl Images {
    pub(crate) async fn resolve(
        &self,
        daemon: &Daemon,
        request: &ResolveRequest,
        options: &PoolOptions,
    ) -> Result<Resolved, ProviderError> {
        let mut tried = Vec::new();
        for image in &request.images {
            let ask = Ask { image: image.clone(), platform: options.platform.clone(), pull: options.pull };
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

    async fn ask(&self, daemon: &Daemon, ask: Ask) -> Answer {
        let shared = {
            let mut asked = self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            asked.retain(|_, under_way| under_way.upgrade().is_some());
            let under_way =
                asked.get(&ask).and_then(WeakShared::upgrade).filter(|shared| shared.peek().is_none());
            under_way.unwrap_or_else(|| {
                let (daemon, asked_for) = (daemon.clone(), ask.clone());
                let shared: Shared<BoxFuture<'static, Answer>> =
                    async move { answer(&daemon, &asked_for).await }.boxed().shared();
                asked.extend(shared.downgrade().map(|weak| (ask, weak)));
                shared
            })
        };
        shared.await
    }
}

async fn answer(daemon: &Daemon, ask: &Ask) -> Answer {
    let image = &ask.image;
    let doing = || format!("find image {image}");
    let fail = |failed: Failed| Missing::Failed(Err::<(), _>(failed).doing(doing).expect_err("it is one"));
    let wanted = match &ask.platform {
        Some(platform) => platform.clone(),
        None => daemon.platform().await.map_err(fail)?,
    };
    let here = have(daemon, image).await.map_err(fail)?;
    let fits = here.as_ref().is_some_and(|found| fits(found, &wanted));
    let pulled = match ask.pull {
        Pull::Never => Ok(()),
        Pull::Missing if fits => Ok(()),
        Pull::Missing | Pull::Always | Pull::Newer => pull(daemon, ask).await,
    };
    let words = match pulled {
        Ok(()) => None,
        Err(_) if ask.pull == Pull::Newer && fits => None,
        Err(failed) if failed.is_away() => return Err(fail(failed)),
        Err(failed) => match class_of(&failed) {
            FailureClass::Image => Some(failed.message()),
            class => {
                let error = ProviderError::new(class, format!("pull image {image}"), failed.message());
                return Err(Missing::Failed(error.caused_by(failed)));
            }
        },
    };
    if let Some(words) = words {
        return Err(Missing::Absent(words));
    }
    match have(daemon, image).await.map_err(fail)? {
        None => Err(Missing::Absent("the daemon does not have it, and it is not to be pulled".into())),
        Some(found) if !self::fits(&found, &wanted) => {
            Err(Missing::Absent(format!("it is for {}, not for {wanted}", platform_of(&found))))
        }
        Some(found) => found.id.ok_or_else(|| Missing::Absent("the daemon gives it no id".into())),
    }
}

async fn have(daemon: &Daemon, image: &str) -> Result<Option<ImageInspect>, Failed> {
    let look = daemon::soon(async { Ok(daemon.api().await?.inspect_image(image).await?) });
    match look.await {
        Ok(found) => Ok(Some(found)),
        // 400: it is no name of an image at all, which a pull says in better words.
        Err(failed) if failed.is_absent() || failed.status() == Some(400) => Ok(None),
        Err(failed) => Err(failed),
    }
}

async fn pull(daemon: &Daemon, ask: &Ask) -> Result<(), Failed> {
    let options = CreateImageOptions {
        from_image: Some(with_tag(&ask.image)),
        platform: ask.platform.clone().unwrap_or_default(),
        ..Default::default()
    };
    daemon.api().await?.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) }).await?;
    Ok(())
}

/// Without a tag the daemon would pull all of them.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// The daemon answers with one status for many things; what decides is whether the registry gave a definite answer.
fn class_of(failed: &Failed) -> FailureClass {
    if matches!(failed.status(), Some(400 | 404)) {
        return FailureClass::Image;
    }
    let words = failed.message().to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|text| words.contains(text));
    if says(&["toomanyrequests", "too many requests"]) {
        FailureClass::Throttle
    } else if says(&[
        "not found",
        "manifest unknown",
        "no matching manifest",
        "does not exist",
        "no such host",
        "invalid reference",
    ]) {
        FailureClass::Image
    } else if says(&["unauthorized", "denied", "authentication required", "no basic auth credentials"]) {
        FailureClass::Auth
    } else {
        FailureClass::Offering
    }
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
