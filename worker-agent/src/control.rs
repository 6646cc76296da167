//! What reaches a running command from outside its thread: that its process ended, that it is to stop, that there is room again.
//!
//! A thread of a command sleeps in `poll`; everything that may wake it goes through one eventfd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;

/// How a process ended, as `wait4` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub status: ExitStatus,
    pub max_rss_bytes: u64,
    pub cpu_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
}

#[derive(Debug)]
pub struct Control {
    wake: OwnedFd,
    exit: Mutex<Option<Exit>>,
    stop: Mutex<Option<String>>,
    stopped: AtomicBool,
    /// The same news for code that waits in a runtime: transfers.
    stop_notify: Notify,
    /// The command's thread waits for room in the spool.
    pub blocked: AtomicBool,
}

impl Control {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            exit: Mutex::default(),
            stop: Mutex::default(),
            stopped: AtomicBool::new(false),
            stop_notify: Notify::new(),
            blocked: AtomicBool::new(false),
        })
    }

    /// To be polled for reading; then [`Control::calm`].
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Take back the wake-up, before looking at what it was for.
    pub fn calm(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    pub fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// The process is over (said by the reaper).
    pub fn exited(&self, exit: Exit) {
        *lock(&self.exit) = Some(exit);
        self.wake();
    }

    pub fn exit(&self) -> Option<Exit> {
        *lock(&self.exit)
    }

    /// The first reason stays.
    pub fn stop(&self, reason: String) {
        lock(&self.stop).get_or_insert(reason);
        self.stopped.store(true, Ordering::Release);
        self.stop_notify.notify_one();
        self.wake();
    }

    pub fn stop_reason(&self) -> Option<String> {
        if self.stopped.load(Ordering::Acquire) { lock(&self.stop).clone() } else { None }
    }

    /// Returns once the command is to stop. For one waiter at a time.
    pub async fn until_stopped(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            self.stop_notify.notified().await;
        }
    }
}

/// A lock whose data stays valid whatever a holder did: no holder leaves it half written.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
