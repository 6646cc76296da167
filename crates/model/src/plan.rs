//! A plan: the checked steps of a builder. Content-addressed and pinned by each build, so a reload never changes a running build.

use crate::{BuildResult, failure::FailureClass};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The recipe that one build follows. Templates in it are still text; they are rendered when the build reaches them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub steps: Vec<PlannedStep>,
    /// Environment of every step: literal, template, or `secret:NAME`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whole build, seconds.
    #[serde(default)]
    pub timeout_s: Option<u64>,
    #[serde(default)]
    pub on_lost: OnLost,
    /// How many times a build may be retried for infrastructure's sake.
    #[serde(default = "default_retries")]
    pub retries: u32,
}

fn default_retries() -> u32 {
    3
}

impl Plan {
    /// The plan's text and its SHA-256 in hex, under which it is stored.
    ///
    /// # Panics
    /// Never: a plan holds nothing that JSON cannot carry.
    #[must_use]
    pub fn address(&self) -> (String, String) {
        let body = serde_json::to_string(self).expect("a plan has string keys and finite numbers only");
        let hash = hex::encode(Sha256::digest(body.as_bytes()));
        (hash, body)
    }
}

/// What becomes of a build whose worker was lost under it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLost {
    #[default]
    Retry,
    Fail,
}

/// One step as the configuration gave it, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Unique within the plan.
    pub name: String,
    pub action: Action,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Relative to the build's folder; a template.
    #[serde(default)]
    pub dir: Option<String>,
    /// A condition; absent means yes.
    #[serde(default, rename = "if")]
    pub condition: Option<String>,
    #[serde(default)]
    pub timeout_s: Option<u64>,
    #[serde(default)]
    pub silence_s: Option<u64>,
    #[serde(default)]
    pub rules: Rules,
    /// `false`: a command of this step that may have run is never run again.
    #[serde(default = "yes")]
    pub repeatable: bool,
}

fn yes() -> bool {
    true
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Checkout {
        trees: Vec<Checkout>,
    },
    Run(Run),
    /// Properties from a file in the build's folder: a JSON object, or `KEY=VALUE` lines.
    PropertiesFromFile {
        path: String,
    },
    /// Properties from what a command prints: a JSON object, or one named value (its output without the last line end).
    PropertiesFromOutput {
        run: Run,
        property: Option<String>,
    },
    /// More steps from what a command prints; they come after this one, in a plan of the build's own.
    StepsFrom {
        run: Run,
    },
    Upload {
        paths: Vec<String>,
        set: String,
    },
    Download {
        set: String,
        from: DownloadFrom,
        to: Option<String>,
    },
    RestoreCache(Cache),
    SaveCache(Cache),
    Trigger(Trigger),
}

impl Action {
    /// The command that a step is about, where it is about one.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Run(run) | Self::PropertiesFromOutput { run, .. } | Self::StepsFrom { run } => Some(run),
            _ => None,
        }
    }
}

/// Builds of other builders, of the same sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub builders: Vec<String>,
    /// A buildset of all these builders for each; its properties, whose texts are templates.
    pub sets: Vec<BTreeMap<String, serde_json::Value>>,
    /// The step ends when they have.
    pub wait: bool,
}

/// A folder that comes from an earlier build, and is kept for later ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    pub name: String,
    /// Below the build's folder, or absolute.
    pub path: String,
    /// Templates: what is read lies under the first that has anything, and is kept under the first.
    pub keys: Vec<String>,
    /// Most bytes of all that is kept of it, packed.
    pub max_bytes: u64,
}

/// Where a downloaded artifact set comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DownloadFrom {
    /// An earlier step of this build.
    #[default]
    ThisBuild,
    /// The build that triggered this one, or the newest good build of the buildset that this one runs `after`.
    Parent,
}

/// A command: a script for an interpreter, or an argv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub program: Program,
    #[serde(default)]
    pub tty: bool,
    /// Lines that match make the step's result warnings, where its rules say so.
    #[serde(default)]
    pub warning_pattern: Option<String>,
    /// Files that it writes, each kept as a log of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<FileLog>,
}

/// A file that a command writes, and the name of the log that it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLog {
    pub name: String,
    /// Below the step's folder; a template.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Each element is a template and becomes one argument.
    Argv(Vec<String>),
    /// The text is handed to the interpreter as a file; `{{ }}` in it become variable references.
    Script { interpreter: Vec<String>, text: String },
}

/// One codebase of a checkout step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    pub codebase: String,
    /// Relative to the build's folder; `None` is that folder itself.
    #[serde(default)]
    pub dir: Option<String>,
    /// Used where the build has no stamp for the codebase.
    #[serde(default)]
    pub branch: Option<String>,
    #[serde(default)]
    pub mode: CheckoutMode,
    /// History depth, where the worker fetches.
    #[serde(default)]
    pub depth: Option<u32>,
    #[serde(default)]
    pub by: CheckoutBy,
    #[serde(default, skip_serializing_if = "Submodules::is_none")]
    pub submodules: Submodules,
    /// These folders alone, with the files beside and above them; templates. Everything where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// The branch that the revision is merged into first; a template, and nothing is merged where it comes to an empty text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<String>,
    /// Large files are fetched too; for the worker's git alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lfs: bool,
}

/// Which submodules are checked out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Submodules {
    #[default]
    None,
    /// The codebase's own.
    Own,
    /// Theirs, too.
    Recursive,
}

impl Submodules {
    #[allow(clippy::trivially_copy_pass_by_ref)] // As serde asks.
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckoutMode {
    /// The folder is emptied first.
    #[default]
    Full,
    /// What is there is kept and brought up to date.
    Incremental,
}

/// Who fetches the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckoutBy {
    /// The worker where it has git and can be expected to reach the repository, else the master ships the tree.
    #[default]
    Auto,
    Worker,
    Master,
}

/// Buildbot's rules of how a step's result bears on its build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    pub halt_on_failure: bool,
    pub flunk_on_failure: bool,
    pub flunk_on_warnings: bool,
    pub warn_on_failure: bool,
    pub warn_on_warnings: bool,
    pub always_run: bool,
    /// Exit code → result; an absent code is success for 0, else failure.
    pub exit: BTreeMap<i32, BuildResult>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            halt_on_failure: true,
            flunk_on_failure: true,
            flunk_on_warnings: false,
            warn_on_failure: false,
            warn_on_warnings: true,
            always_run: false,
            exit: BTreeMap::new(),
        }
    }
}

impl Rules {
    #[must_use]
    pub fn of_exit(&self, code: i32) -> BuildResult {
        self.exit.get(&code).copied().unwrap_or(if code == 0 {
            BuildResult::Success
        } else {
            BuildResult::Failure
        })
    }
}

/// How a recorded step ended, as sequencing sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub result: BuildResult,
    /// Set where an infrastructure failure ended the step.
    pub class: Option<FailureClass>,
}
