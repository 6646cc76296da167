//! The one place with `unsafe`: making a process and collecting it.
//!
//! `posix_spawn` rather than fork and exec: it shares the agent's memory until the exec, so it costs the same however much is
//! spooled, and nothing of ours runs between the two. The standard library can't be used, since it has neither a new session nor a
//! controlling terminal without code that runs after the fork.
#![expect(
    unsafe_code,
    reason = "posix_spawn and wait4 with resource usage have no safe wrapper in libc or rustix"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::control::{Exit, ExitStatus};

/// What the new process is given. All file descriptors of the agent are close-on-exec, so it inherits these alone.
#[derive(Debug)]
pub struct Spawn<'a> {
    pub program: &'a CStr,
    pub argv: &'a [CString],
    pub env: &'a [CString],
    pub cwd: &'a CStr,
    pub stdio: Stdio<'a>,
}

#[derive(Debug)]
pub enum Stdio<'a> {
    /// Nothing to read; two pipes to write.
    Pipes { null: BorrowedFd<'a>, out: BorrowedFd<'a>, err: BorrowedFd<'a> },
    /// The name of a terminal. The session leader that opens it first gets it as controlling terminal.
    Terminal(&'a CStr),
}

/// In a session of its own, with default signals. Returns once the program runs, or with why it can't.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<i32> {
    let pointers = |list: &[CString]| -> Vec<*mut libc::c_char> {
        list.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
    };
    let (argv, env) = (pointers(spawn.argv), pointers(spawn.env));
    let mut actions = FileActions::new()?;
    actions.chdir(spawn.cwd)?;
    match &spawn.stdio {
        Stdio::Pipes { null, out, err } => {
            for (fd, to) in [(null, 0), (out, 1), (err, 2)] {
                actions.dup2(fd.as_raw_fd(), to)?;
            }
        }
        Stdio::Terminal(name) => {
            actions.open(0, name)?;
            actions.dup2(0, 1)?;
            actions.dup2(0, 2)?;
        }
    }
    let attributes = Attributes::new()?;
    let mut pid = 0;
    // SAFETY: every pointer is to a live, initialised object: the strings and arrays (ended by a null) are borrowed for the whole
    // call, actions and attributes were initialised by their constructors.
    check(unsafe {
        libc::posix_spawn(
            &mut pid,
            spawn.program.as_ptr(),
            &actions.0,
            &attributes.0,
            argv.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Ok(pid)
}

/// Wait for any child to end and collect it. `ECHILD` if there is none.
pub fn wait_any() -> io::Result<(i32, Exit)> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live memory of the right type; all zeroes is a valid `rusage`.
    let (pid, usage) = unsafe { (libc::wait4(-1, &mut status, 0, usage.as_mut_ptr()), usage.assume_init()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let micros = |t: libc::timeval| t.tv_sec.unsigned_abs() * 1_000_000 + t.tv_usec.unsigned_abs();
    let status = if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    };
    let exit = Exit {
        status,
        max_rss_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
    };
    Ok((pid, exit))
}

/// The functions of this family return the error instead of setting `errno`.
fn check(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: initialises what it is given; read only after it said that it did.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(Self(actions.assume_init()))
        }
    }

    fn chdir(&mut self, dir: &CStr) -> io::Result<()> {
        // SAFETY: initialised by `new`; the string is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.0, dir.as_ptr()) })
    }

    fn dup2(&mut self, from: i32, to: i32) -> io::Result<()> {
        // SAFETY: initialised by `new`.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, from, to) })
    }

    fn open(&mut self, to: i32, name: &CStr) -> io::Result<()> {
        // SAFETY: initialised by `new`; the string is copied.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(&mut self.0, to, name.as_ptr(), libc::O_RDWR, 0)
        })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A new session; no signal blocked; every signal as the system has it (Rust ignores SIGPIPE, which a child would inherit).
    fn new() -> io::Result<Self> {
        let flags = libc::POSIX_SPAWN_SETSID
            | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short
            | libc::POSIX_SPAWN_SETSIGDEF as libc::c_short;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: `init` initialises what it is given, and `Self` exists only after that; the signal sets are initialised by their
        // own functions before they are read, and copied.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut this = Self(attributes.assume_init());
            let (mut none, mut all) = (MaybeUninit::uninit(), MaybeUninit::uninit());
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(&mut this.0, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(&mut this.0, all.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(&mut this.0, flags))?;
            Ok(this)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}
