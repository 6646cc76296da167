//! Child processes that end when we end: groups, deadlines, Ctrl-C, and what is left of them.
//!
//! Every child leads a process group of its own, so that it is ended by id together with what it started, and
//! never by name. A raised interrupt ends the child in hand; the caller's guards then stop everything else.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, User};

pub use crate::interrupt::{Interrupt, Interrupted};

const LOOK: Duration = Duration::from_millis(50);
/// Between asking a group to end and killing it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a child with our own output to its end.
pub fn run(command: &mut Command, interrupt: &Interrupt) -> Result<ExitStatus> {
    interrupt.check()?;
    let mut child = spawn(command.stdin(Stdio::null()))?;
    loop {
        if let Some(status) = child.try_wait().context("the child cannot be waited for")? {
            return Ok(status);
        }
        if interrupt.raised() {
            end_group(&mut child, Signal::SIGTERM, PATIENCE);
            return Err(Interrupted.into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Runs a child and gives back what it wrote; an error carries its complaint.
pub fn output(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name} could not be run"))?;
    if !output.status.success() {
        bail!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    Out,
    Err,
}

#[derive(Debug)]
pub enum Ended {
    Exited(ExitStatus),
    /// No sign of life for too long: killed with all that it had started.
    Hung,
}

/// Runs a child line by line. `on_line` answers whether the line was a sign of progress; a child without
/// progress for `silence` is killed.
pub fn stream(
    command: &mut Command,
    silence: Duration,
    interrupt: &Interrupt,
    mut on_line: impl FnMut(Channel, &str) -> bool,
) -> Result<Ended> {
    interrupt.check()?;
    let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (sender, lines) = sync_channel(1024);
    read_lines(child.stdout.take(), Channel::Out, sender.clone());
    read_lines(child.stderr.take(), Channel::Err, sender);
    let mut progress = Instant::now();
    let mut exited = None;
    loop {
        if interrupt.raised() {
            end_group(&mut child, Signal::SIGTERM, PATIENCE);
            return Err(Interrupted.into());
        }
        match lines.recv_timeout(LOOK) {
            Ok((channel, line)) => {
                if on_line(channel, &line) {
                    progress = Instant::now();
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if exited.is_none() => std::thread::sleep(LOOK),
            Err(RecvTimeoutError::Disconnected) => {}
        }
        // A grandchild may hold the pipes open for ever: once the child has ended and a look found no line, done.
        if let Some(status) = exited {
            return Ok(Ended::Exited(status));
        }
        exited = child.try_wait().context("the child cannot be waited for")?;
        if exited.is_none() && progress.elapsed() > silence {
            end_group(&mut child, Signal::SIGKILL, PATIENCE);
            return Ok(Ended::Hung);
        }
    }
}

fn read_lines(
    pipe: Option<impl Read + Send + 'static>,
    channel: Channel,
    lines: SyncSender<(Channel, String)>,
) {
    let Some(pipe) = pipe else { return };
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_string();
            if lines.send((channel, text)).is_err() {
                break;
            }
            line.clear();
        }
    });
}

fn spawn(command: &mut Command) -> Result<Child> {
    let name = name_of(command);
    command.process_group(0).spawn().with_context(|| format!("{name} could not be started"))
}

fn name_of(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Ends a child and its group: asks with `signal`, waits, then kills.
pub fn end_group(child: &mut Child, signal: Signal, patience: Duration) {
    let group = Pid::from_raw(child.id() as i32);
    // ESRCH where it has ended by itself, which is what we want.
    let _ = killpg(group, signal);
    let until = Instant::now() + patience;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(LOOK);
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
}

/// A long-running child with a log file. Dropping it ends it.
pub struct Daemon {
    child: Child,
    stop_signal: Signal,
    patience: Duration,
}

impl Daemon {
    /// Starts `command`, as `user` where one is given, so that it gets `stop_signal` even where we are killed.
    pub fn start(command: &Command, user: Option<&User>, stop_signal: Signal, log: &Path) -> Result<Self> {
        let file = std::fs::File::create(log).with_context(|| format!("{} cannot be made", log.display()))?;
        let errors = file.try_clone().context("a log file cannot be shared")?;
        let mut wrapped = set_privileges(command, user, Some(stop_signal));
        let child = spawn(wrapped.stdin(Stdio::null()).stdout(file).stderr(errors))?;
        Ok(Self { child, stop_signal, patience: Duration::from_secs(15) })
    }

    /// Waits until `ready` says so; fails with the end of the log if the daemon ends or takes too long.
    pub fn wait_until(
        &mut self,
        log: &Path,
        patience: Duration,
        interrupt: &Interrupt,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let until = Instant::now() + patience;
        while !ready() {
            interrupt.check()?;
            if let Some(status) = self.child.try_wait().context("the daemon cannot be waited for")? {
                bail!("it ended at once ({status}): {}", tail(log));
            }
            if Instant::now() > until {
                bail!("it was not ready after {} s: {}", patience.as_secs(), tail(log));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end_group(&mut self.child, self.stop_signal, self.patience);
    }
}

/// The same program, arguments and variables under another user, and with a signal for when our main thread is gone. One
/// call sets both: a later change of user would clear the signal.
pub fn set_privileges(command: &Command, user: Option<&User>, death_signal: Option<Signal>) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(user) = user {
        wrapped.args(["--reuid", &user.uid.to_string(), "--regid", &user.gid.to_string(), "--init-groups"]);
    }
    if let Some(signal) = death_signal {
        wrapped.args(["--pdeathsig", signal.as_str().trim_start_matches("SIG")]);
    }
    wrapped.arg("--").arg(command.get_program()).args(command.get_args());
    // A folder that every user may enter.
    wrapped.current_dir("/");
    wrapped
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

/// A live process as the kernel shows it.
pub struct Seen {
    pub pid: i32,
    pub command: String,
}

/// Live processes (zombies are gone already) whose command line, environment or folder mentions `mark`;
/// never ourselves. A mark ends so that none is the beginning of another; a folder's with a slash.
pub fn mentioning(mark: &str) -> Vec<Seen> {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == std::process::id() as i32 || is_zombie(pid) {
            continue;
        }
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ").trim().to_string();
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let cwd = format!("{}/", cwd.display());
        let environment = read("environ");
        let mentioned = command.contains(mark)
            || cwd.contains(mark)
            || String::from_utf8_lossy(&environment).contains(mark);
        if mentioned {
            seen.push(Seen { pid, command });
        }
    }
    seen
}

/// Kills by id what `mentioning` found, and the children of these (a container's first process says nothing).
pub fn kill_all(processes: &[Seen]) {
    for process in processes {
        for child in children(process.pid) {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let listed = std::fs::read_to_string(path).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may itself contain spaces and parentheses.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_without_progress_is_killed_with_its_children() {
        let mark = format!("mark-{}-hung", std::process::id());
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; sleep 600 & sleep 600"]).env("XTASK_TEST_MARK", &mark);
        let mut lines = Vec::new();
        let ended = stream(&mut command, Duration::from_millis(300), &Interrupt::never(), |_, line| {
            lines.push(line.to_string());
            true
        });
        assert!(matches!(ended.unwrap(), Ended::Hung));
        assert_eq!(lines, ["started"]);
        assert!(mentioning(&mark).is_empty());
    }

    #[test]
    fn an_interrupt_ends_the_child_in_hand() {
        let interrupt = Interrupt::never();
        interrupt.raise();
        let error = run(Command::new("sleep").arg("600"), &interrupt).unwrap_err();
        assert!(error.is::<Interrupted>());
    }

    #[test]
    fn lines_of_both_channels_and_the_exit_are_seen() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut lines = Vec::new();
        let ended = stream(&mut command, Duration::from_secs(60), &Interrupt::never(), |channel, line| {
            lines.push((channel, line.to_string()));
            true
        });
        lines.sort_by_key(|(_, line)| line.clone());
        assert_eq!(lines, [(Channel::Err, "err".to_string()), (Channel::Out, "out".to_string())]);
        assert!(matches!(ended.unwrap(), Ended::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_daemon_that_ends_at_once_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 1"]);
        let mut daemon = Daemon::start(&command, None, Signal::SIGTERM, &log).unwrap();
        let error =
            daemon.wait_until(&log, Duration::from_secs(20), &Interrupt::never(), || false).unwrap_err();
        assert!(error.to_string().contains("no such luck"), "{error}");
    }
}
