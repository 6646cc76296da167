//! Starts an agent: in a session of its own, under the worker's user, with a clean environment, and with its process id on record before
//! it runs its first instruction.

use crate::places::WorkerPlace;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit, setsid, umask};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Open files that a worker may have: enough for builds, and few enough for programs that still use `select`-sized tables lazily.
const OPEN_FILES: u64 = 65_536;
/// Processes and threads of a worker that has a user of its own, so that a fork bomb hurts nobody else.
const PROCESSES: u64 = 8_192;

pub(crate) struct Order<'a> {
    pub(crate) agent: &'a Path,
    pub(crate) place: &'a WorkerPlace,
    pub(crate) uid: Option<u32>,
    /// All of it: nothing else is passed on.
    pub(crate) environment: &'a [(String, String)],
}

/// Returns once the agent's program has begun, with its process id.
pub(crate) fn spawn(order: &Order<'_>) -> io::Result<i32> {
    let console = private_file(&order.place.console())?;
    let pid_file = private_file(&order.place.pid())?;
    let mut command = Command::new(order.agent);
    command.arg("run").arg("--join").arg(order.place.join_document());
    command.arg("--work").arg(order.place.own("work")).arg("--state").arg(order.place.own("state"));
    command.env_clear().envs(order.environment.iter().map(|(k, v)| (k, v)));
    command.current_dir(order.place.own("work"));
    command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
    if let Some(uid) = order.uid {
        // Without an explicit list of groups this drops all of the master's too.
        command.uid(uid).gid(uid);
    }
    let limit_processes = order.uid.is_some();
    before_exec(&mut command, move || {
        setsid()?;
        umask(Mode::from_raw_mode(0o022));
        lower(Resource::Core, 0)?;
        lower(Resource::Nofile, OPEN_FILES)?;
        if limit_processes {
            lower(Resource::Nproc, PROCESSES)?;
        }
        let pid = getpid().as_raw_nonzero().get().to_ne_bytes();
        rustix::io::write(pid_file.as_fd(), &pid)?;
        Ok(())
    });
    let child = command.spawn()?;
    // Never waited for here: it outlives the master, and its exit status is taken when its end is noticed.
    i32::try_from(child.id()).map_err(io::Error::other)
}

/// Lowers a soft limit; what the host allows less of stays as it is.
fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let now = getrlimit(resource);
    if now.current.is_some_and(|current| current <= most) {
        return Ok(());
    }
    let maximum = now.maximum.map_or(most, |hard| hard.min(most));
    Ok(setrlimit(resource, Rlimit { current: Some(maximum), maximum: now.maximum })?)
}

#[allow(unsafe_code)]
fn before_exec(command: &mut Command, act: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: `act` is the closure in `spawn`. Between fork and exec it makes system calls only: no allocation, no lock, no destructor.
    unsafe { command.pre_exec(act) };
}

fn private_file(path: &Path) -> io::Result<File> {
    File::options().create(true).write(true).truncate(true).mode(0o600).open(path)
}
