//! A repository that tests commit to, by the real git.

use std::path::{Path, PathBuf};
use std::process::Command;

pub(in crate::fleet) struct Repo(PathBuf);

impl Repo {
    pub(in crate::fleet) fn at(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let repo = Self(dir.to_owned());
        repo.git(&["init", "-q", "-b", "main", "."]);
        repo
    }

    pub(in crate::fleet) fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(args).current_dir(&self.0).env_remove("GIT_DIR");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Ann").env(format!("GIT_{who}_EMAIL"), "ann@example.org");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes a file and commits it; the answer is the revision.
    pub(in crate::fleet) fn commit(&self, file: &str, text: &str) -> String {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", file]);
        self.git(&["rev-parse", "HEAD"])
    }
}
