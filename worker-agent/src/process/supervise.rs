//! The life of one process: from its spawn to the moment when nothing of it is left and its last byte is in the spool.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rouse_agent_protocol::masking::Masks;
use rouse_agent_protocol::{Channel, Command, Kill, NoRoom, OutcomeKind, Program, Run, StreamEnd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use thiserror::Error;

use super::environment::Environment;
use super::follow::Files;
use super::output::{Output, Progress, pipe};
use super::program::{self, c_path};
use super::pty;
use super::spawn::{Spawn, Stdio, spawn};
use super::tree::{Process, Tree};
use crate::clock::duration;
use crate::control::{Control, Exit, ExitStatus};
use crate::disk::Watch;
use crate::host::{Host, TemporaryFile};
use crate::pool::Scratch;
use crate::state::Shared;

/// What a command leaves behind may end by itself within this time (a `tee` that still writes), then it is terminated, then killed.
const SETTLE: Duration = Duration::from_millis(200);
const TERMINATE: Duration = Duration::from_secs(1);
const GIVE_UP: Duration = Duration::from_secs(5);

/// How often the tree is looked at while it should be going away.
const LOOK: Duration = Duration::from_millis(10);

/// One look can miss a process that was made while its parent ended; so many in a row hardly can.
const EMPTY_LOOKS: u32 = 4;

/// How often SIGKILL is repeated, for what was started while it was sent.
const AGAIN: Duration = Duration::from_millis(50);

/// How long the pipes may be quiet at the end while somebody out of reach holds them open.
const STRANGER: Duration = Duration::from_millis(500);

#[derive(Debug, Error)]
pub enum RunError {
    /// The command or the image is at fault.
    #[error("{0}")]
    CouldNotStart(String),
    /// The agent or its machine is.
    #[error("{step}")]
    Machine { step: &'static str, source: io::Error },
}

/// What is known of a process that ran.
#[derive(Debug)]
pub struct Ended {
    pub kind: OutcomeKind,
    pub exit: Exit,
    pub leftovers: u32,
    /// Where the work directory's file system was seen full.
    pub no_room: Option<NoRoom>,
    /// What there is to say of the files that were followed.
    pub files: Vec<StreamEnd>,
}

fn machine(step: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Machine { step, source }
}

/// Where a process belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub shared: &'a Shared,
    pub control: &'a Arc<Control>,
    pub command: &'a Command,
    pub masks: &'a Masks,
}

/// Run it to its end. `started` is called once the process runs. Everything that belongs to it is gone afterwards.
pub fn run(
    host: &Host,
    place: &Place<'_>,
    run: &Run,
    scratch: &mut Scratch,
    started: impl FnOnce(),
) -> Result<Ended, RunError> {
    let Place { shared, control, command, masks } = *place;
    let prepared = Prepared::new(host, command, run)?;
    let (stdio, sources) = Ends::open(run.tty)?;
    let files = Files::new(&host.work_dir, &run.logs, masks).map_err(machine("open the work directory"))?;
    let output = Output::new(shared, run.stream, masks, sources, scratch);
    let made = host.reaper.spawn(command.id, control, || prepared.spawn(&stdio));
    drop(stdio);
    let main = made.map_err(|error| prepared.refuse(&error))?;
    started();
    let tree = Tree { command: command.id, main, reaper: &host.reaper };
    let now = Instant::now();
    let supervisor = Supervisor {
        control,
        tree,
        output,
        files,
        run,
        total: run.timeout_s.map(|s| now + duration(s)),
        silent: run.silence_s.map(|s| now + duration(s)),
        ladder: None,
        blocked: false,
        disk: Watch::new(&host.disk),
    };
    Ok(supervisor.supervise())
}

/// All that can be checked and made before there is a process.
struct Prepared {
    program: std::ffi::CString,
    file: std::path::PathBuf,
    argv: Vec<std::ffi::CString>,
    env: Vec<std::ffi::CString>,
    cwd: std::ffi::CString,
    /// Removed at the end of the command.
    _script: Option<TemporaryFile>,
}

impl Prepared {
    fn new(host: &Host, command: &Command, run: &Run) -> Result<Self, RunError> {
        let fault = RunError::CouldNotStart;
        let environment =
            Environment::new(&host.base_environment, &run.env, run.tty, &host.worker, command.id);
        let env = environment.strings().map_err(|name| {
            fault(format!(
                "`{}` cannot be an environment variable, or its value holds a zero byte",
                name.escape_debug()
            ))
        })?;
        let cwd = program::working_directory(&host.work_dir, &run.cwd).map_err(fault)?;
        let (mut words, script) = match &run.program {
            Program::Argv(words) => (words.clone(), None),
            Program::Script { interpreter, text } => {
                let script = host.private.script(&format!("script-{}", command.id.0), text);
                (
                    interpreter.clone(),
                    Some(script.map_err(machine("write the script to the agent's directory"))?),
                )
            }
        };
        let name = words.first().cloned().unwrap_or_default();
        let file = program::find(&name, environment.path(), &cwd, script.is_some()).map_err(fault)?;
        if let Some(script) = &script {
            words.push(script.path().to_string_lossy().into_owned());
        }
        let argv = words.into_iter().map(|word| c_path(word.into())).collect::<Result<_, _>>();
        Ok(Self {
            program: c_path(file.clone()).map_err(fault)?,
            file,
            argv: argv.map_err(|_| fault("an argument holds a zero byte".to_owned()))?,
            env,
            cwd: c_path(cwd).map_err(fault)?,
            _script: script,
        })
    }

    fn spawn(&self, ends: &Ends) -> io::Result<i32> {
        use std::os::fd::AsFd;
        let stdio = match ends {
            Ends::Pipes { null, out, err } => {
                Stdio::Pipes { null: null.as_fd(), out: out.as_fd(), err: err.as_fd() }
            }
            Ends::Terminal(name) => Stdio::Terminal(name),
        };
        spawn(&Spawn { program: &self.program, argv: &self.argv, env: &self.env, cwd: &self.cwd, stdio })
    }

    /// Too many processes or too little memory is the machine's fault; the rest is said to the user.
    fn refuse(&self, error: &io::Error) -> RunError {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
                machine("make a process")(io::Error::from(error.kind()))
            }
            _ => RunError::CouldNotStart(program::explain(&self.file, error)),
        }
    }
}

/// The process's ends of its pipes, closed by the agent once the process has them; or the name of its terminal.
enum Ends {
    Pipes { null: OwnedFd, out: OwnedFd, err: OwnedFd },
    Terminal(std::ffi::CString),
}

impl Ends {
    fn open(tty: bool) -> Result<(Self, Vec<(OwnedFd, Channel)>), RunError> {
        if tty {
            let (ours, name) = pty::open().map_err(machine("open a pseudo terminal"))?;
            return Ok((Self::Terminal(name), vec![(ours, Channel::Pty)]));
        }
        let pipes = || -> io::Result<_> {
            let null = match File::open("/dev/null") {
                Ok(null) => null.into(),
                // An image without devices: the reading end of a pipe that nobody writes is as empty.
                Err(_) => pipe()?.0,
            };
            let ((our_out, out), (our_err, err)) = (pipe()?, pipe()?);
            Ok((Self::Pipes { null, out, err }, vec![(our_out, Channel::Out), (our_err, Channel::Err)]))
        };
        pipes().map_err(machine("open the pipes for its output"))
    }
}

/// The rungs still to come, and why it was begun.
struct Ladder {
    why: OutcomeKind,
    rungs: std::vec::IntoIter<(Signal, Duration)>,
    next: Instant,
}

struct Supervisor<'a> {
    control: &'a Control,
    tree: Tree<'a>,
    output: Output<'a>,
    files: Files,
    run: &'a Run,
    total: Option<Instant>,
    silent: Option<Instant>,
    ladder: Option<Ladder>,
    blocked: bool,
    disk: Watch<'a>,
}

impl Supervisor<'_> {
    fn supervise(mut self) -> Ended {
        let exit = self.until_exit();
        let leftovers = self.sweep();
        self.read_to_the_end();
        self.read_files_to_the_end();
        let files = self.files.finish(&mut self.output);
        let kind = match (self.ladder, exit.status) {
            (Some(ladder), _) => ladder.why,
            (None, ExitStatus::Code(code)) => OutcomeKind::Exited { code },
            (None, ExitStatus::Signal(signal)) => OutcomeKind::Signalled { signal },
        };
        Ended { kind, exit, leftovers, no_room: self.disk.end(), files }
    }

    fn until_exit(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.control.exit() {
                return exit;
            }
            let now = Instant::now();
            self.disk.look(now);
            match &mut self.ladder {
                None => self.ladder = self.reason_to_end(now).map(|why| Ladder::new(why, self.run.kill, now)),
                Some(ladder) if ladder.next <= now => {
                    let (signal, pause) = ladder.rungs.next().unwrap_or((Signal::KILL, AGAIN));
                    ladder.next = now + pause;
                    self.tree.signal(signal);
                }
                Some(_) => {}
            }
            let deadline = match &self.ladder {
                Some(ladder) => Some(ladder.next),
                None => self.total.into_iter().chain(self.silent).min(),
            };
            self.wait_and_read(deadline);
        }
    }

    fn reason_to_end(&self, now: Instant) -> Option<OutcomeKind> {
        if let Some(reason) = self.control.stop_reason() {
            return Some(OutcomeKind::Stopped { reason });
        }
        let struck = |at: Option<Instant>| !self.blocked && at.is_some_and(|at| at <= now);
        if struck(self.total) {
            return Some(OutcomeKind::TimedOut { after_s: self.run.timeout_s.unwrap_or(0.0) });
        }
        struck(self.silent).then(|| OutcomeKind::Silent { after_s: self.run.silence_s.unwrap_or(0.0) })
    }

    /// Sleep until something happens or the deadline; read what there is. Time in which the agent would not read, for want of room,
    /// does not count against the command. Says whether bytes came out of its pipes.
    fn wait_and_read(&mut self, deadline: Option<Instant>) -> bool {
        let began = Instant::now();
        let room = self.output.has_room(self.control);
        self.blocked = !room;
        let mut fds = vec![PollFd::from_borrowed_fd(self.control.wake_fd(), PollFlags::IN)];
        let mut sources = Vec::with_capacity(2);
        if room {
            for (number, fd) in self.output.open_sources() {
                sources.push(number);
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        // A timeout in the past still looks.
        let timeout = deadline.filter(|_| room || self.ladder.is_some() || self.control.exit().is_some());
        let timeout = timeout.into_iter().chain(self.files.next().filter(|_| room)).min();
        let timeout = timeout.and_then(|at| Timespec::try_from(at.saturating_duration_since(began)).ok());
        let _ = poll(&mut fds, timeout.as_ref());
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            self.control.calm();
        }
        let mut bytes = false;
        for (number, _) in sources.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            bytes |= self.output.read(*number) == Progress::Bytes;
        }
        let now = Instant::now();
        if !room {
            for deadline in [&mut self.total, &mut self.silent].into_iter().flatten() {
                *deadline += now - began;
            }
        }
        let due = room && self.files.next().is_some_and(|at| at <= now);
        let in_files = due && self.files.look(&mut self.output, self.control);
        if let (true, Some(limit)) = (bytes || in_files, self.run.silence_s) {
            self.silent = Some(now + duration(limit));
        }
        bytes
    }

    /// The process is over, but not all that it started. How many had to be killed.
    fn sweep(&mut self) -> u32 {
        let began = Instant::now();
        let (settle, terminate) = match &self.ladder {
            None => (SETTLE, TERMINATE),
            Some(ladder) if ladder.rungs.len() > 0 => (Duration::ZERO, TERMINATE),
            Some(_) => (Duration::ZERO, Duration::ZERO),
        };
        let terminate_at = began + settle;
        let kill_at = terminate_at + terminate;
        let give_up_at = kill_at + GIVE_UP;
        let mut told: Vec<Process> = Vec::new();
        let mut empty_looks = 0;
        while !self.tree.surely_empty() {
            let members = self.tree.members();
            let now = Instant::now();
            empty_looks = if members.is_empty() { empty_looks + 1 } else { 0 };
            // Where no other command runs, the kernel's word alone counts: a child is there, however often a look has missed it.
            let looked_enough = empty_looks >= EMPTY_LOOKS && !self.tree.is_alone();
            if looked_enough || now >= give_up_at {
                break;
            }
            if empty_looks > 0 {
                continue;
            }
            if now >= kill_at {
                told.extend(self.tree.signal(Signal::KILL));
            } else if now >= terminate_at && told.is_empty() {
                told.extend(self.tree.signal(Signal::TERM));
            }
            self.wait_and_read(Some(now + LOOK));
        }
        told.sort_unstable_by_key(|process| process.pid);
        told.dedup_by_key(|process| process.pid);
        told.len() as u32
    }

    /// All that was written while it lived. The pipes end by themselves, unless somebody out of reach holds them.
    fn read_to_the_end(&mut self) {
        let mut quiet_since = Instant::now();
        while !self.output.all_closed() {
            if self.wait_and_read(Some(quiet_since + STRANGER)) || self.blocked {
                quiet_since = Instant::now();
            } else if quiet_since.elapsed() >= STRANGER {
                break;
            }
        }
        self.output.finish();
    }

    /// All that was written to the files while it lived, as there is room for it.
    fn read_files_to_the_end(&mut self) {
        let all = |files: &Files| files.next().is_none_or(|at| at > Instant::now());
        loop {
            self.files.look(&mut self.output, self.control);
            if all(&self.files) {
                return;
            }
            if !self.output.has_room(self.control) {
                self.wait_and_read(Some(Instant::now() + LOOK));
            }
        }
    }
}

impl Ladder {
    fn new(why: OutcomeKind, kill: Kill, now: Instant) -> Self {
        let rungs = [(Signal::INT, kill.interrupt_s), (Signal::TERM, kill.terminate_s)];
        let rungs: Vec<_> = rungs
            .into_iter()
            .map(|(signal, s)| (signal, duration(s)))
            .filter(|(_, pause)| !pause.is_zero())
            .collect();
        Self { why, rungs: rungs.into_iter(), next: now }
    }
}
