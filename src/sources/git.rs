//! One run of `git`: its surroundings, its deadline, its end.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::error::SourceError;
use super::repository::{Repository, Transport};

/// All the configuration that git gets. It also reaches the git at the other end of a local path, which
/// is why a repository that another user owns is allowed here and not on the command line.
const CONFIG: &str = "\
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tsshCommand = false
[credential]
\thelper =
[protocol]
\tallow = never
[protocol \"http\"]
\tallow = always
[protocol \"https\"]
\tallow = always
[protocol \"ssh\"]
\tallow = always
[protocol \"git\"]
\tallow = always
[protocol \"file\"]
\tallow = always
[safe]
\tdirectory = *
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\trecurseSubmodules = false
\tunpackLimit = 1
[http]
\tfollowRedirects = initial
\tlowSpeedLimit = 200
\tlowSpeedTime = 60
[i18n]
\tlogOutputEncoding = UTF-8
[init]
\tdefaultBranch = main
";

/// Answers git's questions from the environment, where no other user can see them. Git follows a server that sends it elsewhere and asks
/// for that place's password then; the key is told to the host that it is for and to no other, and over http only where the address says so.
const ASKPASS: &str = "\
#!/bin/sh
asked=${1#*\\'}
asked=${asked%\\'*}
host=${asked#*://}
host=${host#\"$ROUSE_GIT_USER@\"}
host=${host#\"$ROUSE_GIT_USER_AS_WRITTEN@\"}
[ \"$host\" = \"$ROUSE_GIT_HOST\" ] || exit 1
case $asked in
https://*) ;;
\"$ROUSE_GIT_SCHEME\"://*) ;;
*) exit 1 ;;
esac
case $1 in
Username*) printf '%s\\n' \"$ROUSE_GIT_USER\" ;;
*) printf '%s\\n' \"$ROUSE_GIT_PASSWORD\" ;;
esac
";

/// What git may need of the master's own surroundings: the way to the network.
const PASSED_ON: [&str; 14] = [
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
];

/// For a server that is to know nothing of who asks.
const NO_IDENTITY: &str = " -o IdentitiesOnly=yes -o IdentityFile=none -o IdentityAgent=none";

/// The most that is kept of what git says about itself.
const STDERR_MAX: usize = 32 << 10;

fn settings(folder: &Path) -> PathBuf {
    folder.join("gitconfig")
}

fn askpass(folder: &Path) -> PathBuf {
    folder.join("askpass")
}

pub(super) fn mirrors(folder: &Path) -> PathBuf {
    folder.join("mirrors")
}

/// Makes the folder and what git reads from it.
pub(super) fn prepare(folder: &Path) -> Result<(), SourceError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let prepare = || {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for sub in ["mirrors", "home", "keys", "layers"] {
            builder.create(folder.join(sub))?;
        }
        for (path, text, mode) in [(settings(folder), CONFIG, 0o600), (askpass(folder), ASKPASS, 0o700)] {
            // a git of this folder may be running it: replaced, never rewritten
            let file = tempfile::NamedTempFile::new_in(folder)?;
            std::fs::write(file.path(), text)?;
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode))?;
            file.persist(path)?;
        }
        Ok(())
    };
    prepare().map_err(|e: std::io::Error| SourceError::io("prepare the folder of mirrors", e))
}

/// A git command that is put together and not started yet.
#[derive(Debug)]
pub(super) struct Git {
    command: Command,
    doing: &'static str,
    input: Vec<u8>,
    /// Bytes of output that are kept; more end the run.
    cap: usize,
    /// Lives as long as the command.
    key: Option<tempfile::NamedTempFile>,
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The output was cut at the cap.
    pub cut: bool,
}

impl Git {
    /// `doing` is what the reader of an error wants to know: `fetch`, `list commits`.
    pub(super) fn new(folder: &Path, doing: &'static str, args: &[&str]) -> Self {
        let mut command = Command::new("git");
        command.args(args).env_clear().current_dir(folder).kill_on_drop(true).process_group(0);
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", folder.join("home"))
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", settings(folder))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", "/bin/false")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0");
        Self { command, doing, input: Vec::new(), cap: 4 << 20, key: None }
    }

    pub(super) fn within(mut self, mirror: &Path) -> Self {
        self.command.env("GIT_DIR", mirror);
        self
    }

    pub(super) fn set(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub(super) fn cap(mut self, cap: usize) -> Self {
        self.cap = cap;
        self
    }

    /// Lets the command reach a repository. The key goes into a file of its own, or the environment.
    pub(super) fn reaching(mut self, folder: &Path, repository: &Repository) -> Result<Self, SourceError> {
        match (repository.transport()?, &repository.key) {
            (Transport::Http, Some(key)) => {
                let site = repository.site();
                self.command
                    .env("GIT_ASKPASS", askpass(folder))
                    .env("ROUSE_GIT_SCHEME", site.scheme)
                    .env("ROUSE_GIT_HOST", site.host)
                    .env("ROUSE_GIT_USER", site.user.as_deref().unwrap_or("git"))
                    .env("ROUSE_GIT_USER_AS_WRITTEN", site.user_as_written.unwrap_or("git"))
                    .env("ROUSE_GIT_PASSWORD", key.value().trim_end());
            }
            (Transport::Ssh, key) => {
                let file = key.as_ref().map(|key| key_file(folder, key.value())).transpose()?;
                let mut ssh = ssh_command(folder, file.as_ref().map(|f| f.path()));
                if !repository.has_identity {
                    ssh.push_str(NO_IDENTITY);
                    self.command.env_remove("SSH_AUTH_SOCK");
                }
                self.command.env("GIT_SSH_COMMAND", ssh);
                self.command.env("GIT_SSH_VARIANT", "ssh");
                self.key = file;
            }
            _ => {}
        }
        if repository.is_submodule {
            // It was checked where it goes; a server cannot send it on.
            self.command
                .env("GIT_ALLOW_PROTOCOL", "http:https:ssh:git")
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.followRedirects")
                .env("GIT_CONFIG_VALUE_0", "false");
        }
        Ok(self)
    }

    /// Starts it. The child leads a process group of its own, which ends with the guard.
    pub(super) fn start(mut self) -> Result<Running, SourceError> {
        self.command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.command.spawn().map_err(|e| SourceError::io("start git", e))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Running { child, group, doing: self.doing, input: self.input, cap: self.cap, _key: self.key })
    }

    /// Runs it to its end, whatever its exit code.
    pub(super) async fn output(self, deadline: Duration) -> Result<Output, SourceError> {
        let doing = self.doing;
        let running = self.start()?;
        match tokio::time::timeout(deadline, running.finish()).await {
            Ok(output) => output,
            Err(_) => Err(SourceError::Timeout { doing, after: deadline }),
        }
    }

    /// Runs it to its end; anything but success is an error.
    pub(super) async fn run(self, deadline: Duration) -> Result<Output, SourceError> {
        let (doing, cap) = (self.doing, self.cap);
        let output = self.output(deadline).await?;
        if output.cut {
            return Err(SourceError::TooLarge {
                what: format!("the answer to `{doing}`"),
                limit: cap as u64,
            });
        }
        match output.status.success() {
            true => Ok(output),
            false => Err(SourceError::from_git(doing, &output.stderr)),
        }
    }
}

/// A git that runs. Dropping it ends it with all its children.
#[derive(Debug)]
pub(super) struct Running {
    pub child: Child,
    group: Option<Pid>,
    pub doing: &'static str,
    input: Vec<u8>,
    cap: usize,
    _key: Option<tempfile::NamedTempFile>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl Running {
    /// Ends git and its children. Harmless once it was waited for.
    pub(super) fn end(&mut self) {
        if let Some(group) = self.group.take()
            && self.child.id().is_some()
        {
            // the leader was not waited for, so the number is still ours; a group that just ended is fine
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// Gives it all of its input, which must be so little that git takes it at once.
    pub(super) async fn feed(&mut self) -> Result<(), SourceError> {
        let input = std::mem::take(&mut self.input);
        match self.child.stdin.take() {
            Some(mut stdin) => stdin.write_all(&input).await.map_err(|e| SourceError::io(self.doing, e)),
            None => Ok(()),
        }
    }

    pub(super) async fn finish(mut self) -> Result<Output, SourceError> {
        let doing = self.doing;
        let fault = |e| SourceError::io(doing, e);
        let (stdin, stdout, stderr) =
            (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(fault(std::io::Error::other("git has no output")));
        };
        let input = std::mem::take(&mut self.input);
        let feed = async {
            if let Some(mut stdin) = stdin {
                // git may end without reading it all; its exit code tells the rest
                let _ = stdin.write_all(&input).await;
            }
        };
        let read = async {
            let (out, err, ()) =
                tokio::join!(read_capped(stdout, self.cap), read_all_keep(stderr, STDERR_MAX), feed);
            Ok::<_, std::io::Error>((out?, err?))
        };
        let ((stdout, cut), stderr) = read.await.map_err(fault)?;
        if cut {
            self.end();
        }
        let status = self.child.wait().await.map_err(fault)?;
        Ok(Output { status, stdout, stderr, cut })
    }
}

/// Reads up to `cap` bytes and then stops reading.
async fn read_capped(from: impl AsyncRead + Unpin, cap: usize) -> std::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    from.take(cap as u64 + 1).read_to_end(&mut bytes).await?;
    let cut = bytes.len() > cap;
    bytes.truncate(cap);
    Ok((bytes, cut))
}

/// Reads to the end and keeps the last `keep` bytes, so that a chatty git never blocks.
pub(super) async fn read_all_keep(mut from: impl AsyncRead + Unpin, keep: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 8 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&buffer[..read]);
        if bytes.len() > keep {
            bytes.drain(..bytes.len() - keep);
        }
    }
}

fn key_file(folder: &Path, key: &str) -> Result<tempfile::NamedTempFile, SourceError> {
    let write = || {
        // such files are made for their owner alone
        let file = tempfile::NamedTempFile::new_in(folder.join("keys"))?;
        // ssh does not take a key whose last line does not end
        std::fs::write(file.path(), format!("{}\n", key.trim_end()))?;
        Ok(file)
    };
    write().map_err(|e| SourceError::io("write the key for ssh", e))
}

/// The command that git runs for ssh. A host seen for the first time is remembered, a changed one refused.
fn ssh_command(folder: &Path, key: Option<&Path>) -> String {
    let known = folder.join("known_hosts").display().to_string().replace('%', "%%");
    let options = [
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=accept-new".to_owned(),
        format!("UserKnownHostsFile=\"{known}\" ~/.ssh/known_hosts"),
        "ConnectTimeout=20".to_owned(),
        "ServerAliveInterval=15".to_owned(),
        "ServerAliveCountMax=4".to_owned(),
    ];
    let mut command = String::from("ssh");
    for option in options {
        command.push_str(&format!(" -o {}", quoted(&option)));
    }
    if let Some(key) = key {
        command.push_str(&format!(" -o IdentitiesOnly=yes -i {}", quoted(&key.display().to_string())));
    }
    command
}

/// Quoted for the shell by which git starts ssh.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
