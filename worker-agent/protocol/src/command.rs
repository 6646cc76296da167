//! What a master asks of an agent: a [`Command`] is written to the store before it is sent, and runs at most once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Hidden;

/// A command's id: unique in an installation, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub i64);

/// A stream of output: what one log is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub i64);

/// One thing to do, with all that is needed to do it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub id: CommandId,
    /// Store epoch under which the command was written.
    pub epoch: i64,
    /// Build, step and sequence number within the step: for messages and the environment tag only.
    pub build: i64,
    pub step: i64,
    pub seq: i64,
    pub action: Action,
    /// Secret values to be masked in all output and messages. Empty ones are ignored.
    #[serde(default)]
    pub masks: Vec<Hidden>,
}

impl Command {
    /// The stream of the command's own output, if it writes one.
    pub fn stream(&self) -> Option<StreamId> {
        self.action.streams().first().copied()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Run(Run),
    Paths(Paths),
    Upload(Upload),
    Download(Download),
}

impl Action {
    /// All streams that come of it, that of its own output first.
    pub fn streams(&self) -> Vec<StreamId> {
        match self {
            Self::Run(run) => {
                std::iter::once(run.stream).chain(run.logs.iter().map(|log| log.stream)).collect()
            }
            Self::Paths(_) | Self::Upload(_) | Self::Download(_) => Vec::new(),
        }
    }
}

/// Run a program. Its output goes to one stream; channels tell stdout from stderr.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub program: Program,
    /// Added to the agent's base environment; `null` unsets.
    #[serde(default)]
    pub env: BTreeMap<String, Option<String>>,
    /// Relative to the work directory, made if missing; must not leave it.
    #[serde(default)]
    pub cwd: String,
    /// A pseudo terminal instead of two pipes; stdin is `/dev/null` without one.
    #[serde(default)]
    pub tty: bool,
    /// Longest time that the whole command may take.
    #[serde(default)]
    pub timeout_s: Option<f64>,
    /// Longest time without a byte of output.
    #[serde(default)]
    pub silence_s: Option<f64>,
    #[serde(default)]
    pub kill: Kill,
    pub stream: StreamId,
    /// Files that it writes, each followed as a stream of its own. For agents with the feature `logs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<FileLog>,
}

/// A file that is read while a command writes it, and to its end once the command is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLog {
    /// Relative to the work directory. It need not be there, ever.
    pub path: String,
    pub stream: StreamId,
}

/// The environment may hold secrets: only its names are printed.
impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("program", &self.program)
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .field("tty", &self.tty)
            .field("timeout_s", &self.timeout_s)
            .field("silence_s", &self.silence_s)
            .field("stream", &self.stream)
            .field("logs", &self.logs)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Program and arguments; found in the command's own `PATH`.
    Argv(Vec<String>),
    /// The text goes to a private file, whose path is the interpreter's last argument.
    Script { interpreter: Vec<String>, text: String },
}

/// How long each rung of the ladder SIGINT → SIGTERM → SIGKILL is given, over the whole process tree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kill {
    /// After SIGINT, before SIGTERM. 0 leaves SIGINT out.
    pub interrupt_s: f64,
    /// After SIGTERM, before SIGKILL. 0 leaves SIGTERM out.
    pub terminate_s: f64,
}

impl Default for Kill {
    fn default() -> Self {
        Self { interrupt_s: 5.0, terminate_s: 5.0 }
    }
}

/// Work on paths below the work directory, in order; the first that fails ends the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    pub ops: Vec<PathOp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathOp {
    /// What is below `path` and matches `glob` (`*`, `?`, `[a-z]`, `{a,b}`, `**` for any number of directories), sorted. An empty
    /// glob lists `path` itself, which need not exist.
    List {
        path: String,
        #[serde(default)]
        glob: String,
    },
    /// A file or a whole tree; absent is success. `.` empties the work directory.
    Remove { path: String },
    /// A directory and its parents; present is success.
    Make { path: String },
}

/// Send files to the master: each one `PUT {url_path}/{relative path}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Paths or globs relative to `base_dir`; a directory means all the files below it. One that matches nothing is a failure of the user.
    pub paths: Vec<String>,
    /// Relative to the work directory. The relative paths that the master sees start here.
    #[serde(default)]
    pub base_dir: String,
    pub url_path: String,
    pub token: Hidden,
    /// Most bytes of all files together.
    pub max_bytes: u64,
    /// Matching nothing is then no failure.
    #[serde(default)]
    pub optional: bool,
    /// Large files may be put into the master's object store itself, where it gives leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// All that is in `base_dir` as one archive, under the one name that `paths` has. For agents with the feature `archives`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
}

/// An archive of a directory. Where the directory is not there, no file is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// Hex: an archive with this SHA-256 is told of and not sent, as the master has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
}

/// Fetch one file or archive from the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    pub url_path: String,
    pub token: Hidden,
    /// Relative to the work directory: the file, or the directory to unpack into.
    pub to: String,
    #[serde(default)]
    pub unpack: Unpack,
    /// Hex, of the whole body.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Remove what is at `to` first.
    #[serde(default)]
    pub clean: bool,
    /// The master may send to its object store instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpack {
    #[default]
    None,
    /// A tar of files, directories, symbolic and hard links that stay within. Anything else in it is refused.
    Tar,
    /// What [`Pack`] has made: a tar within zstd, whose symbolic links may lead anywhere. For agents with the feature `archives`.
    Archive,
}
