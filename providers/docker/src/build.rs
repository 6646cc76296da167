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
use hyper::Request;
use rouse_contract::units::{Bytes, Span};
use rouse_contract::{Keyring, ProviderError, Tree};
use rouse_model::failure::FailureClass;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;

/// How long one may take, where nobody says.
const WITHIN: Span = Span(Duration::from_secs(2 * 3600));
/// Of the processors' time, in microseconds; and the least part of it that the kernel gives out.
const PERIOD: f64 = 100_000.0;
const LEAST: f64 = 1_000.0;
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
            limits: limits(options),
            memory: options.memory,
            within: build.within.unwrap_or(WITHIN),
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
    /// As the daemon reads them.
    limits: String,
    memory: Option<Bytes>,
    within: Span,
    options: BuildImageOptions,
    doing: String,
}

impl Work {
    async fn run(self) -> Result<(), ProviderError> {
        let mut printed = String::new();
        let before = self.images.before(&self.daemon).await.doing(|| self.doing.clone())?;
        // Docker ends what runs once nobody listens any more; Podman 4.3 does not.
        let Ok(made) = tokio::time::timeout(self.within.0, self.make(&mut printed)).await else {
            let why = format!(
                "it was not made within {}, which is all the time it has; `within` of the pool's `build` gives it more",
                self.within
            );
            return Err(ProviderError::new(FailureClass::Image, self.doing, with_end(&why, &printed)));
        };
        match made {
            Ok(()) => {
                let name = self.options.t.as_deref().unwrap_or_default();
                self.images.made(&self.daemon, name, before.as_ref()).await
            }
            Err(Unmade::Said(error)) => return Err(error),
            Err(Unmade::Failed(failed)) => return Err(self.refused(failed, &printed)),
        }
        .doing(|| self.doing.clone())
    }

    /// A helper's login may have ended since it was given: then the helper is asked once more.
    async fn make(&self, printed: &mut String) -> Result<(), Unmade> {
        match self.make_as(printed, false).await {
            Err(Unmade::Failed(failed))
                if is_of_login(&failed) && self.accounts.iter().any(Account::has_helper) =>
            {
                self.make_as(printed, true).await
            }
            made => made,
        }
    }

    async fn make_as(&self, printed: &mut String, fresh: bool) -> Result<(), Unmade> {
        let mut credentials: HashMap<String, DockerCredentials> = HashMap::new();
        for account in &self.accounts {
            credentials.extend([account.credentials(&self.images.helpers, fresh).await?]);
        }
        let (tree, limits) = (self.tree.pack().await?, self.limits.clone());
        let api = self.daemon.api().await?.clone();
        let api = api.with_request_modifier(move |request| limited(request, &limits));
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
            _ if is_of_login(&failed) => of(FailureClass::Image, self.without_login(&failed, printed)),
            Refusal::Host => of(FailureClass::Offering, words),
            Refusal::Later(wait) if is_of_registry(&words) => {
                of(FailureClass::Image, words).retry_after(wait)
            }
            _ => of(FailureClass::Image, with_end(&with_reason(&words, printed, self.memory), printed)),
        }
    }

    /// The daemon's words name the registry sometimes, and never who asked it.
    fn without_login(&self, failed: &Failed, printed: &str) -> String {
        match base_of(printed) {
            Some(base) => {
                let registry = registry::registry_of(base);
                let account = self.accounts.iter().find(|account| account.is_of(registry));
                format!("it is made from {base}: {}", registry::refusal(base, account, failed))
            }
            None => format!(
                "a registry does not let the pool have what it is made from ({}); see the pool's `registry`",
                failed.message()
            ),
        }
    }
}

/// Whether a registry has not let the daemon have what an image is made from.
fn is_of_login(failed: &Failed) -> bool {
    !is_a_commands_end(&failed.message().to_ascii_lowercase()) && Refusal::of(failed) == Refusal::Login
}

/// The image that was wanted last, as the daemon repeats the Dockerfile. `None` where it does not stand there in full.
fn base_of(printed: &str) -> Option<&str> {
    let mut steps = printed.lines().rev().filter(|line| line.to_ascii_lowercase().starts_with("step "));
    let (_, command) = steps.next()?.split_once(": ")?;
    let mut words = command.split_whitespace();
    let first = words.next()?;
    let copied = words.clone().find_map(|word| word.strip_prefix("--from="));
    let base = match first.to_ascii_uppercase().as_str() {
        "FROM" => words.find(|word| !word.starts_with("--")),
        "COPY" => copied,
        _ => None,
    };
    base.filter(|base| !base.contains('$'))
}

/// What the commands of a Dockerfile may take of the host: as much as a worker of the pool may, as far as the builder takes a limit.
fn limits(options: &PoolOptions) -> String {
    let mut said = String::new();
    if let Some(Bytes(memory)) = options.memory {
        // Together with swap: none beyond it.
        said += &format!("&memory={memory}&memswap={memory}");
    }
    if let Some(cpus) = options.cpus {
        said += &format!("&cpuperiod={PERIOD}&cpuquota={:.0}", (cpus * PERIOD).max(LEAST));
    }
    if let Some(Bytes(shm)) = options.shm {
        said += &format!("&shmsize={shm}");
    }
    said
}

/// The client's own options have 32 bits for each, which end at 2 GiB.
fn limited<B>(mut request: Request<B>, limits: &str) -> Request<B> {
    if let Ok(uri) = format!("{}{limits}", request.uri()).parse() {
        *request.uri_mut() = uri;
    }
    request
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
    !is_a_commands_end(&words)
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

/// Whether a command of the Dockerfile has failed, and not the daemon.
fn is_a_commands_end(words: &str) -> bool {
    ["returned a non-zero code", "while running runtime"].iter().any(|text| words.contains(text))
}

/// Of a command that is killed Docker says the number, and Podman a word before it fails.
fn with_reason(words: &str, printed: &str, memory: Option<Bytes>) -> String {
    let killed = words.ends_with(" 137") || printed.trim_end().ends_with("container exited on killed");
    match memory {
        Some(memory) if killed && is_a_commands_end(words) => format!(
            "{words}: it was killed, as what takes more memory is than the pool's `memory`, {memory}, lets it"
        ),
        _ => words.to_owned(),
    }
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
        BuildOptions {
            file: file.into(),
            context,
            codebase: None,
            args,
            target: None,
            network: None,
            within: None,
        }
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
        let within = BuildOptions { within: Some(Span(Duration::from_secs(1))), ..build.clone() };
        assert_eq!(builds.name("abc", &places, &within, &pool), name);
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

    #[test]
    fn limits_are_those_of_a_worker() {
        let mut pool = PoolOptions::default();
        assert_eq!(limits(&pool), "");
        pool.memory = Some(Bytes(5 << 30));
        (pool.cpus, pool.shm) = (Some(0.5), Some(Bytes(1 << 20)));
        let said = "&memory=5368709120&memswap=5368709120&cpuperiod=100000&cpuquota=50000&shmsize=1048576";
        assert_eq!(limits(&pool), said);
        pool.cpus = Some(0.001);
        assert!(limits(&pool).contains("&cpuquota=1000&"));
        for uri in ["http://10.0.0.1:2376/v1.41/build?rm=true", "unix://2f72756e:0/v1.41/build?rm=true"] {
            let request = Request::builder().uri(uri).body(()).expect("a request");
            assert_eq!(limited(request, said).uri().to_string(), format!("{uri}{said}"));
        }
    }

    #[test]
    fn what_a_registry_refuses_is_the_last_that_was_wanted() {
        for (printed, base) in [
            ("Step 1/2 : FROM r:5000/base:1\n", Some("r:5000/base:1")),
            ("Step 1/2 : FROM --platform=linux/amd64 r:5000/base AS one\n\n", Some("r:5000/base")),
            (
                "Step 1/3 : FROM a\n ---> 12\nStep 2/3 : COPY --from=r:5000/tools /bin /bin\n",
                Some("r:5000/tools"),
            ),
            ("STEP 1/2: FROM r:5000/base:1\n", Some("r:5000/base:1")),
            ("Step 1/2 : ARG V=1\nStep 2/2 : FROM r:5000/base:$V\n", None),
            ("Step 1/2 : RUN false\n", None),
            ("", None),
        ] {
            assert_eq!(base_of(printed), base, "{printed}");
        }
        let said = |words: &str| Failed::said(FailureClass::Image, words);
        assert!(is_of_login(&said("unauthorized: authentication required")));
        assert!(!is_of_login(&said("The command '/bin/sh -c curl x # denied' returned a non-zero code: 1")));
    }

    #[test]
    fn who_is_killed_is_told_by_what() {
        let memory = Some(Bytes(64 << 20));
        let killed = "The command '/bin/sh -c make' returned a non-zero code: 137";
        let on_podman = "building at STEP \"RUN make\": while running runtime: exit status 1";
        for (words, printed) in [(killed, ""), (on_podman, "gcc\ncontainer exited on killed\n")] {
            let said = with_reason(words, printed, memory);
            assert!(said.ends_with("the pool's `memory`, 64 MiB, lets it"), "{said}");
            assert_eq!(with_reason(words, printed, None), words);
        }
        for words in
            ["The command '/bin/sh -c make' returned a non-zero code: 2", on_podman, "no route to 10.0.0 137"]
        {
            assert_eq!(with_reason(words, "", memory), words);
        }
    }
}
