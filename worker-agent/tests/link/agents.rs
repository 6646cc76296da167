//! The agents that the suite is played against, and how each is started.

use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// The binary that masters ship.
    Ours,
    /// The one in Python, or what `ROUSE_AGENT` says instead.
    Python,
    OursByTls,
    PythonByTls,
}

/// All that the agent in Python consists of; the first is what is started.
pub const PYTHON_FILES: [&str; 3] = ["rouse_agent.py", "rouse_work.py", "ed25519.py"];

/// Where it lies.
pub fn python_agent() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

impl Agent {
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursByTls)
    }

    /// The newest version of the protocol that it speaks.
    pub fn newest_version(self) -> u32 {
        if self.is_ours() { rouse_agent_protocol::VERSION } else { 1 }
    }

    pub fn comes_by_tls(self) -> bool {
        matches!(self, Self::OursByTls | Self::PythonByTls)
    }

    /// Program and first arguments.
    pub fn command(self) -> Vec<String> {
        match (self.is_ours(), asked_for()) {
            (true, _) => vec![env!("CARGO_BIN_EXE_rouse-agent").to_owned()],
            (false, Some(words)) => words,
            (false, None) => python(&python_agent()),
        }
    }

    /// The same from a copy in `dir`, for where the agent's user may not read the original. What was asked for stays where it is.
    pub fn copied_to(self, dir: &Path) -> Vec<String> {
        match (self.is_ours(), asked_for()) {
            (true, _) => {
                let binary = dir.join("agent");
                fs::copy(env!("CARGO_BIN_EXE_rouse-agent"), &binary).unwrap();
                vec![binary.to_string_lossy().into_owned()]
            }
            (false, Some(words)) => words,
            (false, None) => {
                for file in PYTHON_FILES {
                    fs::copy(python_agent().join(file), dir.join(file)).unwrap();
                }
                python(dir)
            }
        }
    }
}

/// Without the paths of a site (`-S`, `-E`): the standard library alone is at hand.
fn python(dir: &Path) -> Vec<String> {
    let file = dir.join(PYTHON_FILES[0]);
    ["python3".to_owned(), "-S".to_owned(), "-E".to_owned(), file.to_string_lossy().into_owned()].to_vec()
}

fn asked_for() -> Option<Vec<String>> {
    let command = std::env::var("ROUSE_AGENT").ok()?;
    Some(command.split_whitespace().map(str::to_owned).collect())
}
