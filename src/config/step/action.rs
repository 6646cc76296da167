//! What a step does, as it is written.

use super::How;
use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{
    ArtifactName, CodebaseName, OneOrMany, PropertyName, RelativePath, Script, Template,
};
use crate::config::tree::Path;
use indexmap::IndexMap;
use rouse_model::plan::{Action, Checkout, CheckoutBy, CheckoutMode, DownloadFrom, Submodules};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Checkouts")]
pub(super) enum RawCheckouts {
    /// One codebase, into the build's folder.
    One(CodebaseName),
    /// Codebases, each with where and how.
    Several(IndexMap<CodebaseName, RawCheckout>),
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Checkout")]
pub(super) struct RawCheckout {
    /// Where to, below the build's folder. Default: `.`; the codebase's name where a step checks out several.
    dir: Option<RelativePath>,
    /// The branch, where the build itself says nothing of this codebase. Default: the codebase's own.
    branch: Option<Template>,
    /// How. Default: `full`.
    mode: Option<RawMode>,
    /// How much history a `shallow` checkout has. Default: 1.
    #[schemars(range(min = 1))]
    depth: Option<u32>,
    /// Who fetches. Default: `auto`.
    by: Option<RawBy>,
    /// Whether its submodules are checked out too: `true` for its own, `recursive` for theirs as well. They come from hosts that the codebase's
    /// `submodule_hosts` allows. Default: `false`.
    submodules: Option<RawSubmodules>,
    /// These folders alone, with the files beside and above them. Default: all of it.
    sparse: Option<OneOrMany<RelativePath>>,
    /// The branch that the revision is merged into first; what is built is the merge. A build of that branch itself merges nothing, nor is
    /// anything merged where a template comes to an empty text. Default: none.
    merge: Option<Template>,
    /// Fetches the large files of Git LFS too, from the codebase's own server; the worker does, and needs `git-lfs`. Without it their pointers
    /// stay. Default: `false`.
    lfs: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Submodules")]
enum RawSubmodules {
    Plain(bool),
    Named(RawRecursive),
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Recursive")]
enum RawRecursive {
    /// Submodules of submodules too.
    Recursive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Mode")]
enum RawMode {
    /// Into an emptied folder.
    Full,
    /// What is there is kept and brought up to date.
    Incremental,
    /// As `full`, with the newest history alone.
    Shallow,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "By")]
enum RawBy {
    /// The worker where it has git and reaches the repository, else the master ships the tree.
    Auto,
    /// The worker, with its own git.
    Worker,
    /// The master ships the tree; the worker needs neither git nor a network.
    Master,
}

impl RawCheckouts {
    pub(super) fn plain_name(&self) -> String {
        match self {
            Self::One(_) => "checkout".to_owned(),
            Self::Several(map) if map.len() == 1 => "checkout".to_owned(),
            Self::Several(map) => {
                format!("checkout {}", map.keys().map(CodebaseName::as_str).collect::<Vec<_>>().join(", "))
            }
        }
    }

    pub(super) fn check(self, cx: &mut Context<'_>, path: &Path) -> Vec<Checkout> {
        let map = match self {
            Self::One(name) => {
                cx.refer("codebases", &name, path);
                return vec![RawCheckout::default().check(name, None, cx, path)];
            }
            Self::Several(map) => map,
        };
        if map.is_empty() && cx.is_clean(path) {
            let message = format!("nothing is checked out in {}", cx.place(path));
            cx.push(Fault::new(Code::Empty, cx.value(path), message));
        }
        let several = map.len() > 1;
        let mut folders: HashMap<String, CodebaseName> = HashMap::new();
        let mut trees = Vec::with_capacity(map.len());
        for (name, raw) in map {
            let at = path.join(&name);
            cx.refer_key("codebases", &name, &at);
            let tree = raw.check(name.clone(), several.then(|| name.to_string()), cx, &at);
            let folder = tree.dir.as_deref().unwrap_or(".").trim_end_matches('/').to_owned();
            if let Some(other) = folders.insert(folder.clone(), name.clone()) {
                let message = format!("codebases `{other}` and `{name}` go to the same folder `{folder}`");
                let fault = Fault::new(Code::DuplicateName, cx.key(&at), message);
                cx.push(fault.label("give one of them another `dir`"));
            }
            trees.push(tree);
        }
        trees
    }
}

impl RawCheckout {
    fn check(
        self,
        codebase: CodebaseName,
        dir: Option<String>,
        cx: &mut Context<'_>,
        path: &Path,
    ) -> Checkout {
        let shallow = self.mode == Some(RawMode::Shallow);
        if self.depth.is_some() && !shallow {
            let fault =
                Fault::new(Code::Together, cx.key(&path.join("depth")), "`depth` is for `mode: shallow`");
            cx.push(fault);
        }
        let lfs = self.lfs.unwrap_or(false);
        if lfs && matches!(self.by, Some(RawBy::Master)) {
            let message = "`lfs` is for the worker's own git, and here the master ships the tree";
            cx.push(Fault::new(Code::Together, cx.key(&path.join("lfs")), message));
        }
        Checkout {
            codebase: codebase.into(),
            dir: self.dir.map(String::from).or(dir).filter(|dir| dir != "."),
            branch: self.branch.map(String::from),
            mode: match self.mode {
                Some(RawMode::Incremental) => CheckoutMode::Incremental,
                Some(RawMode::Full | RawMode::Shallow) | None => CheckoutMode::Full,
            },
            depth: shallow.then(|| self.depth.unwrap_or(1)),
            by: match self.by {
                Some(RawBy::Worker) => CheckoutBy::Worker,
                Some(RawBy::Master) => CheckoutBy::Master,
                Some(RawBy::Auto) | None => CheckoutBy::Auto,
            },
            submodules: match self.submodules {
                Some(RawSubmodules::Plain(true)) => Submodules::Own,
                Some(RawSubmodules::Named(RawRecursive::Recursive)) => Submodules::Recursive,
                Some(RawSubmodules::Plain(false)) | None => Submodules::None,
            },
            folders: self
                .sparse
                .map(OneOrMany::into_vec)
                .unwrap_or_default()
                .into_iter()
                .map(String::from)
                .collect(),
            merge: self.merge.map(String::from),
            lfs,
        }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Run")]
pub(super) enum RawRun {
    /// A script.
    Script(Script),
    /// A program and its arguments.
    Argv(#[schemars(length(min = 1))] Vec<Template>),
}

impl RawRun {
    pub(super) fn plain_name(&self) -> String {
        let line = match self {
            Self::Argv(argv) => argv.iter().map(Template::as_str).collect::<Vec<_>>().join(" "),
            Self::Script(text) => {
                let worth =
                    |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("set -");
                text.lines().map(str::trim).find(worth).unwrap_or("run").to_owned()
            }
        };
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line.chars().count() <= 40 { line } else { line.chars().take(39).chain(['…']).collect() }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Properties")]
pub(super) struct RawProperties {
    /// A file in the build's folder: a JSON object, or lines of `NAME=VALUE`.
    from: Option<RelativePath>,
    /// A command, as in `run`, that prints a JSON object; or with `as`, one value.
    output: Option<RawRun>,
    /// The one property that all of the output is, without its last line end.
    #[serde(rename = "as")]
    property: Option<PropertyName>,
}

impl RawProperties {
    pub(super) fn runs(&self) -> bool {
        self.output.is_some()
    }

    pub(super) fn run(&self) -> Option<&RawRun> {
        self.output.as_ref()
    }

    pub(super) fn check(self, how: How, cx: &mut Context<'_>, path: &Path) -> Option<Action> {
        match (self.from, self.output) {
            (Some(from), None) => {
                cx.not_with(path, &["as"], "`output`; a file names its properties itself");
                Some(Action::PropertiesFromFile { path: from.into() })
            }
            (None, Some(output)) => Some(Action::PropertiesFromOutput {
                run: how.run(output),
                property: self.property.map(String::from),
            }),
            _ => {
                cx.one_of(path, &["from", "output"], "source");
                None
            }
        }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upload")]
pub(super) struct RawUpload {
    /// Files and folders, as paths or globs below the build's folder.
    paths: OneOrMany<RelativePath>,
    /// The name under which they are kept. Files kept as `junit` are test reports: what failed, and since when, is told by `rouse build tests`.
    #[serde(rename = "as")]
    set: ArtifactName,
}

impl RawUpload {
    pub(super) fn plain_name(&self) -> String {
        format!("upload {}", self.set)
    }

    pub(super) fn check(self) -> Action {
        Action::Upload {
            paths: self.paths.into_vec().into_iter().map(String::from).collect(),
            set: self.set.into(),
        }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Download")]
pub(super) struct RawDownload {
    /// The name under which they were kept.
    artifact: ArtifactName,
    /// Whose they are. Default: `this-build`.
    from: Option<RawFrom>,
    /// Where to, below the build's folder. Default: `.`.
    to: Option<RelativePath>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "From")]
enum RawFrom {
    /// An earlier step of this build.
    ThisBuild,
    /// The build that this one runs `after`.
    Parent,
}

impl RawDownload {
    pub(super) fn plain_name(&self) -> String {
        format!("download {}", self.artifact)
    }

    pub(super) fn check(self) -> Action {
        Action::Download {
            set: self.artifact.into(),
            from: match self.from {
                Some(RawFrom::Parent) => DownloadFrom::Parent,
                Some(RawFrom::ThisBuild) | None => DownloadFrom::ThisBuild,
            },
            to: self.to.map(String::from).filter(|to| to != "."),
        }
    }
}
