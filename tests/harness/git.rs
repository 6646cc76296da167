//! A real git repository that a scenario pushes to, and a daemon that serves it.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::wait;

/// A bare repository, as a forge has it, and a clone to work in.
pub struct GitRepo {
    bare: PathBuf,
    work: PathBuf,
}

impl GitRepo {
    /// An empty repository `NAME.git` in `dir`, with `main` as its branch.
    pub fn empty(dir: &Path, name: &str) -> Self {
        let repo = Self { bare: dir.join(format!("{name}.git")), work: dir.join(format!("{name}-work")) };
        run(dir, &["init", "--quiet", "--bare", "--initial-branch=main", path(&repo.bare)]);
        run(dir, &["init", "--quiet", "--initial-branch=main", path(&repo.work)]);
        run(&repo.work, &["remote", "add", "origin", path(&repo.bare)]);
        repo
    }

    /// A repository with a first commit of these files on `main`.
    pub fn with(dir: &Path, name: &str, files: &[(&str, &str)]) -> Self {
        let repo = Self::empty(dir, name);
        repo.commit("first", files);
        repo.push("main");
        repo
    }

    /// What a config names: a path on this machine.
    pub fn url(&self) -> String {
        path(&self.bare).to_string()
    }

    /// The clone, for what the helpers below don't do.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The bare repository itself.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// Runs git in the clone and gives back what it printed.
    pub fn git(&self, arguments: &[&str]) -> String {
        run(&self.work, arguments)
    }

    /// Writes the files and commits all that differs; answers the revision. A file that starts with `#!` becomes a program.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        for (name, text) in files {
            let file = self.work.join(name);
            std::fs::create_dir_all(file.parent().expect("a file lies in a folder"))
                .expect("a folder can be made");
            std::fs::write(&file, text).expect("a file can be written");
            if text.starts_with("#!") {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))
                    .expect("the file is ours");
            }
        }
        run(&self.work, &["add", "--all"]);
        run(&self.work, &["commit", "--quiet", "--allow-empty", "--message", message]);
        self.head()
    }

    pub fn head(&self) -> String {
        run(&self.work, &["rev-parse", "HEAD"]).trim().to_string()
    }

    /// Makes a branch where the clone stands, and goes to it.
    pub fn branch(&self, name: &str) {
        run(&self.work, &["checkout", "--quiet", "-b", name]);
    }

    pub fn go_to(&self, name: &str) {
        run(&self.work, &["checkout", "--quiet", name]);
    }

    /// Pushes where the clone stands as this branch.
    pub fn push(&self, branch: &str) {
        run(&self.work, &["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]);
    }

    /// The same, over whatever the branch had.
    pub fn force_push(&self, branch: &str) {
        run(&self.work, &["push", "--quiet", "--force", "origin", &format!("HEAD:refs/heads/{branch}")]);
    }

    pub fn push_tag(&self, tag: &str) {
        run(&self.work, &["tag", tag]);
        run(&self.work, &["push", "--quiet", "origin", &format!("refs/tags/{tag}")]);
    }

    pub fn delete_branch(&self, branch: &str) {
        run(&self.work, &["push", "--quiet", "origin", "--delete", &format!("refs/heads/{branch}")]);
    }

    /// A commit and its push in one: the usual day.
    pub fn land(&self, branch: &str, message: &str, files: &[(&str, &str)]) -> String {
        let revision = self.commit(message, files);
        self.push(branch);
        revision
    }

    /// Serves the repository on a loopback port, for workers that cannot see this machine's files and for repositories that go away.
    pub fn serve(&self) -> GitDaemon {
        let base = self.bare.parent().expect("a repository lies in a folder");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
        let port = listener.local_addr().expect("a port has an address").port();
        drop(listener);
        let name = self.bare.file_name().expect("a repository has a name").to_string_lossy().into_owned();
        let mut daemon = GitDaemon { base: base.to_path_buf(), port, name, child: None };
        daemon.start();
        daemon
    }
}

/// `git daemon` on a port of its own. Ends when dropped.
pub struct GitDaemon {
    base: PathBuf,
    port: u16,
    name: String,
    child: Option<Child>,
}

impl GitDaemon {
    pub fn url(&self) -> String {
        format!("git://127.0.0.1:{}/{}", self.port, self.name)
    }

    /// Starts it, again on the same port after [`Self::stop`].
    pub fn start(&mut self) {
        let mut command = git(&self.base);
        command.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={}", self.port)).arg(format!("--base-path={}", self.base.display()));
        // A group of its own: git starts the daemon proper as a child.
        let child =
            command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().expect("git starts");
        self.child = Some(child);
        let port = self.port;
        wait::until_true("git daemon to listen", wait::SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// The repository is away from now on.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let group = nix::unistd::Pid::from_raw(child.id() as i32);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// git as it is on a machine without any configuration of a person.
fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "Ada Example")
            .env(format!("GIT_{who}_EMAIL"), "ada@example.org");
    }
    command
}

fn run(dir: &Path, arguments: &[&str]) -> String {
    let output = git(dir).args(arguments).stdin(Stdio::null()).output().expect("git is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {}: {complaint}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
