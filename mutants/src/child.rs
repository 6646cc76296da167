//! Tests as processes: with a deadline, ended with all that they have started, and as many at once as there are cores.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

pub use crate::interrupt::Interrupt;

/// A change may well ask for all the memory that there is. What a test asks for beyond this it does not get.
const MEMORY: u64 = 4 << 30;

/// How long it is until a look at a child: soon at first, since most tests take a few milliseconds.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(30));

/// From here on, of this process and of those that it starts.
pub fn limit_memory() -> Result<()> {
    setrlimit(Resource::RLIMIT_DATA, MEMORY, MEMORY).context("the memory of tests cannot be limited")
}

/// A process that is killed together with its group, at the latest when it is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            // Those that a test has left too. ESRCH where there are none.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// How it ended, or nothing where it was not done in time.
pub fn run(command: &mut Command, deadline: Duration, interrupt: &Interrupt) -> Result<Option<ExitStatus>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).process_group(0).spawn();
    let mut group = Group(child.with_context(|| format!("{name} could not be started"))?);
    let until = Instant::now() + deadline;
    let mut pause = LOOK.0;
    loop {
        if let Some(status) = group.0.try_wait().with_context(|| format!("{name} cannot be waited for"))? {
            return Ok(Some(status));
        }
        interrupt.check()?;
        if Instant::now() > until {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK.1);
    }
}

/// Does it for each, so many at once; the results in the order of the items. The first error ends all.
pub fn each<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || -> Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(()) };
            let result = work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        let ends = workers.into_iter().map(|worker| match worker.join() {
            Ok(end) => end,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // All are waited for before the first error is told.
        ends.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use anyhow::bail;

    use super::*;

    #[test]
    fn what_is_late_is_ended_with_what_it_started() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        // Both hold the pipe open as long as they live.
        command.args(["-c", "sleep 600 & exec sleep 600"]).stdout(writer);
        let ended = run(&mut command, Duration::from_millis(300), &Interrupt::never()).unwrap();
        assert!(ended.is_none());
        drop(command);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u32> = (0..50).collect();
        assert_eq!(each(4, &items, |item| Ok(item * 2)).unwrap(), (0..100).step_by(2).collect::<Vec<_>>());
        let failed = each(4, &items, |item| if *item == 7 { bail!("seven") } else { Ok(*item) });
        assert_eq!(failed.unwrap_err().to_string(), "seven");
    }
}
