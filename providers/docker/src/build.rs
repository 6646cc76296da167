//! Images that are made on the daemon's host of a project's own Dockerfile: once for each content, under a name that the content gives it. So all
//! builds with the same files share one, and another daemon makes one of the same name.
//!
//! A Dockerfile can read every image of its host, and its commands run there. So none is built that strangers have written: a build of theirs uses
//! the image of files that are as a trusted branch has them, or one that was made of such files before.

use crate::daemon::Daemon;
use crate::failure::{Doing, Failed};
use crate::images::Images;
use crate::labels::Owner;
use crate::options::{BuildOptions, PoolOptions, Pull};
use crate::refusal::Refusal;
use crate::registry::{self, Account};
use crate::under_way::UnderWay;
use bollard::auth::DockerCredentials;
use bollard::models::ImageInspect;
use bollard::query_parameters::BuildImageOptions;
use futures::{FutureExt, StreamExt, TryStreamExt};
use rouse_contract::{Keyring, ProviderError, Tree};
use rouse_model::failure::FailureClass;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;

/// How long one may take.
const WITHIN: Duration = Duration::from_secs(2 * 3600);
/// How much of what it printed goes with its failure.
const SHOWN: usize = 2_000;

/// Below this the images have their names.
pub(crate) const REPOSITORIES: &str = "rouse-built/";

/// Where a Dockerfile and its context are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// The context, in the tree; empty for all of it.
    pub(crate) folder: String,
    /// The Dockerfile, in the context.
    pub(crate) file: String,
}

impl Places {
    /// # Errors
    /// The key that is wrong, and why.
    pub(crate) fn of(options: &BuildOptions) -> Result<Self, (&'static str, String)> {
        let file = options.file.strip_prefix("./").unwrap_or(&options.file);
        if !is_path(file) {
            return Err(("file", format!("`{}` is no place of a file in the project's tree", options.file)));
        }
        let folder = match &options.context {
            None => file.rsplit_once('/').map_or("", |(folder, _)| folder),
            Some(context) => {
                let folder = context.strip_prefix("./").unwrap_or(context).trim_end_matches('/');
                let folder = if folder == "." { "" } else { folder };
                if !folder.is_empty() && !is_path(folder) {
                    return Err(("context", format!("`{context}` is no folder of the project's tree")));
                }
                folder
            }
        };
        let within = match folder {
            "" => Some(file),
            folder => file.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
        };
        match within {
            Some(file) => Ok(Self { folder: folder.to_owned(), file: file.to_owned() }),
            None => Err(("file", format!("`{file}` does not lie in the context `{folder}`"))),
        }
    }
}

fn is_path(text: &str) -> bool {
    !text.contains(char::is_control) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Images that are being made.
#[derive(Debug)]
pub(crate) struct Builds {
    repository: String,
    under_way: UnderWay<String, Result<(), ProviderError>>,
}

impl Builds {
    pub(crate) fn new(owner: &Owner) -> Self {
        Self { repository: format!("{REPOSITORIES}{}", owner.mark()), under_way: UnderWay::default() }
    }

    /// The image of a tree and its name, made where it is not here.
    pub(crate) async fn image(
        &self,
        images: &Images,
        daemon: &Daemon,
        (tree, build): (&Tree, &BuildOptions),
        options: &PoolOptions,
        secrets: &Keyring,
    ) -> Result<(String, ImageInspect), ProviderError> {
        let doing =
            || format!("make the image of {} of `{}` at {:.12}", build.file, tree.codebase, tree.revision);
        let failed = |class, why: String| ProviderError::new(class, doing(), why);
        let places = Places::of(build).map_err(|(_, why)| failed(FailureClass::User, why))?;
        let look = tree.look().await?;
        let name = self.name(&look.word, &places, build, options);
        if let Some(found) = images.there(daemon, &name).await.doing(doing)? {
            return Ok((name, found));
        }
        if !look.trusted {
            let folder = if places.folder.is_empty() { "the tree" } else { places.folder.as_str() };
            let why = format!(
                "{folder} is not as any watched branch of `{}` has it, and what strangers write there is not built; merge it, or push it to a watched branch",
                tree.codebase
            );
            return Err(failed(FailureClass::Image, why));
        }
        let work = Work {
            daemon: daemon.clone(),
            images: images.clone(),
            tree: tree.clone(),
            accounts: registry::accounts(options, secrets),
            options: BuildImageOptions {
                dockerfile: places.file,
                t: Some(name.clone()),
                buildargs: Some(build.args.clone().into_iter().collect()),
                target: build.target.clone().unwrap_or_default(),
                platform: options.platform.clone().unwrap_or_default(),
                networkmode: build.network.clone(),
                pull: matches!(options.pull, Pull::Always | Pull::Newer).then(|| "true".to_owned()),
                rm: true,
                forcerm: true,
                ..BuildImageOptions::default()
            },
            doing: doing(),
        };
        self.under_way.join(name.clone(), || work.run().boxed()).await?;
        match images.there(daemon, &name).await.doing(doing)? {
            Some(found) => Ok((name, found)),
            None => Err(failed(FailureClass::Image, "it was made, and is gone again".into())),
        }
    }

    /// All that decides what is in it.
    fn name(&self, word: &str, places: &Places, build: &BuildOptions, options: &PoolOptions) -> String {
        let told = serde_json::json!([word, places.file, build.args, build.target, options.platform]);
        let key = hex::encode(&Sha256::digest(told.to_string().as_bytes())[..16]);
        format!("{}:{key}", self.repository)
    }
}

/// One image that is to be made.
struct Work {
    daemon: Daemon,
    images: Images,
    tree: Tree,
    accounts: Vec<Account>,
    options: BuildImageOptions,
    doing: String,
}

impl Work {
    async fn run(self) -> Result<(), ProviderError> {
        let mut printed = String::new();
        let made = match tokio::time::timeout(WITHIN, self.make(&mut printed)).await {
            Ok(made) => made,
            Err(_) => {
                let why = format!("it was not made after {} h", WITHIN.as_secs() / 3600);
                Err(Unmade::Failed(Failed::said(FailureClass::Image, why)))
            }
        };
        match made {
            Ok(()) => self.images.made(&self.daemon, self.options.t.as_deref().unwrap_or_default()).await,
            Err(Unmade::Said(error)) => return Err(error),
            Err(Unmade::Failed(failed)) => return Err(self.refused(failed, &printed)),
        }
        .doing(|| self.doing.clone())
    }

    async fn make(&self, printed: &mut String) -> Result<(), Unmade> {
        let mut credentials: HashMap<String, DockerCredentials> = HashMap::new();
        for account in &self.accounts {
            credentials.extend([account.credentials(&self.images.helpers).await?]);
        }
        let (tree, api) = (self.tree.pack().await?, self.daemon.api().await?);
        // The daemon hears of what breaks off only by what is missing of it.
        let body = bollard::body_try_stream(tree);
        let mut said = api.build_image(self.options.clone(), Some(credentials), Some(body)).boxed();
        while let Some(line) = said.try_next().await.map_err(Failed::from)? {
            printed.push_str(line.stream.as_deref().unwrap_or_default());
            let surplus = printed.len().saturating_sub(2 * SHOWN);
            let from = (surplus..=printed.len()).find(|at| printed.is_char_boundary(*at)).unwrap_or(0);
            printed.drain(..from);
        }
        Ok(())
    }

    /// What a person reads. What the Dockerfile itself says will be said again.
    fn refused(&self, failed: Failed, printed: &str) -> ProviderError {
        if failed.is_away() {
            return Err::<(), _>(failed).doing(|| self.doing.clone()).expect_err("it is one");
        }
        let words = failed.message();
        let of = |class, words| ProviderError::new(class, self.doing.clone(), words);
        match Refusal::of(&failed) {
            Refusal::Host => of(FailureClass::Offering, words),
            Refusal::Later(wait) if is_of_registry(&words) => {
                of(FailureClass::Image, words).retry_after(wait)
            }
            _ => of(FailureClass::Image, with_end(&words, printed)),
        }
    }
}

/// Why an image was not made.
enum Unmade {
    Said(ProviderError),
    Failed(Failed),
}

impl From<ProviderError> for Unmade {
    fn from(error: ProviderError) -> Self {
        Self::Said(error)
    }
}

impl From<Failed> for Unmade {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// Whether a failure is of getting what it is made from, and not of making it.
fn is_of_registry(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    let is_a_commands_end = ["returned a non-zero code", "while running runtime"];
    !is_a_commands_end.iter().any(|text| words.contains(text))
        && [
            "toomanyrequests",
            "too many requests",
            "dial tcp",
            "net/http",
            "unexpected http status",
            "timeout",
            "eof",
        ]
        .iter()
        .any(|text| words.contains(text))
}

fn with_end(words: &str, printed: &str) -> String {
    let from = printed.len().saturating_sub(SHOWN);
    let from = (from..=printed.len()).find(|at| printed.is_char_boundary(*at)).unwrap_or(printed.len());
    match printed[from..].trim() {
        "" => words.to_owned(),
        end => format!("{words}; it ended with:\n{end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(file: &str, context: Option<&str>) -> BuildOptions {
        let args =
            HashMap::from([("V", "1")]).into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let context = context.map(str::to_owned);
        BuildOptions { file: file.into(), context, codebase: None, args, target: None, network: None }
    }

    #[test]
    fn a_dockerfile_lies_in_its_context() {
        for (file, context, expected) in [
            ("Dockerfile", None, Some(("", "Dockerfile"))),
            ("ci/Dockerfile", None, Some(("ci", "Dockerfile"))),
            ("./ci/unit/Dockerfile", Some("./ci/"), Some(("ci", "unit/Dockerfile"))),
            ("ci/Dockerfile", Some("."), Some(("", "ci/Dockerfile"))),
            ("ci/Dockerfile", Some("c"), None),
            ("../Dockerfile", None, None),
            ("/Dockerfile", None, None),
            ("", None, None),
            ("ci/Dockerfile", Some("../x"), None),
            ("ci/Dockerfile", Some("ci/.."), None),
        ] {
            let found = Places::of(&options(file, context)).ok();
            let expected = expected.map(|(folder, file)| Places { folder: folder.into(), file: file.into() });
            assert_eq!(found, expected, "{file} {context:?}");
        }
    }

    #[test]
    fn a_name_is_of_all_that_decides() {
        let builds = Builds { repository: "rouse-built/12".into(), under_way: UnderWay::default() };
        let pool = PoolOptions::default();
        let build = options("ci/Dockerfile", None);
        let places = Places::of(&build).expect("places");
        let name = builds.name("abc", &places, &build, &pool);
        assert!(name.starts_with("rouse-built/12:") && name.len() == 15 + 32, "{name}");
        assert_eq!(builds.name("abc", &places, &build, &pool), name);
        let network = BuildOptions { network: Some("host".into()), ..build.clone() };
        assert_eq!(builds.name("abc", &places, &network, &pool), name);
        assert_ne!(builds.name("abd", &places, &build, &pool), name);
        let target = BuildOptions { target: Some("test".into()), ..build.clone() };
        assert_ne!(builds.name("abc", &places, &target, &pool), name);
        let other = PoolOptions { platform: Some("linux/arm64".into()), ..PoolOptions::default() };
        assert_ne!(builds.name("abc", &places, &build, &other), name);
    }

    #[test]
    fn what_a_dockerfile_says_is_final_and_what_a_registry_says_is_not() {
        assert!(is_of_registry("Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup: no such host"));
        assert!(is_of_registry("toomanyrequests: You have reached your pull rate limit."));
        assert!(!is_of_registry("The command '/bin/sh -c curl --timeout 1 x' returned a non-zero code: 7"));
        assert!(!is_of_registry(
            "building at STEP \"RUN curl --timeout 1\": while running runtime: exit status 7"
        ));
        assert!(!is_of_registry("dockerfile parse error line 1: unknown instruction: FORM"));
        assert_eq!(with_end("no", "Step 1/2\nbroken\n"), "no; it ended with:\nStep 1/2\nbroken");
        assert_eq!(with_end("no", ""), "no");
    }
}
