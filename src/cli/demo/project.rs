//! The sample project: a real git repository with a real test, and the configuration that builds it.

use anyhow::Context;
use std::path::{Path, PathBuf};
use tokio::process::Command;

const README: &str = include_str!("project/README.md");
const SKETCH: &str =
    "# Counts the words of its first argument.\ncount_words() {\n    echo \"not written yet\"\n}\n";
const WORDS: &str = include_str!("project/words.sh");
const TESTS: &str = include_str!("project/words_test.sh");

/// A commit that was just made.
#[derive(Debug, Clone)]
pub(super) struct Pushed {
    pub revision: String,
    pub subject: &'static str,
}

/// The repository.
#[derive(Debug)]
pub(super) struct Project {
    pub path: PathBuf,
}

impl Project {
    pub(super) async fn make(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir(path)?;
        let project = Self { path: path.canonicalize()? };
        project.git(&["init", "-q", "-b", "main"]).await?;
        // Whoever clones it can push to it, and finds the files changed.
        project.git(&["config", "receive.denyCurrentBranch", "updateInstead"]).await?;
        for (file, text) in [("README.md", README), ("words_test.sh", TESTS)] {
            std::fs::write(project.path.join(file), text)?;
        }
        project.commit("words.sh", SKETCH, "begin").await?;
        Ok(project)
    }

    pub(super) async fn count_words(&self) -> anyhow::Result<Pushed> {
        self.commit("words.sh", WORDS, "count words").await
    }

    pub(super) async fn break_counting(&self) -> anyhow::Result<Pushed> {
        let broken = WORDS.replace("set -- $1\n", "set -- $1 oops\n");
        self.commit("words.sh", &broken, "break counting").await
    }

    async fn commit(&self, file: &str, text: &str, subject: &'static str) -> anyhow::Result<Pushed> {
        std::fs::write(self.path.join(file), text)?;
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "-q", "-m", subject]).await?;
        let revision = self.git(&["rev-parse", "HEAD"]).await?.trim().to_owned();
        Ok(Pushed { revision, subject })
    }

    async fn git(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("git")
            .current_dir(&self.path)
            .args(["-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .kill_on_drop(true)
            // A Ctrl-C is meant for the demo, which then ends in order.
            .process_group(0)
            .output()
            .await
            .context("run git; the demo needs it (apt-get install git)")?;
        anyhow::ensure!(
            output.status.success(),
            "git {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What the demo's master reads.
pub(super) fn config(project: &Path, image: Option<&str>) -> String {
    let pool = match image {
        Some(image) => format!("{{docker: {{image: {}, pull: never, network: none}}}}", quoted(image)),
        None => "{local: {}}".to_owned(),
    };
    template(project, &format!("  demo: {pool}\n"), "1s")
}

/// What is kept to go on from: every line says what it is for.
pub(super) fn kept_config(project: &Path) -> String {
    let pools = "  # Where work can run. Nothing runs while nothing waits: min is 0.\n  \
                 demo: {local: {}}\n  \
                 # With a Docker daemon each build gets a container of its own; any image works, nothing has to be built into it:\n  \
                 # demo: {docker: {image: debian:12}}\n";
    template(project, pools, "10s")
}

fn template(project: &Path, pools: &str, poll: &str) -> String {
    format!(
        "# Start a master on it, in this folder: rouse serve --config rouse.yaml --state state\n\
         # Then commit to the project, or push to it from a clone, and look: rouse --state state builds\n\
         version: 1\n\n\
         codebases:\n  # What can change. The master looks for commits each {poll}.\n  \
         project: {{git: {git}, poll: {poll}}}\n\n\
         pools:\n{pools}\n\
         builders:\n  # A recipe: steps run in order on one worker.\n  \
         test:\n    steps:\n      - checkout: project\n      - run: sh words_test.sh\n        name: test\n\n\
         schedulers:\n  # What turns changes into builds.\n  \
         push: {{changes: {{project: {{branch: main}}}}, builders: [test]}}\n",
        git = quoted(&project.display().to_string()),
    )
}

/// A YAML string that means just this text.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}
